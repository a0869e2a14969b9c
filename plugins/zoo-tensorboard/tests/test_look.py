"""The step `look`, read back from the event files: graph, samples and feature maps, and a model left as it was."""

from __future__ import annotations

import io
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from zoo_tensorboard.look import Album, module_names

from zoo.checkpoint.load import load
from zoo.data.open_data import open_data
from zoo.errors import InputError
from zoo.finetuning.finetune import finetune
from zoo.model.build import build
from zoo.preflight import check
from zoo.recipe import load_recipe
from zoo.recipe.options import DataOptions
from zoo.testing import StepContract
from zoo.training.callbacks import Listener

CONVOLUTION, RELU, POOLING, SIGMOID = "features.0", "features.1", "features.2", "classifier.relu2"
ROOT = Path(__file__).parents[3]


class TestContract(StepContract):
    component = "tensorboard/look"


class Notes(Listener):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


class Looked:
    """What a run left in its event files."""

    def __init__(self, folder: Path, report: dict, notes: list[str]):
        self.folder, self.report, self.notes = folder, report, notes
        self.stage = report["stages"][-1]

    @cached_property
    def events(self) -> EventAccumulator:
        return EventAccumulator(str(self.folder / "tensorboard"), size_guidance={"images": 0}).Reload()

    def picture(self, tag: str) -> np.ndarray:
        (event,) = self.events.Images(tag)
        picture = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
        assert picture.shape[:2] == (event.height, event.width)
        return picture

    def tile(self, tag: str, index: int, height: int, width: int, columns: int) -> np.ndarray:
        top, left = (1 + at * (side + 1) for at, side in zip(divmod(index, columns), (height, width), strict=True))
        return self.picture(tag)[top : top + height, left : left + width, 0].astype(float)


@pytest.fixture
def run(tmp_path):
    def looked(*steps, architecture="tutorial/net_b_renamed", data=None) -> Looked:
        source = data or {"source": "sklearn/digits", "limit": 60, "mean": [0.5] * 3, "std": [0.25] * 3}
        recipe = {"model": architecture, "data": source, "steps": list(steps)}
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe))
        listener = Notes()
        report = finetune(path, output=tmp_path / "run", overwrite=True, progress=listener).report
        return Looked(tmp_path / "run", report, listener.notes)

    return looked


@pytest.fixture
def tutorial(run) -> Looked:
    return run(
        {"replace_module": {"path": SIGMOID, "module": "Sigmoid"}},
        {"look": {"modules": [CONVOLUTION, RELU, POOLING, SIGMOID], "samples": 3}},
    )


def validation(samples: int) -> torch.Tensor:
    options = DataOptions(source="sklearn/digits", limit=60, mean=[0.5] * 3, std=[0.25] * 3)
    data = open_data(options, build("tutorial/net_b_renamed").preprocessing)
    return next(data.batches("validation", batch_size=samples).epoch(0)).inputs


def test_every_module_shows_what_it_does(tutorial):
    model, inputs = load(tutorial.folder / "model.safetensors").model.eval(), validation(3)
    with torch.no_grad():
        convolved = model.features[0](inputs)
        expected = {
            f"{CONVOLUTION}/input": (inputs, 2),
            f"{CONVOLUTION}/output": (convolved, 3),
            f"{RELU}/input": (convolved, 3),
            f"{RELU}/output": (convolved.clamp(min=0), 3),
            f"{POOLING}/output": (convolved.clamp(min=0).unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2)), 3),
        }
    for tag, (values, columns) in expected.items():
        height, width = values.shape[-2:]
        for sample in range(3):
            for channel, values_of_map in enumerate(values[sample]):
                low, high = values_of_map.min(), values_of_map.max()
                drawn = tutorial.tile(f"{tag}/{sample}", channel, height, width, columns)
                wanted = ((values_of_map - low) / (high - low).clamp(min=1e-12)).numpy()
                np.testing.assert_allclose(drawn / 255, wanted, atol=0.51 / 255 + 1e-5, err_msg=tag)


def test_the_map_behind_a_relu_is_relu_of_the_map_before_it(tutorial):
    """From the event file alone; the range that black and white stand for comes from the model."""
    model, inputs = load(tutorial.folder / "model.safetensors").model.eval(), validation(3)
    with torch.no_grad():
        before = model.features[0](inputs)[1]
    crossing = [channel for channel in range(6) if before[channel].min() < 0 < before[channel].max()]
    assert crossing
    for channel in crossing:
        low, high = float(before[channel].min()), float(before[channel].max())
        entered = tutorial.tile(f"{RELU}/input/1", channel, 28, 28, 3) / 255 * (high - low) + low
        left = tutorial.tile(f"{RELU}/output/1", channel, 28, 28, 3) / 255
        behind = before[channel].clamp(min=0)
        left = left * float(behind.max() - behind.min()) + float(behind.min())
        np.testing.assert_allclose(left, np.maximum(entered, 0), atol=(high - low) / 255)
        assert (left > 0).any()


def test_a_vector_is_a_heat_map_of_all_samples(tutorial):
    drawn = {word: tutorial.picture(f"{SIGMOID}/{word}") for word in ("input", "output")}
    assert drawn["input"].shape[:2] == drawn["output"].shape[:2] == (3, 84)
    row = tutorial.stage["modules"][SIGMOID]
    before, after = (
        drawn[word].reshape(3, 84, -1)[..., 0] / 255 * (row[word]["maximum"] - row[word]["minimum"])
        + row[word]["minimum"]
        for word in ("input", "output")
    )
    np.testing.assert_allclose(after, 1 / (1 + np.exp(-before)), atol=2 / 255)


def test_sizes_and_ranges(tutorial):
    sizes = {f"{CONVOLUTION}/input/0": (67, 67), f"{CONVOLUTION}/output/2": (59, 88), f"{POOLING}/output/0": (31, 46)}
    assert {tag: tutorial.picture(tag).shape[:2] for tag in sizes} == sizes
    modules = tutorial.stage["modules"]
    assert modules[POOLING]["output"]["shape"] == [3, 6, 14, 14]
    assert modules[RELU]["output"]["minimum"] == 0 > modules[RELU]["input"]["minimum"]
    assert not {f"{CONVOLUTION}/input/3", f"{SIGMOID}/input/0"} & set(tutorial.events.Tags()["images"])


def test_the_samples_look_as_they_did_before(tutorial):
    picture, wanted = tutorial.picture("validation/images"), validation(3) * 0.25 + 0.5
    assert picture.shape == (67, 67, 3)
    for index, (top, left) in enumerate([(1, 1), (1, 34), (34, 1)]):
        tile = picture[top : top + 32, left : left + 32].transpose(2, 0, 1)
        np.testing.assert_array_equal(tile, (wanted[index] * 255).round().numpy())


def test_the_graph_is_there(tutorial):
    names = {node.name for node in tutorial.events.Graph().node}
    assert tutorial.stage["graph"]
    assert any("Conv2d" in name for name in names)
    assert any("Sigmoid" in name for name in names)


def test_each_part_can_be_left_out(run):
    looked = run({"look": {"modules": RELU, "graph": False, "images": False, "samples": 1}})
    assert looked.events.Tags()["images"] == [f"{RELU}/input/0", f"{RELU}/output/0"]
    assert not looked.events.Tags()["graph"]
    bare = run("look")
    assert bare.events.Tags()["images"] == ["validation/images"]
    assert bare.events.Tags()["graph"]


def test_training_goes_on_as_if_nobody_had_looked(run):
    train = {"epochs": 2, "lr": 0.01}
    first = [{"replace_module": {"path": SIGMOID, "module": {"Dropout": 0.5}}}, {"train": train}]
    plain = run(*first, "evaluate", {"train": train})  # a step in the same place: it decides the order of samples
    without = [stage["epochs"] for stage in plain.report["stages"] if stage["action"] == "train"]
    looked = run(*first, {"look": RELU}, {"train": train})
    trained = [stage for stage in looked.report["stages"] if stage["action"] == "train"]
    for before, after in zip(without, [stage["epochs"] for stage in trained], strict=True):
        for key in ("loss", "validation", "lr", "steps"):
            assert [epoch[key] for epoch in after] == [epoch[key] for epoch in before]
    (event,) = looked.events.Images(f"{RELU}/output/0")
    assert event.step == trained[0]["epochs"][-1]["steps"]


def test_a_frozen_part_stays(run):
    looked = run({"freeze": "all_but_head"}, {"look": RELU}, {"train": {"epochs": 1, "lr": 0.01}})
    assert looked.report["stages"][-1]["freeze_proof"]["tensors"] > 0
    assert "graph" in looked.events.Tags()


def test_rows_of_numbers_are_heat_maps(run):
    looked = run({"look": {"modules": "0", "samples": 5}}, architecture="tutorial/small_mlp", data="tutorial/rows")
    assert looked.picture("validation/inputs").shape[:2] == (5, 4)
    assert looked.picture("0/output").shape[:2] == (5, looked.stage["modules"]["0"]["output"]["shape"][1])


def test_tokens_are_heat_maps(run):
    options = {"img_size": 32, "patch_size": 16, "embed_dim": 12, "depth": 1, "num_heads": 2, "num_classes": 10}
    architecture = {"architecture": "timm/vit_tiny_patch16_224", "arguments": options}
    data = {"source": "sklearn/digits", "limit": 60, "image_size": 32}
    looked = run({"look": {"modules": "blocks.0", "samples": 2}}, architecture=architecture, data=data)
    assert looked.picture("blocks.0/output/1").shape[:2] == (5, 12)
    assert looked.stage["modules"]["blocks.0"]["output"]["shape"] == [2, 5, 12]


def test_a_graph_that_cannot_be_traced_is_a_note(tmp_path, capsys):
    class Untraceable(nn.Module):
        def forward(self, inputs):
            if torch.jit.is_tracing():
                raise RuntimeError("not to be traced\nat all")
            return inputs

    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(tmp_path)) as writer:
        assert Album(writer, 0).graph(Untraceable(), torch.rand(2, 3)) == "RuntimeError: not to be traced"
    assert capsys.readouterr().out == ""


def test_a_module_that_is_not_called_is_a_warning(run):
    architecture = {"architecture": "torchvision/googlenet", "arguments": {"aux_logits": True, "init_weights": False}}
    looked = run(
        {"look": {"modules": ["aux1.fc1", "conv1.conv"], "samples": 1, "graph": False}},
        architecture=architecture,
        data={"source": "sklearn/digits", "limit": 20, "image_size": 32},
    )
    assert list(looked.stage["modules"]) == ["conv1.conv"]
    assert any(note.startswith("look: aux1.fc1 has nothing to draw") for note in looked.notes)
    assert any("aux1.fc1 is never called" in note for note in looked.notes)


def test_unknown_paths_are_mistakes(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: tutorial/net_b\ndata: sklearn/digits\nsteps:\n  - look: {modules: [conv3, pool,\n      fc9]}\n"
    )
    recipe = load_recipe(path)
    problems = check(recipe).errors
    assert [(problem.location.line, problem.location.column) for problem in problems] == [(4, 22), (5, 7)]
    assert "no module at 'conv3'" in problems[0].message
    assert problems[0].suggestion == "did you mean conv2 or conv1?"
    with pytest.raises(InputError, match="conv3"):
        finetune(recipe, output=tmp_path / "run", overwrite=True, progress=Listener())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: sklearn/digits\nsteps:\n  - look: {graph: false, images: false}", "there is nothing to look at"),
        ("steps: [look]", "look needs data"),
    ],
)
def test_mistakes_in_the_recipe(text, said, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: tutorial/net_b\n{text}\n")
    with pytest.raises(InputError, match=said):
        load_recipe(path)


def test_a_shared_module_is_found_by_each_of_its_paths():
    inner = nn.Linear(3, 3)
    model = nn.Sequential(inner, nn.ReLU(), inner)
    assert module_names(model, ["0", "2", "1"]) == {"0": "0", "2": "0", "1": "1"}


def test_the_tutorials_recipe(tmp_path):
    path = ROOT / "recipes" / "tutorials" / "look.yaml"
    overrides = ["train.epochs=1", "data.limit=60"]
    report = finetune(path, overrides=overrides, output=tmp_path / "run", overwrite=True, progress=Listener()).report
    looked = Looked(tmp_path / "run", report, [])
    assert set(looked.stage["modules"]) == {CONVOLUTION, RELU, POOLING, "features.4"}
    assert {"train/loss", "validation/accuracy"} <= set(looked.events.Tags()["scalars"])
    assert looked.events.Tags()["graph"]
