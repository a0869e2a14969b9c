"""docs/from-tutorial-to-recipe.md: the lines written by hand and the recipe beside them do the same."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
import zoo_tutorial.convolutional
import zoo_tutorial.perceptrons
from PIL import Image
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import zoo
from zoo.data.opening import open_data
from zoo.errors import InputError
from zoo.model.build import build
from zoo.model.initializers import initialize
from zoo.recipe import load_recipe
from zoo.training.check import check
from zoo.training.losses import make_loss
from zoo.training.optimizers import make_optimizer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "from-tutorial-to-recipe.md").read_text()
PAIR = re.compile(
    r"<!-- pair: (?P<kind>\w+) -->\n```python\n(?P<hand>.*?)```\n"
    r"(?:\n\[(?P<name>\w+)\.yaml\]\((?P<link>\S+)\)\n```yaml\n(?P<recipe>.*?)```\n)?",
    re.DOTALL,
)


@dataclass(frozen=True)
class Pair:
    kind: str
    hand: str
    name: str | None
    link: str | None
    recipe: str | None

    @property
    def path(self) -> Path:
        return ROOT / "recipes" / "tutorials" / f"{self.name}.yaml"


PAIRS = [Pair(**match.groupdict()) for match in PAIR.finditer(PAGE)]


def of_kind(*kinds: str):
    chosen = [pair for pair in PAIRS if pair.kind in kinds]
    return pytest.mark.parametrize("pair", chosen, ids=lambda pair: pair.name or pair.kind)


def by_hand(pair: Pair, **names) -> dict:
    """What the block leaves behind when it runs after the imports that every such script begins with."""
    scope = {"torch": torch, "nn": nn, "torchvision": torchvision, "math": math, "SummaryWriter": SummaryWriter}
    scope |= vars(zoo_tutorial.convolutional) | vars(zoo_tutorial.perceptrons) | names
    exec(compile(pair.hand, f"{pair.name} by hand", "exec"), scope)
    return scope


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def shared(model: nn.Module) -> set[frozenset[str]]:
    """Names of tensors that are one."""
    places: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        places.setdefault(id(parameter), set()).add(name)
    return {frozenset(names) for names in places.values()}


def test_every_pair_is_of_a_kind_that_is_tested():
    kinds = {"frozen", "structure", "training", "warm_start", "values", "numbers", "look", "files"}
    assert {pair.kind for pair in PAIRS} == kinds
    assert len(PAIRS) == PAGE.count("<!-- pair:") == PAGE.count("```python") == 24
    assert PAGE.count("```yaml") == sum(pair.name is not None for pair in PAIRS)


@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair.name], ids=lambda pair: pair.name)
def test_what_the_page_shows_stands_in_the_recipe(pair):
    assert pair.recipe in pair.path.read_text()
    assert (ROOT / "docs" / pair.link).resolve() == pair.path


@of_kind("structure", "frozen")
def test_the_models_are_built_alike(pair, workshop):
    with torch.device("meta"):
        hand = by_hand(pair)["model"]
    verdict = check(load_recipe(pair.path))
    verdict.require()
    assert shapes(verdict.assembly.model) == shapes(hand)
    assert shared(verdict.assembly.model) == shared(hand)


@of_kind("frozen")
def test_the_same_parameters_train_in_the_same_way(pair, workshop):
    with torch.device("meta"):
        hand = by_hand(pair)
    recipe = load_recipe(pair.path)
    model = check(recipe).assembly.model
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert (
        trains == {name for name, p in hand["model"].named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}
    )
    mine, theirs = make_optimizer(model, recipe.steps[-1].options), hand["optimizer"]
    assert type(mine) is type(theirs)
    assert sum(len(group["params"]) for group in mine.param_groups) == len(theirs.param_groups[0]["params"]) == 2
    for key in ("lr", "momentum", "weight_decay", "nesterov"):
        assert {group[key] for group in mine.param_groups} == {theirs.param_groups[0][key]}


def test_only_the_wired_layer_of_vgg16_is_called(workshop):
    (pair,) = [pair for pair in PAIRS if pair.name == "vgg16_add_linear"]
    with torch.device("meta"):
        hand = by_hand(pair)["model"]
        assert hand(torch.empty(2, 3, 32, 32)).shape == (2, 1000)
    assert check(load_recipe(pair.path)).output_shape == (2, 10)


@of_kind("values")
def test_initial_values_are_equal_bit_for_bit(pair):
    recipe = load_recipe(pair.path)
    torch.manual_seed(3)
    hand = by_hand(pair)["model"]
    torch.manual_seed(3)
    model = build(recipe.model.architecture, recipe.model.arguments).model
    steps = [step for step in recipe.steps if step.kind == "init"]
    assert steps
    for step in steps:
        initialize(model, step.options)
    assert shapes(model) == shapes(hand)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in hand.state_dict().items())


@of_kind("warm_start")
def test_warm_starts_load_the_same_and_tell_the_same(pair, workshop):
    torch.manual_seed(0)
    source = zoo_tutorial.convolutional.net_a().state_dict()
    torch.save(source, "net_a.pt")
    (workshop.folder / "runs" / "net_a").mkdir(parents=True)
    save_file(source, "runs/net_a/model.safetensors")
    hand = by_hand(pair, saved="net_a.pt")
    recipe = load_recipe(pair.path)
    load = next((step.options for step in recipe.steps if step.kind == "load"), recipe.model)
    model = build(recipe.model.architecture).model
    strict = getattr(load, "strict_shapes", True)
    for file in (load.weights, "net_a.pt"):
        report = zoo.load_into(model, file, load.remap, min_coverage=load.min_coverage, strict_shapes=strict)
        assert list(report.missing) == hand["missing"]
        loaded = [name for name in shapes(model) if name not in report.missing]
        assert loaded
        assert all(torch.equal(hand["model"].state_dict()[name], model.state_dict()[name]) for name in loaded)


def by_hand_and_by_recipe(pair: Pair, workshop, epochs: int, overrides: list[str]) -> tuple[dict, dict]:
    """What the lines leave behind and the recipe's report, from the same first parameters and the same batches."""
    recipe = load_recipe(pair.path, overrides)
    torch.manual_seed(0)
    first = build(recipe.model.architecture)
    opened = open_data(recipe.data, first.preprocessing, seed=recipe.seed)
    stage = next(step.index for step in recipe.steps if step.kind == "train")  # decides the order of samples
    save_file(first.model.state_dict(), "first.safetensors")

    def training_batches(epoch):
        return ((batch.inputs, batch.targets) for batch in opened.batches("train", stage=stage).epoch(epoch))

    def test_batches():
        return ((batch.inputs, batch.targets) for batch in opened.batches("validation").epoch(0))

    started = re.sub(r"^(.*optimizer = )", r"model.load_state_dict(first)\n\1", pair.hand, count=1, flags=re.MULTILINE)
    started = re.sub(r"in range\(\d+\)", f"in range({epochs})", started)
    hand = by_hand(
        replace(pair, hand=started),
        first=first.model.state_dict(),
        training_batches=training_batches,
        test_batches=test_batches,
    )
    return hand, workshop.finetune(pair.name, *overrides, "model.weights=./first.safetensors")


@of_kind("training")
def test_loops_by_hand_and_by_recipe_measure_the_same(pair, workshop, request):
    """From the same first parameters, over the same batches, loss and accuracy agree after every epoch."""
    epochs = 2
    if pair.name == "fashion_mnist":
        request.getfixturevalue("fashion_files")
        data = "data.download=false"
    else:
        folder = request.getfixturevalue("colour_folder")
        data = f"data={{source: image_folder, path: {folder}, batch_size: 64}}"
    overrides = [f"train.epochs={epochs}", data]
    hand, report = by_hand_and_by_recipe(pair, workshop, epochs, overrides)
    measured = [epoch["validation"] for epoch in report["stages"][-1]["epochs"]]
    assert len(measured) == epochs
    for mine, (loss, accuracy) in zip(measured, hand["history"], strict=True):
        assert mine["loss"] == pytest.approx(loss, rel=1e-4)
        assert mine["accuracy"] == pytest.approx(accuracy, abs=1e-6)


@of_kind("look")
def test_both_event_files_show_the_same(pair, workshop):
    data = "data={source: sklearn/digits, batch_size: 64, limit: 120}"
    _, report = by_hand_and_by_recipe(pair, workshop, 2, ["train.epochs=2", data, "precision=float32"])
    folders = "by_hand", report["stages"][-1]["folder"]
    hand, recipe = (EventAccumulator(folder, size_guidance={"images": 0}).Reload() for folder in folders)
    curves = hand.Tags()["scalars"]
    assert set(curves) == {"train/loss", "validation/loss", "validation/accuracy"}
    for tag in curves:
        theirs, mine = ([(event.step, event.value) for event in events.Scalars(tag)] for events in (hand, recipe))
        assert len(theirs) == 2
        assert mine == [(step, pytest.approx(value, rel=1e-4)) for step, value in theirs], tag
    nodes = [{(node.name, node.op) for node in events.Graph().node} for events in (hand, recipe)]
    assert nodes[0] == nodes[1]
    tags = hand.Tags()["images"]
    assert set(tags) == set(recipe.Tags()["images"])
    assert len(tags) == 1 + 4 * 2 * 8  # the samples; what went into and came out of four layers, for eight samples
    for tag in tags:
        theirs, mine = picture(hand, tag), picture(recipe, tag)
        assert theirs.shape == mine.shape
        assert np.abs(theirs - mine).max() <= 1, tag  # of 255: the writer cuts off what the recipe rounds
        assert theirs.std() > 10


def picture(events: EventAccumulator, tag: str) -> np.ndarray:
    (event,) = events.Images(tag)
    return np.asarray(Image.open(io.BytesIO(event.encoded_image_string))).astype(int)


@of_kind("numbers")
def test_the_table_of_losses_is_right(pair):
    hand = by_hand(pair)
    table = dict(re.findall(r"^\| `(.+?)` \| ([\d.]+) \|$", PAGE, re.MULTILINE))
    losses = {"l1": "l1", "{l1: {reduction: sum}}": {"l1": {"reduction": "sum"}}, "mse": "mse"}
    assert table.keys() == {*losses, "cross_entropy"}
    names = {"l1": "l1", "{l1: {reduction: sum}}": "l1_sum", "mse": "mse", "cross_entropy": "cross_entropy"}
    for written, variable in names.items():
        assert round(hand[variable].item(), 4) == float(table[written])
    for written, loss in losses.items():
        computed = make_loss(loss, "regression")(hand["answers"], hand["targets"])
        assert round(computed.item(), 4) == float(table[written])
    cross_entropy = make_loss("cross_entropy", "classification")(torch.tensor([[0.1, 0.2, 0.3]]), torch.tensor([1]))
    assert round(cross_entropy.item(), 4) == float(table["cross_entropy"])


@of_kind("files")
def test_the_table_of_files_is_right(pair, workshop):
    by_hand(pair)
    table = re.findall(r"^\| `(\S+)` \| (.+?) \| (yes|no) \|$", PAGE, re.MULTILINE)
    assert len(table) == 5
    for file, kind, converts in table:
        assert zoo.inspect(file)["kind"] == kind
        destination = f"{file}.safetensors"
        if converts == "yes":
            zoo.convert(file, destination)
            assert zoo.inspect(destination)["totals"] == zoo.inspect(file)["totals"]
        else:
            with pytest.raises(InputError, match="whole pickled model"):
                zoo.convert(file, destination)
            assert not Path(destination).exists()
