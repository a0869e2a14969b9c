"""The tutorials' traps, met in recipes and files: what zoo says, where, and that nothing is spoilt meanwhile."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import zoo
from listeners import Notes
from zoo.errors import InputError, WorkError
from zoo.lint import check_optimizer
from zoo.model.build import build
from zoo.preflight import check
from zoo.recipe import load_recipe
from zoo.training.optimizers import make_optimizer

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes" / "tutorials"
PAGE = (ROOT / "docs" / "from-tutorial-to-recipe.md").read_text()


TRAIN = "{train: {epochs: 1, lr: 0.01}}"
ONE_DETACHED = f"steps=[{{replace_module: {{path: '0', module: tutorial/MyLinearDetached}}}}, {TRAIN}]"
DEAD = "{Linear: {in_features: 1, out_features: 1}}"
ONE_DEAD = f"steps=[{{add_module: {{name: x, module: {DEAD}, wire: false}}}}, {TRAIN}]"


def warnings_of(name: str, *overrides: str) -> list[str]:
    return [str(warning) for warning in check(load_recipe(RECIPES / f"{name}.yaml", overrides)).warnings]


def test_a_layer_that_nothing_calls_is_dead_weight(workshop):
    (said,) = [w for w in warnings_of("vgg16_add_linear", "add_module.wire=false") if "dead weight" in w]
    assert "vgg16_add_linear.yaml:13:" in said
    assert "add_linear is never called by the model's forward" in said
    assert not any("dead weight" in w for w in warnings_of("vgg16_add_linear"))


def test_a_dead_layer_does_not_train_against_data_of_ten_classes(workshop):
    data = "data={source: sklearn/digits, image_size: 32}"
    with pytest.raises(InputError, match="the model gives 1000 outputs, the data has 10 classes"):
        workshop.finetune("vgg16_add_linear", "model.weights=null", "add_module.wire=false", data)
    assert not list(workshop.folder.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("architecture", "features", "says"),
    [
        ("fixed_hidden_mlp", 20, "rand_weight: random numbers outside the state dict"),
        ("chimera", 20, "2.rand_weight: random numbers outside the state dict"),
    ],
)
def test_check_tells_the_traps_of_hand_made_layers(workshop, architecture, features, says):
    data = f"data={{source: tutorial/rows, features: {features}}}"
    assert any(says in w for w in warnings_of("mlp", f"model.architecture=tutorial/{architecture}", data))


def test_layers_that_never_get_a_gradient_do_not_train(workshop):
    """Two of them in a row, as in the tutorial, leave nothing to learn: a mistake. One among others is a warning."""
    own = "model.architecture=tutorial/my_linear_detached", "data={source: tutorial/rows, features: 64}"
    says = "0.weight, 0.bias, 1.weight, 1.bias are trainable but never get a gradient, and nothing else trains"
    (mistake,) = check(load_recipe(RECIPES / "mlp.yaml", own)).errors
    assert says in str(mistake)
    assert "mlp.yaml:13:" in str(mistake)
    with pytest.raises(InputError, match=says):
        workshop.finetune("mlp", *own)
    assert not (workshop.folder / "runs").exists()
    (said,) = warnings_of("custom_layers", ONE_DETACHED)
    assert "0.weight, 0.bias are trainable but never get a gradient" in said
    assert "use the parameter itself in forward, or freeze it" in said


def test_a_dead_layer_alone_cannot_be_trained(workshop):
    """With the rest frozen nothing learns, even where the data has as many classes as the model."""
    add = "{add_module: {name: add_linear, module: {Linear: {out_features: 10}}, wire: false}}"
    freeze = "{freeze: {policy: pattern, patterns: '^(features|classifier)'}}"
    steps = f"steps=[{add}, {freeze}, {TRAIN}]"
    (mistake,) = check(load_recipe(RECIPES / "vgg16_add_linear.yaml", [steps])).errors
    assert "add_linear.weight, add_linear.bias are trainable but never get a gradient" in str(mistake)


class Scribe(Notes):
    """What a run says, in order, and where an epoch ends."""

    def epoch_ended(self, trainer, record):
        self.notes.append("an epoch")


@pytest.mark.parametrize(
    ("name", "overrides", "says"),
    [
        ("fashion_mnist", ["model.architecture=tutorial/fashion_mlp_relu", "train.epochs=1"], "a ReLU in"),
        ("custom_layers", [ONE_DETACHED], "never get a gradient"),
        ("mlp", [ONE_DEAD], "dead weight"),
    ],
)
def test_finetune_says_it_before_it_trains(workshop, fashion_files, name, overrides, says):
    scribe = Scribe()
    zoo.finetune(RECIPES / f"{name}.yaml", overrides=overrides, output="run", progress=scribe)
    told = [index for index, text in enumerate(scribe.notes) if text.startswith("warning: ") and says in text]
    assert len(told) == 1
    assert told[0] < scribe.notes.index("an epoch")


def test_the_sound_twins_raise_no_such_alarm(workshop):
    for architecture, features in (("my_linear", 64), ("fixed_hidden_mlp_buffer", 20)):
        data = f"data={{source: tutorial/rows, features: {features}}}"
        told = warnings_of("mlp", f"model.architecture=tutorial/{architecture}", data)
        assert not any("gradient" in w or "state dict" in w for w in told)


def test_check_tells_what_a_file_would_lose_where_nothing_is_trained(workshop):
    says = "2.rand_weight: random numbers outside the state dict"
    (said,) = [w for w in warnings_of("chimera", "model.arguments.kept=false") if says in w]
    assert "chimera.yaml:7:" in said
    assert "self.register_buffer(name, tensor)" in said
    assert not any(says in w for w in warnings_of("chimera"))


def test_a_model_that_would_answer_differently_is_not_passed_off_as_saved(workshop):
    data = "data={source: tutorial/rows, features: 20}"
    steps = "steps=[{init: {type: Linear, bias: zeros}}]"  # its output is a single number: no data to train it on
    workshop.finetune("mlp", "model.architecture=tutorial/fixed_hidden_mlp_buffer", data, steps)
    with pytest.raises(WorkError, match="rand_weight"):
        workshop.finetune("mlp", "model.architecture=tutorial/fixed_hidden_mlp", data, steps)


def test_a_relu_in_front_of_cross_entropy_is_told_with_its_remedy(workshop):
    own = "model.architecture=tutorial/fashion_mlp_relu"
    (said,) = [w for w in warnings_of("fashion_mnist", own) if "ReLU" in w]
    assert "fashion_mnist.yaml:12:" in said
    assert "remove_module: {path: linear_relu_stack.5}" in said
    assert not any("ReLU" in w for w in warnings_of("fashion_mnist"))


def test_a_whole_pickled_model_is_described_and_never_opened(workshop):
    torch.save(build("tutorial/mlp").model, "whole.pt")
    assert "tutorial" in zoo.inspect("whole.pt")["refused"][0]
    (mistake,) = check(load_recipe(RECIPES / "mlp.yaml", ["model.weights=./whole.pt"])).errors
    assert "contains a pickled model (zoo_tutorial.perceptrons.MLP) instead of a state dict" in mistake.message
    assert "torch.save(model.state_dict()" in mistake.suggestion
    for use in (lambda: zoo.load("whole.pt"), lambda: zoo.load_into(build("tutorial/mlp").model, "whole.pt")):
        with pytest.raises(InputError):
            use()


def test_a_whole_model_of_a_script_is_described_where_its_class_is_not(workshop):
    """As the tutorial finds out: the class is in the script that saved it, and no other process can load the file."""
    script = "import torch\nclass Own(torch.nn.Linear): pass\ntorch.save(Own(2, 3), 'own.pth')"
    subprocess.run([sys.executable, "-c", script], check=True)
    with pytest.raises(AttributeError, match="Own"):
        torch.load("own.pth", weights_only=False)  # by hand
    assert zoo.inspect("own.pth")["kind"] == "pickled model (__main__.Own)"
    with pytest.raises(InputError, match="Opening it would run code that the file chooses"):
        zoo.convert("own.pth", "own.safetensors")


def test_loading_nothing_is_an_error(workshop):
    torch.save({f"module.{name}": t for name, t in build("tutorial/net_b_renamed").model.state_dict().items()}, "a.pt")
    model = build("tutorial/net_a").model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert len(model.load_state_dict(torch.load("a.pt"), strict=False).missing_keys) == 10  # by hand: not a word
    with pytest.raises(WorkError, match="not one tensor would be moved"):
        zoo.load_into(model, "a.pt")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    said = " ".join(p.message for p in check(load_recipe(RECIPES / "mlp.yaml", ["model.weights=./a.pt"])).errors)
    assert "not one tensor would be moved" in said
    with pytest.raises((InputError, WorkError), match="not one tensor would be moved"):
        workshop.finetune("mlp", "model.weights=./a.pt")
    assert not (workshop.folder / "runs").exists()


def test_a_recipes_optimizer_holds_what_trains_and_nothing_else(workshop):
    recipe = load_recipe(RECIPES / "resnet18_classifier.yaml")
    model = check(recipe).assembly.model
    assert check_optimizer(model, make_optimizer(model, recipe.steps[-1])) == []
    (trap,) = check_optimizer(model, torch.optim.SGD(model.parameters(), lr=1e-2))
    assert "the optimizer contains frozen parameters" in trap.message
    everything = ["steps=[{swap_head: {num_classes: 10}}, {freeze: all}, {train: {epochs: 1, lr: 0.01}}]"]
    (mistake,) = check(load_recipe(RECIPES / "resnet18_classifier.yaml", everything)).errors
    assert "there is nothing to train" in mistake.message
    optimizer = torch.optim.SGD([{"params": [p]} for p in model.fc.parameters()], lr=1e-2)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    del optimizer.param_groups[1]
    said = [trap.message for trap in check_optimizer(model, optimizer, scheduler)]
    assert "StepLR was built for 2 parameter groups and the optimizer has 1" in said


def test_the_pages_table_quotes_what_is_said():
    """Each message of the table is found in the code that says it, names and ellipses aside."""
    rows = re.findall(r"^\| [a-g]\. .+? \| (`.+) \|$", PAGE[PAGE.index("## The traps") :], re.MULTILINE)
    assert len(rows) == 7
    code = "".join(path.read_text() for path in (ROOT / "zoo").rglob("*.py"))
    for fragment in (
        "is never called by the model's forward: it is dead weight",
        "trainable but never",
        "random numbers outside the state dict, so a model loaded from its file gives other outputs",
        "pickled model",
        "is the last operation of the network",
        "not one tensor would be moved",
        "the optimizer contains frozen parameters",
        "parameter groups and the optimizer has",
    ):
        assert fragment in code
        assert any(fragment in row for row in rows)
