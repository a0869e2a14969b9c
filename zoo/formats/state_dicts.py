"""Finds the tensors in an object that torch.save wrote: state dicts at any depth, lists, and single tensors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import InputError, listed
from zoo.formats.names import LEAVES
from zoo.formats.part import EVERYTHING, names_under, no_such_key
from zoo.formats.pickle_reader import Record
from zoo.formats.pickled_tensors import FoundTensor, OrderedTable, as_tensor

MAX_DEPTH = 8
PREFERENCE = (
    "state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema", "teacher", "state_dict", "model_state_dict",
    "model_state", "model", "params", "net", "network", "module", "weights", "student",
)  # fmt: skip
"""Keys that contain weights in the field's checkpoints; of several side by side the first here is taken:
averaged weights and teachers are what their authors evaluate."""

_NO_WEIGHTS = (
    "optim", "rng", "sched", "scaler", "callback", "loops", "hyper", "args", "config", "cfg", "random",
)  # fmt: skip
"""What a word of a key begins with under which there are no weights, but the state of a training run."""

_SMALL = 10  # a group of so many times fewer elements than another is no other version of it


class SeveralGroupsError(InputError):
    """A file has several groups of tensors side by side, and nothing says which is meant."""


@dataclass
class Candidate:
    """A container of tensors in a pickled file: where it is, its tensors by name, and what else it contains.

    `unnamed` counts tensors under keys that are neither text nor whole numbers.
    """

    path: tuple[str, ...]
    kind: str
    tensors: dict[str, FoundTensor]
    others: dict[str, Any] = field(default_factory=dict)
    unnamed: int = 0

    @property
    def name(self) -> str:
        return ".".join(self.path) or EVERYTHING

    @property
    def elements(self) -> int:
        return sum(tensor.elements for tensor in self.tensors.values())

    @property
    def rank(self) -> int:
        return min((PREFERENCE.index(part) for part in self.path if part in PREFERENCE), default=len(PREFERENCE))

    @property
    def is_known(self) -> bool:
        """Whether it lies under a key that says that weights are there."""
        return self.rank < len(PREFERENCE)


def find_candidates(root: Any) -> list[Candidate]:
    """All containers of tensors in `root`, the outermost first. A lone tensor is a candidate of its own.

    Raises InputError where two tensors of one container have the same name.
    """
    root = as_tensor(root)
    if isinstance(root, FoundTensor):
        return [Candidate((), "tensor", {"tensor": root})]
    found: list[Candidate] = []
    seen: set[int] = set()
    level: list[tuple[tuple[str, ...], Any]] = [((), root)]
    for _ in range(MAX_DEPTH):
        below: list[tuple[tuple[str, ...], Any]] = []
        for path, node in level:
            if id(node) in seen or is_optimizer(node):
                continue
            seen.add(id(node))
            candidate = _candidate(path, node)
            if candidate.tensors or candidate.unnamed:
                found.append(candidate)
            below += [
                ((*path, name), value)
                for name, value in candidate.others.items()
                if isinstance(value, dict | list | tuple | Record) and may_hold_weights(name)
            ]
        level = below
    return found


def _candidate(path: tuple[str, ...], node: Any) -> Candidate:
    made = Candidate(path, "", {})
    for key, item in _children(node):
        value = as_tensor(item)
        name = _name_of(key)
        if not isinstance(value, FoundTensor):
            if isinstance(key, str):  # tables under numbers are an optimizer's state
                made.others[key] = value
        elif name is None:
            made.unnamed += 1
        elif _is_random_state(name, value):
            made.others[name] = value
        elif name in made.tensors:
            where = f" under {made.name!r}" if path else ""
            raise InputError(f"it has two tensors{where} whose names are both {name!r} once they are text")
        else:
            made.tensors[name] = value
    made.kind = _kind(node, made.tensors)
    return made


def _children(node: Any) -> Iterator[tuple[Any, Any]]:
    """Parts of a container by key.

    A record with items is a class that behaves like a dict; only what it was filled with is looked at.
    """
    if isinstance(node, Record):
        node = node.items
    if isinstance(node, dict):
        yield from node.items()
    elif isinstance(node, list | tuple):
        for position, value in enumerate(node):
            if isinstance(value, dict | list | tuple | Record | FoundTensor):
                yield str(position), value


def _name_of(key: Any) -> str | None:
    """The name that a key is as text, or None: a number of a million digits is a trick, a tuple is no name."""
    if isinstance(key, int):
        return str(key) if abs(key) < 2**63 else None
    return key if isinstance(key, str) else None


def _kind(node: Any, tensors: dict[str, FoundTensor]) -> str:
    if not isinstance(node, dict | Record):
        return "list of tensors"
    looks_like = isinstance(node, OrderedTable) or has_weights(tensors)
    return "state dict" if looks_like else "dict of tensors"


def has_weights(tensors: dict[str, FoundTensor]) -> bool:
    """Whether names end like those of a network's parameters."""
    return any(name.rsplit(".", 1)[-1] in LEAVES for name in tensors)


def may_hold_weights(name: str) -> bool:
    """Whether weights can lie under a key: `cuda_rng_state` and `g_optim` say what else is there."""
    return not any(word.startswith(_NO_WEIGHTS) for word in re.split(r"[^a-z]+", name.lower()))


def _is_random_state(name: str, tensor: FoundTensor) -> bool:
    """The state of a random generator is a row of bytes."""
    return tensor.dtype == "U8" and len(tensor.shape) == 1 and not may_hold_weights(name)


def is_optimizer(node: Any) -> bool:
    """Whether it is the state dict of an optimizer, whatever it is called."""
    if not isinstance(node, dict):
        return False
    return isinstance(node.get("state"), dict) and isinstance(node.get("param_groups"), list | dict)


def what_else(root: Any) -> str | None:
    """What a file without weights is, where something in it says so."""
    if is_optimizer(root):
        return "the state of an optimizer"
    if not isinstance(root, dict):
        return None
    if {"base_lrs", "last_epoch"} <= root.keys() or {"last_epoch", "_step_count"} <= root.keys():
        return "the state of a learning-rate schedule"
    if {"scale", "growth_factor"} <= root.keys():
        return "the state of a gradient scaler"
    keys = [key for key in root if isinstance(key, str)]
    if any(is_optimizer(root[key]) or "optim" in key.lower() for key in keys):
        return "the state of an optimizer"
    if any("rng" in key.lower() or "random" in key.lower() for key in keys):
        return "the state of random generators"
    return None


def choose(candidates: list[Candidate], key: str | None, file: str) -> tuple[Candidate, list[str]]:
    """The candidate to take and notes to report. `key` is its dotted path; `.` takes them all, with dotted names.

    Raises InputError where there is none, `key` names none, or several are side by side and nothing says which.
    """
    if not candidates:
        raise InputError(f"{file} contains no tensors")
    if key is not None:
        return _named(candidates, key, file), []
    best = _best(candidates)
    if best is None:
        first = max(candidates, key=lambda each: each.elements)
        raise SeveralGroupsError(
            f"{file} contains several groups of tensors, and nothing says which is meant: {_names(candidates)}",
            suggestion=f"choose one with --key, like --key {first.name}, or all of them with --key {EVERYTHING}",
        )
    rivals = [each for each in candidates if each is not best and each.elements * _SMALL >= best.elements]
    if not rivals:
        return best, []
    return best, [f"took the weights under {best.name!r}; --key chooses others: {_names(rivals)}"]


def _best(candidates: list[Candidate]) -> Candidate | None:
    """The one group that is meant: by its key, as all else is small beside it, or as it alone has weights' names."""
    outer, known = candidates[0], [each for each in candidates if each.is_known]
    largest = max((each.elements for each in known), default=0)
    known = [each for each in known if each.elements * _SMALL >= largest]
    best = next(iter(_ranked(known)), None)
    if not outer.path and (best is None or has_weights(outer.tensors)):
        total = sum(each.elements for each in candidates)
        if outer.elements >= (total / 2 if best is None else best.elements):
            return outer
    if best is not None or len(candidates) == 1:
        return best or outer
    state_dicts = [each for each in candidates if each.kind == "state dict"]
    return state_dicts[0] if len(state_dicts) == 1 else None


def _named(candidates: list[Candidate], key: str, file: str) -> Candidate:
    if key == EVERYTHING:
        return _merged(candidates)
    for candidate in candidates:
        if candidate.name == key:
            return candidate
    if (inside := _inside(candidates, key)) is not None:
        return inside
    best = _ranked(candidates)[0]
    raise no_such_key(file, key, best.tensors, [candidate.name for candidate in candidates])


def _inside(candidates: list[Candidate], key: str) -> Candidate | None:
    """The tensors of one candidate that are under a prefix: `key` is that, or the candidate's name and that."""
    for each in _ranked(candidates):
        rest = key.removeprefix(f"{each.name}.") if each.path else key
        for prefix in dict.fromkeys((rest, key)):
            if names := names_under(each.tensors, prefix):
                tensors = {short: each.tensors[name] for short, name in names.items()}
                return Candidate((*each.path, prefix), each.kind, tensors)
    return None


def _ranked(candidates: list[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda each: (each.rank, len(each.path), -each.elements))


def _names(candidates: list[Candidate]) -> str:
    return listed((f"{candidate.name!r} ({len(candidate.tensors)} tensors)" for candidate in candidates), 10)


def _merged(candidates: list[Candidate]) -> Candidate:
    made = Candidate((), "nested tensors", {}, unnamed=sum(each.unnamed for each in candidates))
    for each in candidates:
        for name, tensor in each.tensors.items():
            full = ".".join((*each.path, name))
            if full in made.tensors:
                raise InputError(
                    f"it has two tensors whose dotted names are both {full!r}: choose one group with --key"
                )
            made.tensors[full] = tensor
    return made


def pickled_models(root: Any) -> list[Record]:
    """Pickled modules in the file, at its root or one level below (`{"model": module, …}`)."""
    nodes = [root, *root.values()] if isinstance(root, dict) else [root]
    return [node for node in nodes if isinstance(node, Record) and _is_module(node)]


def _is_module(record: Record) -> bool:
    return isinstance(record.state, dict) and {"_parameters", "_modules"} <= record.state.keys()
