"""Finds the tensors in an object that torch.save wrote: state dicts at any depth, lists, and single tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import InputError, listed
from zoo.formats.names import LEAVES
from zoo.formats.part import EVERYTHING, names_under, no_such_key
from zoo.formats.pickle_reader import OrderedTable, Record, TensorRecord

MAX_DEPTH = 8
PREFERENCE = (
    "state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema", "teacher", "state_dict", "model_state_dict",
    "model_state", "model", "params", "net", "network", "module", "weights", "student",
)  # fmt: skip
"""Keys that contain weights in the field's checkpoints; of several side by side the first here is taken:
averaged weights and teachers are what their authors evaluate."""

_NO_WEIGHTS = ("optim", "lr_sched", "sched", "scaler", "callback", "loops", "hyper", "rng", "args", "config")


class SeveralGroupsError(InputError):
    """A file has several groups of tensors side by side, and nothing says which is meant."""


@dataclass
class Candidate:
    """A container of tensors in a pickled file: where it is, its tensors by name, and what else it contains."""

    path: tuple[str, ...]
    kind: str
    tensors: dict[str, TensorRecord]
    others: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return ".".join(self.path) or EVERYTHING

    @property
    def elements(self) -> int:
        return sum(tensor.elements for tensor in self.tensors.values())

    @property
    def rank(self) -> int:
        return min((PREFERENCE.index(part) for part in self.path if part in PREFERENCE), default=len(PREFERENCE))


def find_candidates(root: Any) -> list[Candidate]:
    """All containers of tensors in `root`, the outermost first. A lone tensor is a candidate of its own."""
    if isinstance(root, TensorRecord):
        return [Candidate((), "tensor", {"tensor": root})]
    found: list[Candidate] = []
    seen: set[int] = set()
    level: list[tuple[tuple[str, ...], Any]] = [((), root)]
    for _ in range(MAX_DEPTH):
        below: list[tuple[tuple[str, ...], Any]] = []
        for path, node in level:
            if id(node) in seen:
                continue
            seen.add(id(node))
            candidate = _candidate(path, node)
            if candidate.tensors:
                found.append(candidate)
            below += [((*path, name), value) for name, value in candidate.others.items() if _may_hold_weights(name)]
        level = below
    return found


def _candidate(path: tuple[str, ...], node: Any) -> Candidate:
    items = dict(_children(node))
    tensors = {name: value for name, value in items.items() if isinstance(value, TensorRecord)}
    others = {name: value for name, value in items.items() if name not in tensors}
    return Candidate(path, _kind(node, tensors), tensors, others)


def _children(node: Any) -> Iterator[tuple[str, Any]]:
    """Named parts of a container. Tables under numbers are an optimizer's state, unless they are tensors."""
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(key, str) or (isinstance(key, int) and isinstance(value, TensorRecord)):
                yield str(key), value
    elif isinstance(node, list | tuple):
        for position, value in enumerate(node):
            yield str(position), value


def _kind(node: Any, tensors: dict[str, TensorRecord]) -> str:
    if not isinstance(node, dict):
        return "list of tensors"
    looks_like = isinstance(node, OrderedTable) or any(name.rsplit(".", 1)[-1] in LEAVES for name in tensors)
    return "state dict" if looks_like else "dict of tensors"


def _may_hold_weights(name: str) -> bool:
    return not name.lower().startswith(_NO_WEIGHTS)


def choose(candidates: list[Candidate], key: str | None, file: str) -> tuple[Candidate, list[str]]:
    """The candidate to take and notes to report. `key` is its dotted path; `.` takes them all, with dotted names.

    Raises InputError where there is none, `key` names none, or several are side by side and nothing says which.
    """
    if not candidates:
        raise InputError(f"{file} contains no tensors")
    if key is not None:
        return _named(candidates, key, file), []
    ranked = _ranked(candidates)
    best, known = ranked[0], [each for each in ranked if each.rank < len(PREFERENCE)]
    outer = candidates[0]
    if not outer.path and outer.elements >= (best.elements if known else _total(candidates) / 2):
        best = outer
    elif len(candidates) > 1 and not known:
        raise SeveralGroupsError(
            f"{file} contains several groups of tensors, and nothing says which is meant: {_names(candidates)}",
            suggestion=f"choose one with --key, like --key {ranked[0].name}, or all of them with --key {EVERYTHING}",
        )
    rivals = [each for each in candidates if each is not best and each.elements * 10 >= best.elements]
    if not rivals:
        return best, []
    return best, [f"took the weights under {best.name!r}; --key chooses others: {_names(rivals)}"]


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


def _total(candidates: list[Candidate]) -> int:
    return sum(candidate.elements for candidate in candidates)


def _names(candidates: list[Candidate]) -> str:
    return listed((f"{candidate.name!r} ({len(candidate.tensors)} tensors)" for candidate in candidates), 10)


def _merged(candidates: list[Candidate]) -> Candidate:
    tensors = {".".join((*each.path, name)): tensor for each in candidates for name, tensor in each.tensors.items()}
    return Candidate((), "nested tensors", tensors)


def pickled_models(root: Any) -> list[Record]:
    """Pickled modules in the file, at its root or one level below (`{"model": module, …}`)."""
    nodes = [root, *root.values()] if isinstance(root, dict) else [root]
    return [node for node in nodes if isinstance(node, Record) and _is_module(node)]


def _is_module(record: Record) -> bool:
    return isinstance(record.state, dict) and {"_parameters", "_modules"} <= record.state.keys()
