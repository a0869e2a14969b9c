"""docs/from-tutorial-to-recipe.md: the lines written by hand and the recipe beside them do the same."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import zoo_tutorial.convolutional
import zoo_tutorial.perceptrons
from PIL import Image
from safetensors.torch import save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import zoo
from zoo.data.open_data import open_data
from zoo.model.build import build
from zoo.model.initializers import initialize
from zoo.preflight import check
from zoo.recipe import load_recipe
from zoo.steps.init import Init
from zoo.steps.load import Load
from zoo.steps.train import Train
from zoo.training.optimizers import make_optimizer

FEATURES = {"mlp": 20, "sequential_mlp": 20, "chimera": 20, "nested_mlp": 20, "nested_blocks": 4, "shared": 4, "tie": 4}
FEATURES |= {"custom_layers": 4, "my_linear": 64, "centered": 8}


def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def shared(model: nn.Module) -> set[frozenset[str]]:
    """Names of tensors that are one."""
    places: dict[int, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        places.setdefault(id(parameter), set()).add(name)
    return {frozenset(names) for names in places.values()}


def test_every_pair_is_of_a_kind_that_is_tested(page):
    kinds = {"frozen", "structure", "training", "warm_start", "values", "numbers", "look", "files", "modules"}
    assert {pair.kind for pair in page.pairs} == kinds
    assert len(page.pairs) == page.text.count("<!-- pair:") == page.text.count("```python") == 29
    assert page.text.count("```yaml") == sum(pair.name is not None for pair in page.pairs)


def test_the_table_at_the_top_names_recipes_and_tests_that_exist(page):
    top = page.text[: page.text.index("\n## 1.")]
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", top)
    assert len(named) > 10
    assert all(f"def {name}(" in tests for name in named)
    listed = {name for name in re.findall(r"`(\w+)`", top) if not name.startswith("test_")}
    assert listed == {path.stem for path in (page.path.parents[1] / "recipes" / "tutorials").glob("*.yaml")}
    anchors = {
        re.sub(r"[^\w -]", "", line[3:].lower()).replace(" ", "-")
        for line in page.text.splitlines()
        if line[:3] == "## "
    }
    assert set(re.findall(r"\]\(#(.+?)\)", top)) == anchors


def test_what_the_page_shows_stands_in_the_recipe(page):
    for pair in page.pairs:
        if pair.name:
            assert pair.recipe in pair.path.read_text(), pair.name
            assert (page.path.parent / pair.link).resolve() == pair.path


@pytest.mark.kind("structure", "frozen")
def test_the_models_are_built_alike(pair, workshop, by_hand):
    with torch.device("meta"):
        hand = by_hand(pair)["model"]
    verdict = check(load_recipe(pair.path))
    verdict.require()
    assert shapes(verdict.assembly.model) == shapes(hand)
    assert shared(verdict.assembly.model) == shared(hand)


@pytest.mark.parametrize(("name", "features"), FEATURES.items())
def test_networks_of_rows_answer_alike(name, features, page, by_hand, workshop):
    (pair,) = [pair for pair in page.pairs if pair.name == name]
    hand = by_hand(pair)["model"]
    trains = any(isinstance(step, Train) for step in load_recipe(pair.path).steps)
    model = zoo.load(workshop.finetune(name, *["train.epochs=1"] * trains)["checkpoint"])
    hand.load_state_dict(model.state_dict())
    rows = torch.randn(3, features)
    assert torch.equal(model(rows), hand.eval()(rows))


@pytest.mark.kind("frozen")
def test_the_same_parameters_train_in_the_same_way(pair, workshop, by_hand):
    with torch.device("meta"):
        hand = by_hand(pair)
    recipe = load_recipe(pair.path)
    model = check(recipe).assembly.model
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert (
        trains == {name for name, p in hand["model"].named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}
    )
    mine, theirs = make_optimizer(model, recipe.steps[-1]), hand["optimizer"]
    assert type(mine) is type(theirs)
    assert sum(len(group["params"]) for group in mine.param_groups) == len(theirs.param_groups[0]["params"]) == 2
    for key in ("lr", "momentum", "weight_decay", "nesterov"):
        assert {group[key] for group in mine.param_groups} == {theirs.param_groups[0][key]}


def test_only_the_wired_layer_of_vgg16_is_called(workshop, by_hand, page):
    (pair,) = [pair for pair in page.pairs if pair.name == "vgg16_add_linear"]
    with torch.device("meta"):
        hand = by_hand(pair)["model"]
        assert hand(torch.empty(2, 3, 32, 32)).shape == (2, 1000)
    assert check(load_recipe(pair.path)).output_shape == (2, 10)


@pytest.mark.kind("values")
def test_initial_values_are_equal_bit_for_bit(pair, by_hand):
    recipe = load_recipe(pair.path)
    torch.manual_seed(3)
    hand = by_hand(pair)["model"]
    torch.manual_seed(3)
    model = build(recipe.model.architecture, recipe.model.arguments).model
    steps = [step for step in recipe.steps if isinstance(step, Init)]
    assert steps
    for step in steps:
        initialize(model, step)
    assert shapes(model) == shapes(hand)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in hand.state_dict().items())


@pytest.mark.kind("warm_start")
def test_warm_starts_load_the_same_and_tell_the_same(pair, workshop, by_hand):
    torch.manual_seed(0)
    source = zoo_tutorial.convolutional.net_a().state_dict()
    torch.save(source, "net_a.pt")
    (workshop.folder / "runs" / "net_a").mkdir(parents=True)
    save_file(source, "runs/net_a/model.safetensors")
    hand = by_hand(pair, saved="net_a.pt")
    recipe = load_recipe(pair.path)
    load = next((step for step in recipe.steps if isinstance(step, Load)), recipe.model)
    model = build(recipe.model.architecture).model
    strict = getattr(load, "strict_shapes", True)
    for file in (load.weights, "net_a.pt"):
        report = zoo.load_into(model, file, load.remap, min_coverage=load.min_coverage, strict_shapes=strict)
        assert list(report.missing) == hand["missing"]
        loaded = [name for name in shapes(model) if name not in report.missing]
        assert loaded
        assert all(torch.equal(hand["model"].state_dict()[name], model.state_dict()[name]) for name in loaded)


def by_hand_and_by_recipe(pair, by_hand, workshop, epochs: int, overrides: list[str]) -> tuple[dict, dict]:
    """What the lines leave behind and the recipe's report, from the same first parameters and the same batches."""
    recipe = load_recipe(pair.path, overrides)
    torch.manual_seed(0)
    first = build(recipe.model.architecture)
    opened = open_data(recipe.data, first.preprocessing, seed=recipe.seed)
    save_file(first.model.state_dict(), "first.safetensors")

    def training_batches(epoch):
        return ((batch.inputs, batch.targets) for batch in opened.batches("train").epoch(epoch))

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


@pytest.mark.slow
@pytest.mark.kind("training")
def test_loops_by_hand_and_by_recipe_measure_the_same(pair, workshop, request, by_hand):
    """From the same first parameters, over the same batches, loss and accuracy agree after every epoch."""
    epochs = 2
    if pair.name == "fashion_mnist":
        request.getfixturevalue("fashion_files")
        data = "data.download=false"
    else:
        folder = request.getfixturevalue("colour_folder")
        data = f"data={{source: image_folder, path: {folder}, batch_size: 64}}"
    overrides = [f"train.epochs={epochs}", data, "precision=float32"]
    hand, report = by_hand_and_by_recipe(pair, by_hand, workshop, epochs, overrides)
    measured = [epoch["validation"] for epoch in report["stages"][-1]["epochs"]]
    assert len(measured) == epochs
    for mine, (loss, accuracy) in zip(measured, hand["history"], strict=True):
        assert mine["loss"] == pytest.approx(loss, rel=1e-4)
        assert mine["accuracy"] == pytest.approx(accuracy, abs=1e-6)


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.trace(_method)?` is deprecated:FutureWarning"
)  # what add_graph of torch calls
@pytest.mark.kind("look")
def test_both_event_files_show_the_same(pair, workshop, by_hand):
    data = "data={source: sklearn/digits, batch_size: 64, limit: 120}"
    _, report = by_hand_and_by_recipe(pair, by_hand, workshop, 2, ["train.epochs=2", data, "precision=float32"])
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
