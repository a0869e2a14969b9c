"""A run that goes on from a checkpoint, or takes its weights: it keeps what the file knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from listeners import Killing
from zoo.errors import InputError
from zoo.formats.safetensors_file import read_header
from zoo.training.callbacks import Listener

MEAN, STD = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]


def photos(folder: Path, classes: list[str], each: int = 5) -> None:
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for sample in range(each):
            pixels = np.random.default_rng(100 * number + sample).integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{sample}.png")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of ant, bee and cat, the same with zebra, and a checkpoint whose rows are cat, ant, bee."""
    folder = tmp_path_factory.mktemp("go on")
    photos(folder / "three", ["ant", "bee", "cat"])
    photos(folder / "four", ["ant", "bee", "cat", "zebra"])
    torch.manual_seed(0)
    model = zoo.build("timm/test_resnet", num_classes=3)
    with torch.no_grad():
        model.fc.weight.normal_()
        model.fc.bias.copy_(torch.tensor([5.0, 0.0, -5.0]))
    prepared = zoo.Preprocessing(size=(32, 32), mean=tuple(MEAN), std=tuple(STD), crop_fraction=1.0)
    zoo.save(model, folder / "old.safetensors", classes=["cat", "ant", "bee"], preprocessing=prepared)
    return folder


def run(place: Path, output: Path, model: Any, data: str = "three", steps: Any = ("evaluate",), **how: Any) -> zoo.Run:
    recipe = {
        "name": "r",
        "precision": "float32",
        "model": model,
        "data": {"source": "image_folder", "path": str(place / data), "workers": 0},
        "steps": list(steps),
    }
    return zoo.finetune(recipe, output=output, **{"progress": Listener(), **how})


@pytest.mark.parametrize(
    "model",
    [
        {"checkpoint": "old.safetensors"},
        {"architecture": "timm/test_resnet", "arguments": {"num_classes": 3}, "weights": "old.safetensors"},
    ],
)
def test_it_measures_what_zoo_evaluate_does(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: dict
) -> None:
    monkeypatch.chdir(place)
    done = run(place, tmp_path / "run", model)
    assert done.metrics == zoo.evaluate(done.checkpoint)["metrics"]
    model_alone = zoo.load("old.safetensors")
    assert all(torch.equal(value, model_alone.state_dict()[name]) for name, value in done.model.state_dict().items())
    known = done.model.zoo
    assert known.classes == ("cat", "ant", "bee")
    assert (list(known.preprocessing.mean), list(known.preprocessing.std)) == (MEAN, STD)
    assert known.preprocessing.size == (32, 32)


def test_further_steps_go_on_top_and_are_replayed_from_any_folder(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    steps = [{"swap_head": {"reuse": "by_label"}}]
    first = run(place, tmp_path / "a", {"checkpoint": "old.safetensors"}, "four", steps)
    old = zoo.load("old.safetensors")
    x = torch.randn(4, 3, 32, 32)
    assert first.model.zoo.classes == ("ant", "bee", "cat", "zebra")
    torch.testing.assert_close(first.model.eval()(x)[:, [2, 0, 1]], old(x), rtol=0, atol=1e-5)
    assert torch.equal(first.model.fc.weight[:3], old.fc.weight[[1, 2, 0]])
    monkeypatch.chdir(tmp_path)
    assert zoo.check("a/recipe.yaml").ok, "the recipe that a run leaves names its files in full"
    second = run(place, tmp_path / "b", {"checkpoint": "a"}, "four", [{"train": {"max_steps": 1}}])
    assert len(second.model.zoo.operations) == 1
    again = zoo.load(second.checkpoint)
    assert torch.equal(again(x), second.model.eval()(x))


def test_a_resumed_run_knows_the_classes_too(place: Path, tmp_path: Path) -> None:
    steps = [{"swap_head": {"reuse": "by_label"}}, {"train": {"epochs": 2, "lr": 0.01}}]
    model = {"checkpoint": str(place / "old.safetensors")}
    complete = run(place, tmp_path / "complete", model, "four", steps)

    with pytest.raises(KeyboardInterrupt):
        run(place, tmp_path / "cut", model, "four", steps, progress=Killing(epoch=1, error=KeyboardInterrupt()))
    done = run(place, tmp_path / "cut", model, "four", steps, resume=True)
    assert done.model.zoo.classes == complete.model.zoo.classes
    for name, tensor in complete.model.state_dict().items():
        assert torch.equal(tensor, done.model.state_dict()[name]), name


@pytest.mark.parametrize(
    ("load", "behind", "told"),
    [
        ({}, [], True),
        ({}, [{"swap_head": "auto"}], False),
        ({"remap": [{"drop": "^fc"}], "min_coverage": 0.9}, [], False),
    ],
)
def test_a_head_that_is_loaded_by_number_is_told(
    place: Path, monkeypatch: pytest.MonkeyPatch, load: dict, behind: list, told: bool
) -> None:
    """The file's classes are cat, ant, bee, those of the data ant, bee, cat."""
    monkeypatch.chdir(place)
    steps = [{"swap_head": "auto"}, {"load": {"weights": "old.safetensors", **load}}, *behind, {"train": 1}]
    recipe = {
        "model": "timm/test_resnet",
        "data": {"source": "zoo/image_folder", "path": "three", "image_size": 32},
        "steps": steps,
    }
    warnings = [str(one) for one in zoo.check(recipe).warnings]
    said = "load: the file's head gives scores for cat, ant, bee, and the data has ant, bee, cat: its rows are taken by"
    assert any(said in warning and "swap_head: {reuse: by_label}" in warning for warning in warnings) == told


@pytest.mark.parametrize(
    ("model", "data", "why"),
    [
        ({"checkpoint": "old.safetensors", "weights": "x"}, "three", "weights stands beside checkpoint"),
        ({"checkpoint": "none.safetensors"}, "three", "there is no checkpoint none.safetensors"),
        ({"checkpoint": "https://example.org/x.safetensors"}, "three", "is an address"),
        ({"checkpoint": "three/ant/0.png"}, "three", "0.png"),
        (
            {"checkpoint": "old.safetensors"},
            "four",
            r"not know zebra.* take its head as it is .*swap_head: \{reuse",
        ),
        (
            {"architecture": "timm/test_efficientnet", "weights": "old.safetensors"},
            "three",
            "are for timm/test_resnet; .*write architecture: timm/test_resnet",
        ),
        (
            {"architecture": "timm/test_resnet", "weights": "old.safetensors"},
            "three",
            r"write model: \{checkpoint: old.safetensors\}",
        ),
    ],
)
def test_what_does_not_go_together_is_said(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: dict, data: str, why: str
) -> None:
    monkeypatch.chdir(place)
    with pytest.raises(InputError, match=why):
        run(place, tmp_path / "run", model, data)
    assert not (tmp_path / "run").exists()


def test_rows_are_picked_by_the_datas_classes_in_check_and_run(place: Path, tmp_path: Path) -> None:
    model = {
        "architecture": "timm/test_resnet",
        "arguments": {"num_classes": 4},
        "weights": str(place / "old.safetensors"),
        "remap": {"adapt_classes": "^fc"},
    }
    done = run(place, tmp_path / "run", model, "four")
    old = zoo.load(place / "old.safetensors")
    assert done.model.zoo.classes == ("ant", "bee", "cat", "zebra")
    assert torch.equal(done.model.fc.weight[:3], old.fc.weight[[1, 2, 0]])
    loaded = {"load": {"weights": model["weights"], "remap": model["remap"]}}
    again = run(place, tmp_path / "again", {**model, "weights": None, "remap": None}, "four", [loaded])
    assert torch.equal(again.model.fc.weight, done.model.fc.weight)


def test_data_that_is_elsewhere_is_named_anew(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "there" / "photos", ["ant", "bee", "cat"])
    monkeypatch.chdir(tmp_path / "there")
    recipe = {
        "name": "r",
        "model": {"checkpoint": str(place / "old.safetensors")},
        "data": {"source": "image_folder", "path": "photos", "workers": 0},
        "steps": ["evaluate"],
    }
    done = zoo.finetune(recipe, output=tmp_path / "run", progress=Listener())
    monkeypatch.chdir(tmp_path)
    assert zoo.evaluate(done.checkpoint)["metrics"] == done.metrics
    described = read_header(done.checkpoint).metadata["zoo"]
    assert '"folder": "../there"' in described
    assert str(tmp_path) not in described.replace(str(place), "")
    (tmp_path / "there" / "photos").rename(tmp_path / "moved")
    with pytest.raises(InputError, match="--data FOLDER"):
        zoo.evaluate(done.checkpoint)
    assert zoo.evaluate(done.checkpoint, "moved")["samples"] == 15


def test_a_file_of_another_architecture_is_refused_for_a_model_in_memory(place: Path) -> None:
    model = zoo.build("timm/test_efficientnet", num_classes=3)
    with pytest.raises(InputError, match="the file is of timm/test_resnet"):
        zoo.load_into(model, place / "old.safetensors")
    assert zoo.load_into(zoo.build("timm/test_resnet", num_classes=3), place / "old.safetensors").coverage == 1


def test_a_network_of_other_channels_reads_images_so(place: Path, tmp_path: Path) -> None:
    grey = {"architecture": "timm/test_resnet", "arguments": {"in_chans": 1, "num_classes": 3}}
    stem = "^conv1.0.weight$" if "conv1.0.weight" in zoo.build("timm/test_resnet").state_dict() else "^conv1.weight$"
    adapted = {"weights": str(place / "old.safetensors"), "remap": {"adapt_input": stem}}
    done = run(place, tmp_path / "run", grey | adapted)
    known = done.model.zoo.preprocessing
    assert (known.channels, known.mean) == (1, pytest.approx((0.2,)))
    assert zoo.predict(done.checkpoint, place / "three/ant/0.png")[0]["predictions"]
