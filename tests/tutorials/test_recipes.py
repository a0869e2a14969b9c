"""Every recipe in recipes/tutorials/ runs, and does what its comment says."""

from __future__ import annotations

import hashlib
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import yaml
from safetensors.torch import save_file
from torchvision.datasets import CIFAR10

import zoo
from zoo.cli.check import command
from zoo.errors import InputError, WorkError
from zoo.preflight import check
from zoo.recipe import load_recipe
from zoo.training.callbacks import Listener

RECIPES = Path(__file__).parents[2] / "recipes" / "tutorials"
NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))
SMALL = "data={source: sklearn/digits, image_size: 32, limit: 40}"


def trained(report: dict) -> list[dict]:
    """The epochs of the report's last train step."""
    return [stage for stage in report["stages"] if stage["action"] == "train"][-1]["epochs"]


def losses(report: dict) -> list[float]:
    return [epoch["loss"] for epoch in trained(report)]


@pytest.mark.parametrize("name", NAMES)
def test_each_says_in_its_first_line_what_runs_it(name):
    text = (RECIPES / f"{name}.yaml").read_text()
    first = text.splitlines()[0]
    assert first.startswith((f"# zoo finetune recipes/tutorials/{name}.yaml", f"# zoo check recipes/tutorials/{name}"))
    assert yaml.safe_load(text)["name"] == name


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("warm_start")])
def test_each_passes_the_dry_run(name, workshop):
    check(load_recipe(RECIPES / f"{name}.yaml")).require()


def test_only_the_new_classifier_of_resnet18_trains(workshop):
    report = workshop.finetune("resnet18_classifier", "model.weights=null", SMALL)
    stage = report["stages"][-1]
    assert stage["trainable"] == 512 * 10 + 10
    assert stage["freeze_proof"]["moved"] == []
    assert stage["freeze_proof"]["tensors"] == 60 + 60


def test_fashion_mnist_reports_accuracy_and_average_loss_of_each_epoch(workshop, fashion_files):
    report = workshop.finetune("fashion_mnist", "train.epochs=5", "train.lr=0.2")
    epochs = trained(report)
    assert len(epochs) == 5
    assert all({"loss", "accuracy"} <= epoch["validation"].keys() for epoch in epochs)
    assert losses(report)[-1] < losses(report)[0] / 2
    assert report["metrics"]["accuracy"] > 0.6
    assert zoo.load(report["checkpoint"]).zoo.classes[0] == "T-shirt/top"


@pytest.mark.slow
def test_the_nine_layers_learn_colour_images(workshop, colour_folder):
    data = f"data={{source: image_folder, path: {colour_folder}, batch_size: 64}}"
    report = workshop.finetune("cifar10_quick", data, "train.epochs=6", "train.lr=0.1")
    assert report["metrics"]["accuracy"] > 0.5


def test_cifar10_is_read_from_its_python_batches(workshop, mnist, monkeypatch):
    """torchvision compares each file's md5 with the published one, so these files' own stand in its table here."""
    folder = workshop.folder / "data" / CIFAR10.base_folder
    folder.mkdir(parents=True)
    write_cifar(folder, *mnist)
    with pytest.raises(InputError, match="CIFAR10 is not usable under root 'data': Dataset not found or corrupted"):
        check(load_recipe(RECIPES / "cifar10_quick.yaml", ["data.download=false"])).require()
    for table in ("train_list", "test_list"):
        own = [(name, md5(folder / name)) for name, _ in getattr(CIFAR10, table)]
        monkeypatch.setattr(CIFAR10, table, own)
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": md5(folder / CIFAR10.meta["filename"])})
    report = workshop.finetune("cifar10_quick", "train.epochs=1", "data.limit=100")
    assert report["data"]["train"] == 100
    assert zoo.load(report["checkpoint"]).zoo.classes[:2] == ("plane", "car")


def write_cifar(folder, images, labels):
    colour = np.pad(images, ((0, 0), (2, 2), (2, 2)))[:, None].repeat(3, axis=1).reshape(len(images), -1)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for index, name in enumerate(names):
        rows = np.arange(index, len(labels), len(names))
        content = {"data": colour[rows], "labels": labels[rows].tolist()}
        (folder / name).write_bytes(pickle.dumps(content))
    classes = ["plane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": classes}))


def md5(path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def trained_net_a(tmp_path_factory) -> dict:
    """The report of warm_start_source, which it leaves beside the checkpoint."""
    recipe, output = (RECIPES / "warm_start_source").with_suffix(".yaml"), tmp_path_factory.mktemp("net_a") / "run"
    return zoo.finetune(recipe, overrides=["train.epochs=2"], output=output, progress=Listener()).report


@pytest.fixture
def net_a(workshop, trained_net_a) -> dict:
    """What warm_start_source leaves in runs/net_a."""
    shutil.copytree(Path(trained_net_a["checkpoint"]).parent, "runs/net_a")
    return trained_net_a


@pytest.mark.slow
def test_every_warm_start_loads_what_fits_and_tells_the_rest(workshop, net_a):
    assert net_a["metrics"]["accuracy"] > 0.5
    told = {}
    for name in ("warm_start", "warm_start_missing", "warm_start_extra", "warm_start_renamed", "warm_start_reshaped"):
        report = workshop.finetune(name, "data.limit=400")
        loaded = report["weights"] or next(stage for stage in report["stages"] if stage["action"] == "load")
        told[name] = (loaded["coverage"], loaded["missing"])
        assert report["metrics"]["accuracy"] > 0.1
    assert told["warm_start"] == told["warm_start_extra"] == told["warm_start_renamed"] == (1.0, [])
    assert told["warm_start_missing"] == (pytest.approx(62006 / 62116), ["fc4.weight", "fc4.bias"])
    assert told["warm_start_reshaped"] == (pytest.approx(61156 / 62856), ["fc3.weight", "fc3.bias"])
    warm, cold = (workshop.finetune("warm_start", "data.limit=400", *own) for own in ((), ("model.weights=null",)))
    assert losses(warm)[0] < losses(cold)[0] / 2


@pytest.mark.parametrize(
    ("name", "override", "says"),
    [
        ("warm_start_renamed", "model.remap=[{keep: .}]", "not one tensor would be moved"),
        ("warm_start_missing", "model.min_coverage=1.0", "only 99.82% of the target's parameters"),
        ("warm_start_extra", "model.remap=[{keep: .}]", "98.63% of the file would be used"),
        ("warm_start", "model.remap=null", r"these weights are for tutorial/net_a.*remap: \[\{keep: \.\}\]"),
        ("warm_start_reshaped", "load.strict_shapes=true", r"fc3.weight is \[10, 84\] in the file and \[20, 84\]"),
    ],
)
def test_what_does_not_fit_stops_before_training(workshop, net_a, name, override, says):
    with pytest.raises((InputError, WorkError), match=says):
        workshop.finetune(name, override)
    assert not (workshop.folder / "runs" / name / "model.safetensors").exists()


LEARNERS = [
    "mlp",
    "sequential_mlp",
    "nested_mlp",
    "nested_blocks",
    "init_normal",
    "custom_layers",
    "my_linear",
    "centered",
]


@pytest.mark.parametrize("name", LEARNERS)
def test_small_networks_learn_rows(workshop, name):
    assert losses(report := workshop.finetune(name))[-1] < losses(report)[0]
    assert zoo.load(report["checkpoint"]) is not None


def test_the_chimera_answers_alike_once_it_is_loaded(workshop):
    """Saving it compares the answers of the model with those of the file; without the buffer it refuses."""
    report = workshop.finetune("chimera")
    model, again = (zoo.load(report["checkpoint"]) for _ in range(2))
    assert model.state_dict()["2.rand_weight"].shape == (20, 20)
    rows = torch.rand(2, 20)
    assert torch.equal(model(rows), again(rows))
    with pytest.raises(WorkError, match=r"2\.rand_weight"):
        workshop.finetune("chimera", "model.arguments.kept=false")


@pytest.mark.slow
def test_a_trained_vgg16_keeps_its_weights_below_the_new_layer(workshop):
    torch.manual_seed(0)
    trained = torchvision.models.vgg16(init_weights=False).state_dict()
    save_file(trained, "vgg16.safetensors")
    steps = "steps=[{add_module: {path: classifier, name: add_linear, module: {Linear: {out_features: 10}}}}]"
    report = workshop.finetune("vgg16_add_linear_inside", "model.weights=./vgg16.safetensors", SMALL, steps)
    assert report["weights"]["coverage"] == 1.0
    loaded = zoo.load(report["checkpoint"]).state_dict()
    assert set(loaded) - set(trained) == {"classifier.add_linear.weight", "classifier.add_linear.bias"}
    assert all(torch.equal(loaded[name], tensor) for name, tensor in trained.items())


@pytest.mark.parametrize("weights", ["model.weights=IMAGENET1K_V1", "model.weights=null"])
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("vgg16_add_linear", r"\n└─ add_linear  Linear\(in_features=1000, out_features=10.* trains  wired"),
        ("vgg16_add_linear_inside", r"\n   └─ add_linear  Linear\(in_features=1000, out_features=10.* trains"),
        ("vgg16_replace_last", r"\n   └─ 6  Linear\(in_features=4096, out_features=10, .* trains"),
    ],
)
def test_the_tree_of_vgg16_shows_the_change(workshop, capsys, name, line, weights):
    command(str(RECIPES / f"{name}.yaml"), [weights], tree=True)
    assert re.search(line, capsys.readouterr().out)


def test_blocks_below_a_name_with_a_space_stand_still(workshop):
    report = workshop.finetune("nested_blocks", "train.epochs=1")
    assert report["stages"][0]["parameters"] == ["0.block 1.0.bias"]
    assert report["stages"][-1]["frozen"] == 4 * 8 + 8 + 8 * 4 + 4
    model = zoo.load(report["checkpoint"])
    assert model.get_parameter("0.block 1.0.bias").shape == (8,)


def test_values_that_init_sets_are_there(workshop):
    """Without the train step the checkpoint holds what `init` wrote."""
    for name, holds in {
        "init_normal": lambda m: m[0].weight.abs().max() < 0.1 and not m[2].bias.any(),
        "init_constant": lambda m: (m[0].weight == 1).all() and (m[2].weight == 1).all() and not m[0].bias.any(),
        "init_parts": lambda m: m[0].weight[0, 0] == 42 and (m[2].weight == 42).all() and m[0].weight[0, 1:].min() > 0,
        "init_own": lambda m: ((m[0].weight == 0) | (m[0].weight.abs() >= 5)).all(),
    }.items():
        steps = load_recipe(RECIPES / f"{name}.yaml").resolved["steps"]
        only = [step for step in steps if "train" not in step]
        report = workshop.finetune(name, f"steps={only}")
        assert holds(zoo.load(report["checkpoint"])), name


@pytest.mark.parametrize(("name", "first", "second"), [("shared", "2", "4"), ("tie", "0.block 0", "0.block 3")])
def test_a_shared_layer_stays_one_through_training_saving_and_loading(workshop, name, first, second):
    report = workshop.finetune(name)
    assert losses(report)[-1] < losses(report)[0]
    model = zoo.load(report["checkpoint"])
    assert model.get_submodule(first) is model.get_submodule(second)
    stored = [tensor["name"] for tensor in zoo.inspect(report["checkpoint"])["tensors"] if "alias_of" not in tensor]
    assert any(entry.startswith(f"{first}.") for entry in stored)
    assert not any(entry.startswith(f"{second}.") for entry in stored)


def test_a_shared_layer_freezes_as_one(workshop):
    steps = "steps=[{freeze: {policy: pattern, patterns: '^4'}}, {train: {epochs: 2, lr: 0.01}}]"
    stage = workshop.finetune("shared", steps)["stages"][-1]
    assert (stage["frozen"], stage["freeze_proof"]["tensors"], stage["freeze_proof"]["moved"]) == (72, 2, [])


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["{l1: {reduction: mean}}", "{l1: {reduction: sum}}", "mse"])
def test_regression_really_trains(workshop, loss):
    report = workshop.finetune("regression", f"train.loss={loss}", "train.epochs=3")
    assert losses(report)[-1] < losses(report)[0] / 2
    errors = [epoch["validation"]["MeanAbsoluteError"] for epoch in trained(report)]
    assert min(errors[1:]) < errors[0]
    assert report["metrics"]["MeanAbsoluteError"] < 0.02


def test_multilabel_really_trains(workshop):
    report = workshop.finetune("multilabel", "train.epochs=3")
    precisions = [epoch["validation"]["average_precision"] for epoch in trained(report)]
    assert precisions[0] < precisions[1] < precisions[2]
    assert report["metrics"]["average_precision"] > 0.95
    assert zoo.load(report["checkpoint"]).zoo.classes == ("even", "prime", "loop", "above_four")


def test_every_recipe_is_run_somewhere():
    """A recipe that nobody runs rots."""
    tests = Path(__file__).parents[1].rglob("test_*.py")
    page = (RECIPES.parents[1] / "docs" / "from-tutorial-to-recipe.md").read_text()  # test_page.py builds what it shows
    text = "".join(path.read_text() for path in tests) + page
    assert [name for name in NAMES if f'"{name}"' not in text and f"tutorials/{name}.yaml" not in text] == []
