"""The full training state on disk, without pickle, and always whole: what `--resume` goes on from.

A run's `state/` folder holds `state.json` and the safetensors files that it names: `base`, the model as it was when the
present train step began, and `step`, what has moved since (parameters, averages, optimizer, generators). `state.json`
is replaced last, so that it never names a file that is not there. What is frozen is written once a train step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zoo.errors import InputError, Problem, WorkError
from zoo.file_name import name_mistake
from zoo.formats.files import atomic_file, write_all
from zoo.formats.save import save_tensors, tied_aliases
from zoo.training.folder import INSIDE, STATE
from zoo.training.resume import HARMLESS, Change, changes, refused

# A mapping with one of these keys alone stands for what JSON has no form for.
TENSOR, TUPLE, ITEMS = "$tensor", "$tuple", "$items"


def pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as plain JSON; tensors in it go into `tensors` under names that begin with `name`.

    Tuples and mappings with keys other than strings come back as they were. Raises WorkError for anything else than
    numbers, strings, None, tensors and lists, tuples and mappings of them.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        tensors[name] = value.detach()
        return {TENSOR: name}
    if isinstance(value, list | tuple):
        items = [pack(item, f"{name}.{index}", tensors) for index, item in enumerate(value)]
        return items if isinstance(value, list) else {TUPLE: items}
    if isinstance(value, Mapping):
        packed = {key: pack(item, f"{name}.{key}", tensors) for key, item in value.items()}
        plain = all(isinstance(key, str) and not key.startswith("$") for key in packed)
        return packed if plain else {ITEMS: [[key, item] for key, item in packed.items()]}
    raise WorkError(f"training state cannot be kept: {name} is a {type(value).__name__}, which JSON has no form for")


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` was given; tensors are copies. Raises WorkError where a tensor is missing."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if TENSOR in value:
        if value[TENSOR] not in tensors:
            raise WorkError(f"training state is incomplete: it lacks the tensor {value[TENSOR]}")
        return tensors[value[TENSOR]].clone()
    if TUPLE in value:
        return tuple(unpack(item, tensors) for item in value[TUPLE])
    if ITEMS in value:
        return {key: unpack(item, tensors) for key, item in value[ITEMS]}
    return {key: unpack(item, tensors) for key, item in value.items()}


FORMAT = 1


@dataclass
class Saved:
    """A state as read back: which step of the chain was at work, what `StateFolder` was given to keep, and the model's
    tensors: those at the beginning of that step, with what has moved since laid over them.

    `taken` are the recipe's changes since. `options` are what the step was given before, where these have changed, and
    `failed` is why it ended, where nothing has changed since that could make it end otherwise."""

    step: int
    run: dict[str, Any]
    training: dict[str, Any]
    model: dict[str, Tensor]
    taken: list[Change] = field(default_factory=list)
    options: dict[str, Any] | None = None
    failed: dict[str, Any] | None = None

    @property
    def anew(self) -> bool:
        """Whether the step begins anew: its options have changed, and none of its epochs is done."""
        return self.options is not None and self.training["progress"]["epoch"] == 0


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
        if base == self._written.get("base"):  # the step begins anew: until then, what is there has to stay
            base = f"base-{step}-1.safetensors"
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

    def fail(self, message: str, conditions: Mapping[str, Any]) -> None:
        """The train step in progress came to an end that it will come to again, as long as the recipe and the
        `conditions` (device and the like) are these."""
        if document := self._read():
            failed = {"message": message, "recipe": self.recipe, "conditions": dict(conditions)}
            write_json(self.folder / "state.json", {**document, "failed": failed})

    def finished(self) -> bool:
        return bool(self._read().get("finished"))

    def changes(self) -> list[Change]:
        """How the recipe differs from the one that the state was written with; nothing where there is no state."""
        document = self._read()
        return changes(document["recipe"], self.recipe) if document else []

    def load(self) -> Saved | None:
        """The state to go on from; None when there is none.

        That is the latest state, or where options of its train step have changed the one after its last whole epoch.
        Raises InputError for changes of the recipe that alter what is done already, naming each, and WorkError when
        the files are damaged.
        """
        document = self._read()
        if not document:
            return None
        found = changes(document["recipe"], self.recipe)
        if document.get("finished"):
            _agree(found, found, "this run is finished: train on from its checkpoint in another run (model.weights)")
            return None
        step = document["step"]
        (given,) = document["recipe"]["steps"][step].values() if step < len(document["recipe"]["steps"]) else ({},)
        progress = document["whole"]["training"].get("progress", {"epoch": 0, "steps": 0})
        advice = "what is done already stays as it is: change these back, or start anew with another --output"
        _agree(found, refused(found, step, progress, given), advice)
        own = any(change.step == step and change.option not in HARMLESS for change in found)
        saved = self._saved(document, "whole" if own else "latest")
        saved.taken, saved.options = found, given if own else None
        failed = document.get("failed")
        if failed and not any(
            change.step is None or change.step <= step for change in changes(failed["recipe"], self.recipe)
        ):
            saved.failed = failed
        return saved

    def last_epoch(self) -> Saved | None:
        """The state after the last whole epoch, or at the beginning of the train step."""
        document = self._read()
        return self._saved(document, "whole") if "whole" in document else None

    def _saved(self, document: dict[str, Any], which: str) -> Saved:
        self._written = {key: document[key] for key in ("step", "run", "base", "whole") if key in document}
        tensors = self._tensors(document["base"]) | self._tensors(document[which]["file"])
        model = {key.removeprefix("model."): tensor for key, tensor in tensors.items() if key.startswith("model.")}
        return Saved(document["step"], document["run"], unpack(document[which]["training"], tensors), model)

    def _commit(self, values: dict[str, Any]) -> None:
        document = {"format": FORMAT, "recipe": self.recipe, **self._written, **values}
        write_json(self.folder / "state.json", document)
        named = [document.get("latest"), document.get("whole")]
        kept = {"state.json", document.get("base"), *(entry["file"] for entry in named if entry)}
        for path in self.folder.iterdir():
            if path.name not in kept and INSIDE[STATE].fullmatch(path.name):
                with suppress(OSError):  # Windows keeps a file while its tensors are in use; the next commit has it
                    path.unlink(missing_ok=True)

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
            if mistake := name_mistake(name):
                raise OSError(f"{name!r} names no file there: {mistake}")
            return load_file(self.folder / name)
        except (OSError, SafetensorError) as error:
            raise self._damaged(self.folder / name, error) from error

    def _damaged(self, path: Path, error: Exception) -> WorkError:
        return WorkError(f"the training state {path} cannot be read: {error}", suggestion="run without --resume")


def _agree(found: list[Change], wrong: list[Change], advice: str) -> None:
    """Raises InputError for changes that cannot be taken, saying also which of the others could."""
    if wrong:
        fine = [change for change in found if change not in wrong]
        also = [Problem(f"this could change: {change}") for change in fine]
        raise InputError([*(change.problem() for change in wrong), *also, Problem(advice)])


def write_json(path: Path, document: Any) -> None:
    """Replace `path` by the document, whole or not at all."""
    with atomic_file(path) as descriptor:
        write_all(descriptor, (json.dumps(document, indent=1) + "\n").encode(), 0)
