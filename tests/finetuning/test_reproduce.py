"""zoo reproduce: bit-equal where nothing changed; else where the runs part, in which tensors, and why."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

import zoo
from zoo.cli import run as command
from zoo.errors import InputError
from zoo.formats.safetensors_file import read_header
from zoo.training.callbacks import Listener

STEPS = [{"swap_head": "auto"}, {"freeze": "all_but_head"}, {"train": {"epochs": 2, "lr": 0.01}}]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with images, and a finished run on them."""
    home = tmp_path_factory.mktemp("made")
    for number, name in enumerate(("cat", "dog")):
        (home / "data" / name).mkdir(parents=True)
        for index in range(10):
            pixels = np.random.default_rng([number, index]).integers(0, 255, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(home / "data" / name / f"{index}.png")
    data = {"source": "image_folder", "path": str(home / "data"), "image_size": 32, "batch_size": 8, "workers": 0}
    recipe = {"model": "timm/test_resnet", "data": data, "steps": STEPS}
    (home / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    zoo.finetune(home / "recipe.yaml", output=home / "run", progress=Listener())
    return home


@pytest.fixture
def home(made, tmp_path) -> Path:
    """A copy of the run that may be spoilt, on a copy of the data."""
    shutil.copytree(made, tmp_path / "made")
    recipe = tmp_path / "made" / "run" / "recipe.yaml"
    change(tmp_path / "made", recipe=recipe.read_text().replace(str(made), str(tmp_path / "made")))
    return tmp_path / "made"


def change(home: Path, *, recipe: str | None = None, **values) -> None:
    """Other values in the report, or another recipe of which the report knows."""
    path = home / "run" / "report.json"
    report = json.loads(path.read_text())
    if recipe is not None:
        (home / "run" / "recipe.yaml").write_text(recipe)
        report["recipe_sha256"] = hashlib.sha256(recipe.encode()).hexdigest()
    report.update(values)
    path.write_text(json.dumps(report))


def again(home: Path):
    return zoo.reproduce(home / "run", progress=Listener())


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_run_is_reproduced_bit_for_bit_and_left_alone(made, tmp_path, capsys):
    before = files(made / "run")
    assert command(["reproduce", str(made / "run"), "--json", "--output", str(tmp_path / "again")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["equal"], found["parts"], found["tensors"], found["causes"]) == (True, None, [], [])
    assert found["compared"] == len(load_file(made / "run" / "model.safetensors"))
    assert files(made / "run") == before
    assert (tmp_path / "again" / "model.safetensors").exists()


def test_changed_data_is_named(home):
    shutil.copy(home / "data" / "dog" / "3.png", home / "data" / "cat" / "3.png")
    found = again(home)
    assert not found.equal
    assert found.parts == "step 3 (train), epoch 1"
    assert set(found.tensors) == {"fc.weight", "fc.bias"}
    assert found.causes == ("data: 1 sample of other bytes: cat/3.png",)
    assert "first parts at: step 3 (train), epoch 1" in str(found)


def test_an_edited_recipe_and_another_environment_are_named(home, capsys):
    recipe = home / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("seed: 0", "seed: 1") + "seed: 7\n")
    report = json.loads((home / "run" / "report.json").read_text())
    packages = {**report["environment"]["packages"], "torch": "1.0"}
    change(home, environment={**report["environment"], "threads": 99, "packages": packages})
    assert command(["reproduce", str(home / "run")]) == 1
    said = capsys.readouterr().out
    assert "first parts at: the model with its weights, before the first step" in said
    assert f"likely cause: {recipe} was edited: it is not the recipe that ran" in said
    assert f"likely cause: threads: 99 then, {torch.get_num_threads()} now" in said
    assert f"likely cause: torch: 1.0 then, {torch.__version__} now" in said


def test_a_checkpoint_or_a_metric_that_was_edited_is_found(home):
    path = home / "run" / "model.safetensors"
    tensors = load_file(path)
    tensors["fc.bias"] = tensors["fc.bias"] + 1
    save_file(tensors, path, read_header(path).metadata)
    change(home, metrics={"accuracy": 2.0})
    found = again(home)
    assert (found.equal, found.parts, found.tensors) == (False, None, ("fc.bias",))
    assert found.largest == pytest.approx(1, rel=1e-3)
    assert found.metrics["accuracy"][0] == 2.0
    assert found.causes == (f"{path} was changed: it is not the model that the run left",)


def test_only_a_finished_run_can_be_reproduced(home, tmp_path):
    with pytest.raises(InputError, match=r"report.json does not exist"):
        zoo.reproduce(tmp_path)
    change(home, interrupted=True)
    with pytest.raises(InputError, match=r"ended early, and has no result"):
        again(home)
    change(home, interrupted=False)
    (home / "run" / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"lacks model.safetensors"):
        again(home)
