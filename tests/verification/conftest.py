"""Small runs to verify, and edits of what they left."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.formats.checkpoint_metadata import DIGITS, CheckpointMetadata, digests_of
from zoo.formats.entry import Entry
from zoo.formats.save import save_tensors
from zoo.formats.tensors import NAMES
from zoo.model.build import build
from zoo.model.freezing import tensor_sha256
from zoo.training.callbacks import Listener
from zoo.training.folder import sealed

DATA = {"source": "sklearn/digits", "image_size": 32, "batch_size": 32, "limit": 60}


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """Weights of the tutorials' small network, as some other program wrote them."""
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("base") / "net_a.safetensors"
    save_tensors(build("tutorial/net_a").model.state_dict(), path)
    return path


@pytest.fixture(scope="session")
def finetuned(tmp_path_factory) -> Callable[..., Path]:
    """Carries out a recipe of these steps, quietly; its folder."""

    def run(
        steps: list[Any], *, model: Any = "tutorial/net_a", data: Any = None, name: str = "run", **more: Any
    ) -> Path:
        folder = tmp_path_factory.mktemp("verified") / name
        recipe = {
            "name": name,
            "seed": 0,
            "model": {"architecture": model} if isinstance(model, str) else model,
            **({"data": {**DATA, **(data or {})}} if data is not False else {}),
            "steps": steps,
        }
        zoo.finetune(recipe, output=folder, progress=Listener(), device="cpu", **more)
        return folder

    return run


@pytest.fixture(scope="session")
def original(finetuned, base) -> Path:
    """A run with everything in it: base weights, a new head, a frozen backbone, training, metrics."""
    steps = [{"swap_head": "auto"}, {"freeze": "all_but_head"}, {"train": {"epochs": 8, "lr": 0.02}}]
    return finetuned(steps, model={"architecture": "tutorial/net_a", "weights": str(base)}, data={"limit": 150})


@pytest.fixture
def copied(original, tmp_path) -> Path:
    """A copy of that run, to be edited."""
    return Path(shutil.copytree(original, tmp_path / "copy"))


def edit_checkpoint(
    path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None], *, own: bool
) -> None:
    """Rewrite a checkpoint as `change(metadata, tensors)` leaves it; with `own` its own digests too."""
    header = json.loads(path.read_bytes()[8:].split(b"\0", 1)[0][: int.from_bytes(path.read_bytes()[:8], "little")])
    record, tensors = json.loads(header["__metadata__"]["zoo"]), load_file(path)
    change(record, tensors)
    if own:
        record["tensor_digests"] = {name: tensor_sha256(tensor)[:DIGITS] for name, tensor in tensors.items()}
        entries = [Entry(name, NAMES[tensor.dtype], tuple(tensor.shape)) for name, tensor in tensors.items()]
        record["digests"] = digests_of(CheckpointMetadata.model_validate(record).model_dump(), entries)
    save_file(tensors, path, {**header["__metadata__"], "zoo": json.dumps(record)})


def edit_report(folder: Path, change: Callable[[dict[str, Any]], None], *, own: bool) -> None:
    """Rewrite the report as `change(report)` leaves it; with `own` its seal too."""
    report = json.loads((folder / "report.json").read_text())
    change(report)
    (folder / "report.json").write_text(json.dumps(sealed(report) if own else report))
