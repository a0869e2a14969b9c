"""What a resumed run says when something is not as it was: the table of docs/reproducibility.md."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import zoo
from listeners import Killed, Killing, Notes
from zoo.errors import ZooError
from zoo.training.callbacks import Listener

PAGE = Path(__file__).parents[2] / "docs" / "reproducibility.md"
TABLE = re.compile(r"<!-- table: resume -->\n(.*?)<!-- end -->\n", re.DOTALL)


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(path)


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Data, a run to its end in `whole`, and the same one killed in `run`."""
    home = tmp_path_factory.mktemp("home")
    for number in range(20):
        picture(home / "data" / ("cat", "dog")[number % 2] / f"{number // 2}.png", number)
    train = {"epochs": 3, "lr": 0.01, "feature_cache": "off"}
    recipe = {
        "precision": "float32",
        "model": "timm/test_resnet",
        "data": {"source": "image_folder", "path": "data", "image_size": 32, "batch_size": 8, "workers": 0},
        "steps": [
            {"swap_head": "auto"},
            {"freeze": "all_but_head"},
            {"train": {**train, "epochs": 1}},
            {"train": train},
        ],
    }
    (home / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        zoo.finetune("recipe.yaml", output="whole", progress=Listener())
        with pytest.raises(Killed):
            zoo.finetune("recipe.yaml", output="run", progress=Killing(stage=2, epoch=2))
    return home


def flip(path: Path) -> None:
    """A kilobyte in the middle."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1024] = bytes(value ^ 16 for value in content[middle : middle + 1024])
    path.write_bytes(content)


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def earlier_torch(run: Path) -> None:
    """As if the state had been written with another version."""
    from zoo.training.state import _read_document, _write_document

    document = _read_document(run / "state" / "state.json")
    document["run"]["environment"]["packages"]["torch"] = "2.5.0"
    _write_document(run / "state" / "state.json", document)


CHANGES: dict[str, Callable[[Path], object]] = {
    "nothing": lambda home: None,
    "an image removed": lambda home: (home / "data/cat/3.png").unlink(),
    "an image added": lambda home: picture(home / "data/cat/33.png", 99),
    "an image replaced by another of its name": lambda home: picture(home / "data/cat/3.png", 99),
    "an image moved to another class": lambda home: (home / "data/cat/3.png").rename(home / "data/dog/33.png"),
    "a class renamed": lambda home: (home / "data/cat").rename(home / "data/zebra"),
    "a class added": lambda home: [picture(home / f"data/owl/{n}.png", 50 + n) for n in range(5)],
    "another folder of data": lambda home: (
        shutil.copytree(home / "data", home / "other"),
        edit(home / "recipe.yaml", "path: data", "path: other"),
    ),
    "another batch size": lambda home: edit(home / "recipe.yaml", "batch_size: 8", "batch_size: 4"),
    "another learning rate of the train step it was at": lambda home: edit(
        home / "recipe.yaml",
        "epochs: 3\n    feature_cache: 'off'\n    lr: 0.01",
        "epochs: 3\n    lr: 0.002\n    feature_cache: 'off'",
    ),
    "another version of torch": lambda home: earlier_torch(home / "run"),
    "a kilobyte of the newest state flipped": lambda home: flip(home / "run/state/step-3-4.safetensors"),
    "`state.json` cut off": lambda home: (home / "run/state/state.json").write_text("{"),
    "`state.json` removed": lambda home: (home / "run/state/state.json").unlink(),
    "the frozen part of the state flipped, which no state can do without": lambda home: flip(
        home / "run/state/base-3.safetensors"
    ),
}


def resumed(home: Path) -> tuple[str, str]:
    """What zoo does, and what it says about it."""
    notes = Notes()
    try:
        run = zoo.finetune("recipe.yaml", output="run", resume=True, progress=notes)
    except ZooError as error:
        said = "; ".join(str(problem) for problem in error.problems)
        return "refuses", said
    same = all(
        torch.equal(*pair)
        for pair in zip(
            *(load_file(path).values() for path in (run.checkpoint, "whole/model.safetensors")), strict=True
        )
    )
    said = "; ".join(note for note in notes.notes if note.startswith(("warning: ", "resumed with a change")))
    return "goes on: the same bits" if same else "goes on", said


@pytest.mark.slow
def test_the_page_has_what_a_resumed_run_says(home, tmp_path, monkeypatch):
    rows = ["| what changed | what zoo does | and says |", "| --- | --- | --- |"]
    for number, (what, change) in enumerate(CHANGES.items()):
        copy = tmp_path / str(number)
        shutil.copytree(home, copy)
        edit(copy / "run" / ".zoo-run.json", str(home), str(copy))
        monkeypatch.chdir(copy)
        change(copy)
        does, said = resumed(copy)
        said = said.replace(str(copy) + os.sep, "").replace(torch.__version__, "2.6.0").replace("|", "\\|")
        rows.append(f"| {what} | {does} | {said} |")
    made = "\n".join(rows) + "\n"
    found = TABLE.search(PAGE.read_text())
    if os.environ.get("ZOO_WRITE_GOLDEN"):
        PAGE.write_text(PAGE.read_text().replace(found[0], f"<!-- table: resume -->\n{made}<!-- end -->\n"))
    else:
        assert found[1] == made


def test_the_list_of_samples_of_a_killed_run_can_be_read(home):
    lines = (home / "run" / "state" / "samples.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)[2] for line in lines) == sorted(
        f"{name}/{number}.png" for name in ("cat", "dog") for number in range(10)
    )
