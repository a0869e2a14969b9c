"""The tutorials' traps, met in recipes and files: what zoo says, where, and that nothing is spoilt meanwhile."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import zoo
from zoo.errors import InputError, WorkError
from zoo.model.build import build
from zoo.model.traps import check_optimizer
from zoo.recipe import load_recipe
from zoo.training.check import check
from zoo.training.optimizers import make_optimizer

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes" / "tutorials"
PAGE = (ROOT / "docs" / "from-tutorial-to-recipe.md").read_text()


def warnings_of(name: str, *overrides: str) -> list[str]:
    return [str(warning) for warning in check(load_recipe(RECIPES / f"{name}.yaml", overrides)).warnings]


def test_a_layer_that_nothing_calls_is_dead_weight(workshop):
    (said,) = [w for w in warnings_of("vgg16_add_linear", "add_module.wire=false") if "dead weight" in w]
    assert "vgg16_add_linear.yaml:12:" in said
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
        ("my_linear_detached", 64, "0.weight, 0.bias, 1.weight, 1.bias are trainable but never get a gradient"),
        ("fixed_hidden_mlp", 20, "rand_weight: random numbers outside the state dict"),
        ("chimera", 20, "2.rand_weight: random numbers outside the state dict"),
    ],
)
def test_check_tells_the_traps_of_hand_made_layers(workshop, architecture, features, says):
    data = f"data={{source: tutorial/rows, features: {features}}}"
    assert any(says in w for w in warnings_of("mlp", f"model.architecture=tutorial/{architecture}", data))


def test_the_sound_twins_raise_no_such_alarm(workshop):
    for architecture, features in (("my_linear", 64), ("fixed_hidden_mlp_buffer", 20)):
        data = f"data={{source: tutorial/rows, features: {features}}}"
        told = warnings_of("mlp", f"model.architecture=tutorial/{architecture}", data)
        assert not any("gradient" in w or "state dict" in w for w in told)


def test_a_model_that_would_answer_differently_is_not_passed_off_as_saved(workshop):
    data = "data={source: tutorial/rows, features: 20}"
    steps = "steps=[{init: {type: Linear, bias: zeros}}]"  # its output is a single number: no data to train it on
    workshop.finetune("mlp", "model.architecture=tutorial/fixed_hidden_mlp_buffer", data, steps)
    with pytest.raises(WorkError, match="rand_weight"):
        workshop.finetune("mlp", "model.architecture=tutorial/fixed_hidden_mlp", data, steps)


def test_a_relu_in_front_of_cross_entropy_is_told_with_its_remedy(workshop):
    own = "model.architecture=tutorial/fashion_mlp_relu"
    (said,) = [w for w in warnings_of("fashion_mnist", own) if "ReLU" in w]
    assert "fashion_mnist.yaml:11:" in said
    assert "remove_module: {path: linear_relu_stack.5}" in said
    assert not any("ReLU" in w for w in warnings_of("fashion_mnist"))


def test_a_whole_pickled_model_is_described_and_never_opened(workshop):
    torch.save(build("tutorial/mlp").model, "whole.pt")
    assert "tutorial" in zoo.inspect("whole.pt")["refused"][0]
    for use in (lambda: zoo.load("whole.pt"), lambda: zoo.load_into(build("tutorial/mlp").model, "whole.pt")):
        with pytest.raises(InputError):
            use()


def test_loading_nothing_is_an_error(workshop):
    torch.save({f"module.{name}": t for name, t in build("tutorial/net_b_renamed").model.state_dict().items()}, "a.pt")
    model = build("tutorial/net_a").model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert len(model.load_state_dict(torch.load("a.pt"), strict=False).missing_keys) == 10  # by hand: not a word
    with pytest.raises(WorkError, match="not one tensor would be moved"):
        zoo.load_into(model, "a.pt")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_recipes_optimizer_holds_what_trains_and_nothing_else(workshop):
    recipe = load_recipe(RECIPES / "resnet18_classifier.yaml")
    model = check(recipe).assembly.model
    assert check_optimizer(model, make_optimizer(model, recipe.steps[-1].options)) == []
    (trap,) = check_optimizer(model, torch.optim.SGD(model.parameters(), lr=1e-2))
    assert "the optimizer holds frozen parameters" in trap.message


def test_the_pages_table_quotes_what_is_said():
    """Each message of the table is found in the code that says it, names and ellipses aside."""
    rows = re.findall(r"^\| .+? \| `(.+?)`.*\|$", PAGE[PAGE.index("## The traps") :], re.MULTILINE)
    assert len(rows) == 6
    code = "".join(path.read_text() for path in (ROOT / "zoo").rglob("*.py"))
    for fragment in (
        "is never called by the model's forward: it is dead weight",
        "trainable but never",
        "random numbers outside the state dict, so a model loaded from its file answers differently",
        "whole pickled model",
        "is the last step of the network",
        "not one tensor would be moved",
    ):
        assert fragment in code
        assert any(fragment in row for row in rows)
