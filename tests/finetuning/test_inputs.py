"""Runs on images of bands and of another size: resumed, on cached features, and with one number everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import zoo
from listeners import Killed, Killing, Notes
from zoo.errors import InputError
from zoo.training.callbacks import Listener

TRAIN = {"epochs": 2, "lr": 0.05, "feature_cache": "off"}


@pytest.fixture
def bands(tmp_path, monkeypatch) -> Path:
    """Arrays of 6 bands, 0..4000, two classes that differ in one of them."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for number in range(40):
        path = tmp_path / "bands" / ("cat", "dog")[number % 2] / f"{number}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        values = random.integers(0, 2000, (6, 24, 24)) + 2000 * (number % 2) * (np.arange(6) == 4)[:, None, None]
        np.save(path, values.astype(np.uint16))
    return tmp_path


def recipe(path: Path, data: dict, model="timm/test_resnet", train: dict = TRAIN, steps: list | None = None) -> str:
    steps = steps if steps is not None else [{"swap_head": "auto"}, {"train": train}]
    data = {"source": "zoo/image_folder", "path": "bands", "batch_size": 8, "workers": 0, **data}
    written = {"precision": "float32", "model": model, "data": data, "steps": steps}
    path.write_text(yaml.safe_dump(written))
    return str(path)


MEASURED = {"image_size": 32, "channels": 6, "range": "measure", "mean": "measure", "std": "measure"}


def test_measured_bands_have_one_number_everywhere_and_resume_bit_for_bit(bands):
    path = recipe(bands / "r.yaml", MEASURED)
    whole = Notes()
    run = zoo.finetune(path, output="whole", progress=whole)
    assert any(note.startswith("data: measured on 32 training images") for note in whole.notes)
    with pytest.raises(Killed):
        zoo.finetune(path, output="killed", progress=Killing(5))
    resumed = Notes()
    zoo.finetune(path, output="killed", resume=True, progress=resumed)
    assert not any("measured on" in note for note in resumed.notes)
    first, second = (load_file(f"{name}/model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    written = yaml.safe_load(Path("killed/recipe.yaml").read_text())["data"]
    report = json.loads(Path("whole/report.json").read_text())
    prepared = report["data"]["preprocessing"]
    assert [written[key] for key in ("range", "mean", "std")] == [prepared[key] for key in ("range", "mean", "std")]
    assert zoo.evaluate("whole/model.safetensors")["metrics"] == run.report["metrics"]
    (row,) = zoo.predict("whole/model.safetensors", ["bands/dog/1.npy"])
    assert {answer["label"] for answer in row["predictions"]} == {"cat", "dog"}
    assert "6 channels, 32 x 32 pixels, values from" in Path("whole/README.md").read_text()
    assert "first three of 6 channels" in Path("whole/report.html").read_text()
    with pytest.raises(InputError, match=r"exported preprocessing takes bytes \(leave out --preprocess"):
        zoo.export("whole/model.safetensors", "model.pt2", preprocess=True)
    again = zoo.finetune("whole/recipe.yaml", output="again", progress=Listener())  # its numbers are measured no more
    assert again.report["metrics"] == run.report["metrics"]


def test_a_run_is_resumed_from_the_recipe_that_has_its_numbers(bands):
    path = recipe(bands / "r.yaml", MEASURED)
    with pytest.raises(Killed):
        zoo.finetune(path, output="run", progress=Killing(5))
    saved = yaml.safe_load((bands / "r.yaml").read_text())
    zoo.finetune(path, output="whole", progress=Listener())
    numbers = yaml.safe_load(Path("whole/recipe.yaml").read_text())["data"]
    saved["data"] |= {key: numbers[key] for key in ("range", "mean", "std")}
    (bands / "r.yaml").write_text(yaml.safe_dump(saved))
    zoo.finetune(path, output="run", resume=True, progress=Listener())
    first, second = (load_file(f"{name}/model.safetensors") for name in ("whole", "run"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_deep_bands_behind_a_frozen_backbone(bands):
    """Cached features are those of end to end: values of 16 bits reach the network either way."""
    freeze = [{"swap_head": "auto"}, {"freeze": "all_but_head"}]
    data = {"image_size": 32, "channels": 6, "mean": "measure", "std": "measure"}
    outcomes = []
    for use in ("kept", "off"):
        steps = [*freeze, {"train": {**TRAIN, "feature_cache": use, "feature_precision": "exact"}}]
        steps = steps if use == "kept" else [*freeze, {"train": TRAIN}]
        outcomes.append(zoo.finetune(recipe(bands / f"{use}.yaml", data, steps=steps), output=use, progress=Listener()))
    first, second = (load_file(f"{name}/model.safetensors") for name in ("kept", "off"))
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    assert outcomes[0].report["data"]["preprocessing"]["range"] == "dtype"


def test_a_transformer_at_another_size_and_its_checkpoint_at_a_third(bands):
    torch.manual_seed(0)
    save_file(zoo.build("timm/test_vit").state_dict(), "w.safetensors")
    model = {"architecture": "timm/test_vit", "weights": "w.safetensors"}
    data = {"image_size": 32, "channels": 6, "mean": "measure", "std": "measure"}
    steps = [{"swap_head": "auto"}, {"train": TRAIN}, {"save": {"name": "thin.safetensors", "only": "trainable"}}]
    said = Notes()
    run = zoo.finetune(recipe(bands / "r.yaml", data, model, steps=steps), output="run", progress=said)
    assert "model: built with {img_size: 32, in_chans: 6} for these images" in said.notes
    assert "weights: pos_embed resampled 10 x 10 -> 2 x 2" in said.notes
    assert run.report["weights"]["adapted"][-1].endswith("pos_embed resampled 10 x 10 -> 2 x 2")
    for file in ("model", "thin"):
        assert zoo.evaluate(f"run/{file}.safetensors")["metrics"] == run.report["metrics"]
    larger = {"checkpoint": "run/model.safetensors"}
    said = Notes()
    path = recipe(bands / "larger.yaml", {"image_size": [48, 32], "channels": 6}, larger, steps=[{"train": TRAIN}])
    zoo.finetune(path, output="larger", progress=said)
    assert any("pos_embed resampled 2 x 2 -> 3 x 2" in note for note in said.notes)
    assert zoo.load("larger/model.safetensors").zoo.preprocessing.size == (48, 32)
    thin = {"checkpoint": "run/thin.safetensors"}
    path = recipe(bands / "thin.yaml", {"image_size": 48, "channels": 6}, thin, steps=[{"train": TRAIN}])
    with pytest.raises(InputError, match=r"thin\.safetensors contains only what differs.*save: \{only: all\}"):
        zoo.finetune(path, output="no", progress=Listener())


def test_the_first_convolution_of_any_network(bands):
    steps = [{"adapt_input": "auto"}, {"swap_head": "auto"}, {"train": {"max_steps": 1}}]
    data = {"image_size": 32, "channels": 6, "mean": "measure", "std": "measure"}
    run = zoo.finetune(
        recipe(bands / "r.yaml", data, "torchvision/squeezenet1_1", steps=steps), output="run", progress=Listener()
    )
    assert zoo.evaluate("run/model.safetensors")["metrics"] == run.report["metrics"]
    assert zoo.load("run/model.safetensors").features[0].in_channels == 6
