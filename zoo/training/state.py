"""The resume state on disk: everything that `--resume` continues from, complete at any moment, without pickle.

A run's `state/` folder contains `state.json` and the safetensors files that it names: `base`, the model as it was when
the current train step began, and `step`, what has changed since (parameters, averages, optimizer, generators). The
frozen part of a model is therefore written once a train step, not with every epoch.

A run may be killed at any instruction. So a new state goes into a new file, which is complete before `state.json` is
replaced (atomically) by one that names it; only then are files removed that nothing names any longer. It names two
states: the latest, from which a killed run goes on bit for bit, perhaps in the middle of an epoch, and the one after
the last complete epoch, to which a run returns after a failure or with changed options.

A disk may give other bytes back than it was given. So `state.json` has a digest of itself and of every file that it
names, and the `state.json` before stays as `before.json`, with its files: where the newest state is damaged, a run
goes on from the one before, and says so. That costs the disk a second `step` file, and in the first epoch of a later
train step a second `base`.

Nested state (an optimizer's dictionaries, generators' tuples) becomes JSON whose tensors are names in the safetensors
file: `pack` and `unpack`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
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
from zoo.training.folder import INSIDE, SAMPLES, STATE
from zoo.training.resume import HARMLESS, Change, changes, refused, without_pins

FORMAT = 2
TRIAL = "step-0-0.safetensors"  # no state has this name: one is written behind a step
CURRENT, BEFORE = "state.json", "before.json"
ANEW = "begin anew, which replaces it: --overwrite; or keep it, with another --output"


@dataclass
class Saved:
    """A state as read back: the index of the train step, what `StateFolder` was given, and the model's tensors.

    `taken` are the recipe's changes since. `options` are what the step was given before, where these have changed, and
    `failed` is why it ended, where nothing has changed since that could make it end otherwise. `digest` is that of the
    file of its tensors, `damage` what could not be read of newer states.
    """

    step: int
    run: dict[str, Any]
    training: dict[str, Any]
    model: dict[str, Tensor]
    digest: str = ""
    taken: list[Change] = field(default_factory=list)
    options: dict[str, Any] | None = None
    failed: dict[str, Any] | None = None
    damage: list[str] = field(default_factory=list)

    @property
    def restarts(self) -> bool:
        """Whether the step starts again: its options have changed, and none of its epochs is complete."""
        return self.options is not None and self.training["progress"]["epoch"] == 0


class DamagedError(Exception):
    """A file of the state that is missing, or is not what was written."""


class StateFolder:
    """Reads and writes the resume state of one run; `recipe` is the resolved recipe, which decides what may change."""

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        self.folder = folder
        self.recipe = json.loads(json.dumps(recipe))
        self._written: dict[str, Any] = {}
        self._current: dict[str, Any] | None = None  # the document that is, or was found, sound

    def exists(self) -> bool:
        """Whether there is a state to go on from."""
        return (self.folder / CURRENT).exists()

    def begin(self, step: int, run: dict[str, Any], training: dict[str, Any], model: Mapping[str, Tensor]) -> str:
        """Write the state at the beginning of a train step; the digest of its tensors.

        `step` is its index, `run` what the run has to know again (plain data), `training` the state of everything that
        trains (nested, with tensors), and `model` all tensors of the model.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        named, self._written = _named(self._current), {}  # until the new state is complete, the old one has to stay
        numbers = (f"base-{step}{suffix}.safetensors" for suffix in ("", "-1", "-2"))
        start = self._write(next(name for name in numbers if name not in named), training, model)
        base = {key: start[key] for key in ("file", "sha256")}
        self._written = {"step": step, "run": run, "base": base, "tensors": len(model), "epoch_end": start}
        self._commit({"latest": start})
        return str(start["sha256"])

    def save(self, training: dict[str, Any], changed: Mapping[str, Tensor], *, steps: int, epoch_end: bool) -> str:
        """Write the state after `steps` optimizer steps: of everything that trains, and the tensors that changed.

        The last state at the end of an epoch is kept beside a later one. Returns the digest of the tensors.
        """
        named = _named(self._current)  # one after these very steps is complete until the new one is
        numbers = (f"step-{self._written['step']}-{steps}{suffix}.safetensors" for suffix in ("", "-1", "-2"))
        latest = self._write(next(name for name in numbers if name not in named), training, changed)
        if epoch_end:
            self._written["epoch_end"] = latest
        self._commit({"latest": latest})
        return str(latest["sha256"])

    def write_on_trial(self, training: dict[str, Any], changed: Mapping[str, Tensor]) -> int:
        """Write what `save` would, and remove it again: the bytes that it took."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / TRIAL
        try:
            self._write(TRIAL, training, changed)
            return path.stat().st_size
        finally:
            path.unlink(missing_ok=True)

    def _write(self, name: str, training: dict[str, Any], model: Mapping[str, Tensor]) -> dict[str, Any]:
        aliases = tied_aliases(model)  # loading one name of a shared tensor fills the others
        tensors = {f"model.{name}": tensor for name, tensor in model.items() if name not in aliases}
        packed = pack(training, "state", tensors)
        tensors |= {alias: tensors[alias].clone() for alias in tied_aliases(tensors)}
        complete = len(model) >= self._written.get("tensors", 0)  # then the base is not needed to read it
        return {
            "file": name,
            "sha256": save_tensors(tensors, self.folder / name),
            "complete": complete,
            "training": packed,
        }

    def finish(self) -> None:
        """Record that the run is finished, and remove its tensors, which are in the checkpoint now."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._written, self._current = {}, None
        self._commit({"finished": True})

    def fail(self, message: str, conditions: Mapping[str, Any]) -> None:
        """Record that the train step failed, as it would again with this recipe and these `conditions` (the device)."""
        if document := next(iter(self._documents([])), None):
            failed = {"message": message, "recipe": self.recipe, "conditions": dict(conditions)}
            _write_document(self.folder / CURRENT, {**document, "failed": failed})

    def finished(self) -> bool:
        return any(document.get("finished") for document in self._documents([]))

    def changes(self) -> list[Change]:
        """The differences between the recipe and the one that the state was written with; empty without a state."""
        document = next(iter(self._documents([])), None)
        return self._changes(document) if document else []

    def _changes(self, document: dict[str, Any]) -> list[Change]:
        return without_pins(changes(document["recipe"], self.recipe), document.get("run", {}).get("pins", {}))

    def keep_samples(self, text: str) -> None:
        """Write down the samples that the run begins with (`zoo.data.fingerprint`); they stay when it is finished."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.folder / SAMPLES) as descriptor:
            write_all(descriptor, text.encode(), 0)

    def samples(self) -> str | None:
        """What `keep_samples` wrote down; None where it cannot be read."""
        try:
            return (self.folder / SAMPLES).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return None

    def load(self) -> Saved | None:
        """The state to continue from; None where there is none.

        That is the latest state, or, where options of its train step have changed, the one after its last complete
        epoch; where it is damaged the one before. Raises InputError for changes of the recipe that alter what is
        already done, naming each, and WorkError where every state is damaged.
        """
        damage: list[str] = []
        for document in self._documents(damage):
            found = self._changes(document)
            if document.get("finished"):
                _agree(
                    found, found, "this run is finished: train on from its checkpoint in another run (model.weights)"
                )
                return None
            if (saved := self._continued(document, found, damage)) is not None:
                saved.damage = damage
                return saved
        if damage:
            raise WorkError(f"the resume state {self.folder} cannot be read: {'; '.join(damage)}", suggestion=ANEW)
        return None

    def _continued(self, document: dict[str, Any], found: list[Change], damage: list[str]) -> Saved | None:
        """The state in a document that the recipe continues; None, and more `damage`, where its files are not sound."""
        step = document["step"]
        (given,) = document["recipe"]["steps"][step].values() if step < len(document["recipe"]["steps"]) else ({},)
        progress = document["epoch_end"]["training"].get("progress", {"epoch": 0, "steps": 0})
        advice = "what is already done stays as it is: change these back, or start a new run with another --output"
        _agree(found, refused(found, step, progress, given), advice)
        own = any(change.step == step and change.option not in HARMLESS for change in found)
        saved = self._first_sound(document, ["epoch_end"] if own else ["latest", "epoch_end"], damage)
        if saved is not None:
            saved.taken, saved.options, saved.failed = found, given if own else None, self._still_failing(document)
        return saved

    def _first_sound(self, document: dict[str, Any], entries: Sequence[str], damage: list[str]) -> Saved | None:
        for which in entries:
            try:
                return self._saved(document, which)
            except DamagedError as error:
                if str(error) not in damage:
                    damage.append(str(error))
        return None

    def _still_failing(self, document: dict[str, Any]) -> dict[str, Any] | None:
        """The record of a failure, unless the recipe has changed since up to the step that failed."""
        failed: dict[str, Any] | None = document.get("failed")
        since = changes(failed["recipe"], self.recipe) if failed else []
        return None if any(change.step is None or change.step <= document["step"] for change in since) else failed

    def last_epoch(self) -> Saved | None:
        """The state after the last complete epoch, or at the beginning of the train step; None without one."""
        damage: list[str] = []
        for document in self._documents(damage):
            if "epoch_end" in document and (saved := self._first_sound(document, ["epoch_end"], damage)) is not None:
                return saved
        return None

    def beginning(self) -> dict[str, Tensor]:
        """The model's tensors as the present train step began. Raises WorkError where their file is not sound."""
        try:
            tensors = self._tensors(self._written["base"])
        except DamagedError as error:
            raise WorkError(f"the resume state {self.folder} cannot be read: {error}", suggestion=ANEW) from error
        return {key.removeprefix("model."): tensor for key, tensor in tensors.items() if key.startswith("model.")}

    def _saved(self, document: dict[str, Any], which: str) -> Saved:
        entry = document[which]
        tensors = self._tensors(entry)
        if not entry["complete"]:
            tensors = self._tensors(document["base"]) | tensors
        model = {key.removeprefix("model."): tensor for key, tensor in tensors.items() if key.startswith("model.")}
        self._written = {key: document[key] for key in ("step", "run", "base", "tensors", "epoch_end")}
        self._current = {key: value for key, value in document.items() if key != "failed"}
        return Saved(document["step"], document["run"], unpack(entry["training"], tensors), model, entry["sha256"])

    def _commit(self, values: dict[str, Any]) -> None:
        document = {"format": FORMAT, "recipe": self.recipe, **self._written, **values}
        if self._current is not None:
            _write_document(self.folder / BEFORE, self._current, sync=False)  # its digest shows what a power cut does
        _write_document(self.folder / CURRENT, document)
        kept = {CURRENT, SAMPLES, *_named(document), *_named(self._current), *([BEFORE] if self._current else ())}
        self._current = None if document.get("finished") else document
        for path in self.folder.iterdir():
            if path.name not in kept and INSIDE[STATE].fullmatch(path.name):
                with suppress(OSError):  # Windows keeps a file while its tensors are in use; the next commit has it
                    path.unlink(missing_ok=True)

    def _documents(self, damage: list[str]) -> Iterator[dict[str, Any]]:
        """The sound documents, the newest first; what is not sound is added to `damage`."""
        for name in (CURRENT, BEFORE):
            try:
                document = _read_document(self.folder / name)
            except FileNotFoundError:
                if name == CURRENT and (self.folder / BEFORE).exists():
                    damage.append(f"{self.folder / name} is missing")
                continue
            except DamagedError as error:
                damage.append(str(error))
                continue
            yield document

    def _tensors(self, entry: Mapping[str, Any]) -> dict[str, Tensor]:
        path = self.folder / entry["file"]
        try:
            if mistake := name_mistake(entry["file"]):
                raise OSError(f"{entry['file']!r} names no file there: {mistake}")
            with path.open("rb") as file:
                sound = hashlib.file_digest(file, "sha256").hexdigest() == entry["sha256"]
            if not sound:
                raise DamagedError(f"{path} is damaged: its bytes are not those that were written")
            return load_file(path)
        except FileNotFoundError as error:
            raise DamagedError(f"{path} is missing") from error
        except (OSError, SafetensorError) as error:
            raise DamagedError(f"{path} cannot be read: {error}") from error


def _named(document: Mapping[str, Any] | None) -> set[str]:
    """The files that a document names."""
    entries = [(document or {}).get(key) for key in ("base", "latest", "epoch_end")]
    return {entry["file"] for entry in entries if entry}


def _digest(document: Mapping[str, Any]) -> str:
    plain = {key: value for key, value in document.items() if key != "digest"}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _write_document(path: Path, document: Mapping[str, Any], *, sync: bool = True) -> None:
    plain = json.loads(json.dumps(document))  # as it will be read
    write_json(path, plain | {"digest": _digest(plain)}, sync=sync, indent=None)  # for people it is too long anyway


def _read_document(path: Path) -> dict[str, Any]:
    """Raises DamagedError where it is not what zoo wrote, InputError where another version of zoo wrote it."""
    try:
        document: Any = json.loads(path.read_text(encoding="utf-8"))
        version = document.get("format")
        if version == FORMAT and document.get("digest") != _digest(document):
            raise ValueError("its bytes are not those that were written")
    except FileNotFoundError:
        raise
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
    if version != FORMAT:
        raise InputError(f"{path} was written by another version of zoo", suggestion=ANEW)
    return dict(document)


def _agree(found: list[Change], wrong: list[Change], advice: str) -> None:
    """Raises InputError for changes that cannot be taken, saying also which of the others could."""
    if wrong:
        fine = [change for change in found if change not in wrong]
        also = [Problem(f"this could change: {change}") for change in fine]
        raise InputError([*(change.problem() for change in wrong), *also, Problem(advice)])


def write_json(path: Path, document: Any, *, sync: bool = True, indent: int | None = 1) -> None:
    """Replace `path` by the document, completely or not at all. Without `indent` it is one line, written ten times as
    fast."""
    with atomic_file(path, sync=sync) as descriptor:
        write_all(descriptor, (json.dumps(document, indent=indent) + "\n").encode(), 0)


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
