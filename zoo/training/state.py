"""The resume state on disk: everything that `--resume` continues from, complete at any moment, without pickle.

A run's `state/` folder contains `state.json` and the safetensors files that it names: `base`, the model as it was when
the current train step began, and `step`, what has changed since (parameters, averages, optimizer, generators). The
frozen part of a model is therefore written once a train step, not with every epoch.

A run may be killed at any instruction. So a new state goes into a new file, which is complete before `state.json` is
replaced (atomically) by one that names it; only then are files removed that nothing names any longer. Two states are
kept: the latest, from which a killed run goes on bit for bit, perhaps in the middle of an epoch, and the one after the
last complete epoch, to which a run returns after a failure or with changed options.

Nested state (an optimizer's dictionaries, generators' tuples) becomes JSON whose tensors are names in the safetensors
file: `pack` and `unpack`.
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

FORMAT = 1


@dataclass
class Saved:
    """A state as read back: the index of the train step, what `StateFolder` was given, and the model's tensors.

    `taken` are the recipe's changes since. `options` are what the step was given before, where these have changed, and
    `failed` is why it ended, where nothing has changed since that could make it end otherwise.
    """

    step: int
    run: dict[str, Any]
    training: dict[str, Any]
    model: dict[str, Tensor]
    taken: list[Change] = field(default_factory=list)
    options: dict[str, Any] | None = None
    failed: dict[str, Any] | None = None

    @property
    def restarts(self) -> bool:
        """Whether the step starts again: its options have changed, and none of its epochs is complete."""
        return self.options is not None and self.training["progress"]["epoch"] == 0


class StateFolder:
    """Reads and writes the resume state of one run; `recipe` is the resolved recipe, which decides what may change."""

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        self.folder = folder
        self.recipe = json.loads(json.dumps(recipe))
        self._written: dict[str, Any] = {}

    def begin(self, step: int, run: dict[str, Any], training: dict[str, Any], model: Mapping[str, Tensor]) -> None:
        """Write the state at the beginning of a train step.

        `step` is its index, `run` what the run has to know again (plain data), `training` the state of everything that
        trains (nested, with tensors), and `model` all tensors of the model.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        base = f"base-{step}.safetensors"
        if base == self._written.get(
            "base"
        ):  # the step starts again: until its state is complete, the old one has to stay
            base = f"base-{step}-1.safetensors"
        start = self._write(base, training, model)
        self._written = {"step": step, "run": run, "base": base, "epoch_end": start}
        self._commit({"latest": start})

    def save(self, training: dict[str, Any], changed: Mapping[str, Tensor], *, steps: int, epoch_end: bool) -> None:
        """Write the state after `steps` optimizer steps: of everything that trains, and the tensors that changed.

        The last state at the end of an epoch is kept beside a later one.
        """
        latest = self._write(f"step-{self._written['step']}-{steps}.safetensors", training, changed)
        if epoch_end:
            self._written["epoch_end"] = latest
        self._commit({"latest": latest})

    def _write(self, name: str, training: dict[str, Any], model: Mapping[str, Tensor]) -> dict[str, Any]:
        aliases = tied_aliases(model)  # loading one name of a shared tensor fills the others
        tensors = {f"model.{name}": tensor for name, tensor in model.items() if name not in aliases}
        packed = pack(training, "state", tensors)
        tensors |= {alias: tensors[alias].clone() for alias in tied_aliases(tensors)}
        save_tensors(tensors, self.folder / name)
        return {"file": name, "training": packed}

    def finish(self) -> None:
        """Record that the run is finished, and remove its tensors, which are in the checkpoint now."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._written = {}
        self._commit({"finished": True})

    def fail(self, message: str, conditions: Mapping[str, Any]) -> None:
        """Record that the train step failed, as it would again with this recipe and these `conditions` (the device)."""
        if document := self._read():
            failed = {"message": message, "recipe": self.recipe, "conditions": dict(conditions)}
            write_json(self.folder / "state.json", {**document, "failed": failed})

    def finished(self) -> bool:
        return bool(self._read().get("finished"))

    def changes(self) -> list[Change]:
        """The differences between the recipe and the one that the state was written with; empty without a state."""
        document = self._read()
        return changes(document["recipe"], self.recipe) if document else []

    def load(self) -> Saved | None:
        """The state to continue from; None where there is none.

        That is the latest state, or, where options of its train step have changed, the one after its last complete
        epoch. Raises InputError for changes of the recipe that alter what is already done, naming each, and WorkError
        when the files are damaged.
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
        progress = document["epoch_end"]["training"].get("progress", {"epoch": 0, "steps": 0})
        advice = "what is already done stays as it is: change these back, or start a new run with another --output"
        _agree(found, refused(found, step, progress, given), advice)
        own = any(change.step == step and change.option not in HARMLESS for change in found)
        saved = self._saved(document, "epoch_end" if own else "latest")
        saved.taken, saved.options, saved.failed = found, given if own else None, self._still_failing(document)
        return saved

    def _still_failing(self, document: dict[str, Any]) -> dict[str, Any] | None:
        """The record of a failure, unless the recipe has changed since up to the step that failed."""
        failed: dict[str, Any] | None = document.get("failed")
        since = changes(failed["recipe"], self.recipe) if failed else []
        return None if any(change.step is None or change.step <= document["step"] for change in since) else failed

    def last_epoch(self) -> Saved | None:
        """The state after the last complete epoch, or at the beginning of the train step."""
        document = self._read()
        return self._saved(document, "epoch_end") if "epoch_end" in document else None

    def _saved(self, document: dict[str, Any], which: str) -> Saved:
        self._written = {key: document[key] for key in ("step", "run", "base", "epoch_end") if key in document}
        tensors = self._tensors(document["base"]) | self._tensors(document[which]["file"])
        model = {key.removeprefix("model."): tensor for key, tensor in tensors.items() if key.startswith("model.")}
        return Saved(document["step"], document["run"], unpack(document[which]["training"], tensors), model)

    def _commit(self, values: dict[str, Any]) -> None:
        document = {"format": FORMAT, "recipe": self.recipe, **self._written, **values}
        write_json(self.folder / "state.json", document)
        named = [document.get("latest"), document.get("epoch_end")]
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
        return WorkError(f"the resume state {path} cannot be read: {error}", suggestion="run without --resume")


def _agree(found: list[Change], wrong: list[Change], advice: str) -> None:
    """Raises InputError for changes that cannot be taken, saying also which of the others could."""
    if wrong:
        fine = [change for change in found if change not in wrong]
        also = [Problem(f"this could change: {change}") for change in fine]
        raise InputError([*(change.problem() for change in wrong), *also, Problem(advice)])


def write_json(path: Path, document: Any) -> None:
    """Replace `path` by the document, completely or not at all."""
    with atomic_file(path) as descriptor:
        write_all(descriptor, (json.dumps(document, indent=1) + "\n").encode(), 0)


# A mapping with one of these keys alone represents what JSON cannot.
TENSOR, TUPLE, ITEMS = "$tensor", "$tuple", "$items"


def pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as plain JSON; tensors in it go into `tensors` under names that begin with `name`.

    Tuples, and mappings with keys other than strings, are restored by `unpack`. Raises WorkError for anything else than
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
    raise WorkError(
        f"the resume state cannot be written: {name} is a {type(value).__name__}, which JSON cannot represent"
    )


def unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `pack` was given; tensors are copies. Raises WorkError where a tensor is missing."""
    if isinstance(value, list):
        return [unpack(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if TENSOR in value:
        if value[TENSOR] not in tensors:
            raise WorkError(f"the resume state is incomplete: it lacks the tensor {value[TENSOR]}")
        return tensors[value[TENSOR]].clone()
    if TUPLE in value:
        return tuple(unpack(item, tensors) for item in value[TUPLE])
    if ITEMS in value:
        return {key: unpack(item, tensors) for key, item in value[ITEMS]}
    return {key: unpack(item, tensors) for key, item in value.items()}
