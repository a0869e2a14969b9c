"""The full training state on disk, without pickle, and always whole: what `--resume` goes on from.

A run's `state/` folder holds `state.json` and the safetensors files that it names: `base`, the model as it was when the
present train step began, and `step`, what has moved since (parameters, averages, optimizer, generators). `state.json`
is replaced last, so that it never names a file that is not there. What is frozen is written once a train step.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zoo.checkpoint.atomic import atomic_file, write_all
from zoo.checkpoint.save import save_tensors, tied_aliases
from zoo.errors import InputError, Problem, WorkError
from zoo.training.pack import pack, unpack

FORMAT = 1
FREE_TO_CHANGE = ("device", "name", "data.workers", "data.cache")  # nothing that training computes depends on these


@dataclass
class Saved:
    """A state as read back: which step of the chain was at work, what `StateFolder` was given to keep, and the model's
    tensors: those at the beginning of that step, with what has moved since laid over them."""

    step: int
    run: dict[str, Any]
    training: dict[str, Any]
    model: dict[str, Tensor]


class StateFolder:
    """Reads and writes the state of one run; `recipe` is the resolved recipe, which a resumed run has to agree with."""

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        self.folder = folder
        self.recipe = json.loads(json.dumps(recipe))
        self._written: dict[str, Any] = {}

    def begin(self, step: int, run: dict[str, Any], training: dict[str, Any], model: Mapping[str, Tensor]) -> None:
        """A train step begins: its number in the chain, what the run has to remember (plain data), what trains (nested,
        with tensors), and all tensors of the model."""
        self.folder.mkdir(parents=True, exist_ok=True)
        base = f"base-{step}.safetensors"
        start = self._write(base, training, model)
        self._written = {"step": step, "run": run, "base": base, "whole": start}
        self._commit({"latest": start})

    def save(self, training: dict[str, Any], moved: Mapping[str, Tensor], *, steps: int, whole: bool) -> None:
        """The state after `steps` optimizer steps: nested state of everything that trains, and what moved.

        `whole` marks the end of an epoch; the last such state is kept beside a later one.
        """
        latest = self._write(f"step-{self._written['step']}-{steps}.safetensors", training, moved)
        if whole:
            self._written["whole"] = latest
        self._commit({"latest": latest})

    def _write(self, name: str, training: dict[str, Any], model: Mapping[str, Tensor]) -> dict[str, Any]:
        aliases = tied_aliases(model)  # loading one name of a shared tensor fills the others
        tensors = {f"model.{name}": tensor for name, tensor in model.items() if name not in aliases}
        packed = pack(training, "state", tensors)
        tensors |= {alias: tensors[alias].clone() for alias in tied_aliases(tensors)}
        save_tensors(tensors, self.folder / name)
        return {"file": name, "training": packed}

    def finish(self) -> None:
        """The run is done: its tensors are in the checkpoint now; the record that it ended stays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._written = {}
        self._commit({"finished": True})

    def clear(self) -> None:
        """Forget an earlier run's state."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def finished(self) -> bool:
        return bool(self._read().get("finished"))

    def load(self, *, whole: bool = False) -> Saved | None:
        """The latest state, or with `whole` that after the last whole epoch; None when there is none to go on from.

        Raises InputError when the run was started with another recipe, naming every difference, and WorkError when
        the files are damaged.
        """
        document = self._read()
        if not document:
            return None
        self._agree(document["recipe"])
        if document.get("finished"):
            return None
        self._written = {key: document[key] for key in ("step", "run", "base", "whole") if key in document}
        chosen = document["whole" if whole else "latest"]
        tensors = self._tensors(document["base"]) | self._tensors(chosen["file"])
        model = {key.removeprefix("model."): tensor for key, tensor in tensors.items() if key.startswith("model.")}
        return Saved(document["step"], document["run"], unpack(chosen["training"], tensors), model)

    def _commit(self, values: dict[str, Any]) -> None:
        document = {"format": FORMAT, "recipe": self.recipe, **self._written, **values}
        write_json(self.folder / "state.json", document)
        named = [document.get("latest"), document.get("whole")]
        kept = {"state.json", document.get("base"), *(entry["file"] for entry in named if entry)}
        for path in self.folder.iterdir():
            if path.name not in kept:
                with suppress(OSError):  # Windows keeps a file while its tensors are in use; the next commit has it
                    path.unlink()

    def _read(self) -> dict[str, Any]:
        path = self.folder / "state.json"
        try:
            document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise self._damaged(path, error) from error
        if document.get("format") != FORMAT:
            raise InputError(f"{path} was written by another version of zoo", suggestion="run without --resume")
        return document

    def _tensors(self, name: str) -> dict[str, Tensor]:
        try:
            return load_file(self.folder / Path(name).name)
        except (OSError, SafetensorError) as error:
            raise self._damaged(self.folder / name, error) from error

    def _damaged(self, path: Path, error: Exception) -> WorkError:
        return WorkError(f"the training state {path} cannot be read: {error}", suggestion="run without --resume")

    def _agree(self, recipe: dict[str, Any]) -> None:
        before, now = dict(_flat(recipe)), dict(_flat(self.recipe))
        changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
        if problems := [
            Problem(f"{key} was {before.get(key, 'not set')!r} when this run began and is {now.get(key, 'not set')!r}")
            for key in changed
            if key not in FREE_TO_CHANGE
        ]:
            advice = (
                "a changed recipe cannot be resumed: change it back, run without --resume, or into another --output"
            )
            raise InputError([*problems, Problem(advice)])


def write_json(path: Path, document: Any) -> None:
    """Replace `path` by the document, whole or not at all."""
    with atomic_file(path) as descriptor:
        write_all(descriptor, (json.dumps(document, indent=1) + "\n").encode(), 0)


def _flat(value: Any, path: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        items: list[tuple[Any, Any]] = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return [(path, value)]
    return [pair for key, item in items for pair in _flat(item, f"{path}.{key}" if path else str(key))]
