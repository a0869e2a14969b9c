"""What a dry run found: mistakes with their places, warnings, structural changes, and what would train at each step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from zoo.contracts import Preprocessing, Weights
from zoo.data.open_data import OpenData
from zoo.errors import InputError, Location, Problem, ZooError, listed
from zoo.model.assembly import Assembly
from zoo.recipe import Recipe
from zoo.recipe.document import FlagLocation, Path, walk
from zoo.recipe.validate import shown
from zoo.remap.remaps import Planned

_TELLING = 3  # a bare word of no more letters is in a message by chance


def placed(recipe: Recipe, path: Path, error: ZooError, *, about: str = "") -> list[Problem]:
    """The problems of `error`, placed at the value below `path` that each one quotes, else at the key `about` there.

    A problem that has a place in the recipe keeps it; one placed in another file (a row of a table) does, too.
    """
    return [
        Problem(said.message, said.location or _quoted(recipe, path, said.message, about), said.suggestion)
        for said in error.problems
    ]


def _quoted(recipe: Recipe, path: Path, message: str, about: str) -> Location:
    """The value or key below `path` that the message speaks of: quoted rather than bare, the longest of several."""
    written = recipe.document.get(path)
    alone = recipe.document.value(path) if not isinstance(written, dict | list) else recipe.document.key((*path, about))
    best: tuple[int, int, Location] = (0, 0, alone)
    for inner, value in walk(written):
        place: Path = (*path, *inner)
        key = inner[-1] if inner and isinstance(inner[-1], str) else ""
        if (isinstance(value, str) and shown(value) in message) or f"{key} is {shown(value)}" in message:
            found = 2, len(shown(value)), recipe.document.value(place)
        elif key and repr(key) in message:
            found = 2, len(key), recipe.document.key(place)
        elif isinstance(value, str) and len(value) > _TELLING and value in message:
            found = 1, len(value), recipe.document.value(place)
        else:
            continue
        best = max(best, found, key=lambda each: each[:2])
    return best[2]


@dataclass(frozen=True)
class Change:
    """One place where the structure differs; `before` and `after` are what stood and stands there, in torch's words."""

    path: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"+ {self.path}  {self.after}"
        return (
            f"- {self.path}  {self.before}" if self.after is None else f"~ {self.path}  {self.before} -> {self.after}"
        )

    def as_dict(self) -> dict[str, str | None]:
        return {"path": self.path, "before": self.before, "after": self.after}


def modules_of(model: nn.Module) -> dict[str, nn.Module]:
    """Every module by path, shared ones at each of their places."""
    return dict(model.named_modules(remove_duplicate=False))


def changes(before: Mapping[str, nn.Module], after: Mapping[str, nn.Module]) -> tuple[Change, ...]:
    """The outermost differences between two results of `modules_of`, in the order of the model."""
    found: list[Change] = []
    for path in dict.fromkeys([*after, *before]):
        old, new = before.get(path), after.get(path)
        if old is new or any(_inside(path, change.path) for change in found):
            continue
        found.append(Change(path, _words(old), _words(new)))
    return tuple(found)


def _inside(path: str, parent: str) -> bool:
    return not parent or path.startswith(f"{parent}.")


def _words(module: nn.Module | None) -> str | None:
    """A layer as torch prints it; of a container the class and what is directly inside."""
    if module is None:
        return None
    inside = listed(type(child).__name__ for child in module.children())
    return f"{type(module).__name__}({inside or module.extra_repr()})"


@dataclass(frozen=True)
class Stage:
    """A train or probe step as it would begin: how many parameters (numbers, not tensors) train and are frozen.

    Of a train step `groups` are the rows of its learning rates (`zoo.training.optimizers`), `phases` those of gradual
    unfreezing: `{"epoch", "group", "tensors", "parameters"}`, the epoch None for what never trains.
    """

    action: str
    location: Location
    trainable: int
    frozen: int
    groups: Sequence[dict[str, Any]] = ()
    phases: Sequence[dict[str, Any]] = ()

    def as_dict(self) -> dict[str, Any]:
        counted = {"step": self.action, "line": self.location.line, "trainable": self.trainable, "frozen": self.frozen}
        return counted | {"groups": list(self.groups), "phases": list(self.phases)}


@dataclass(frozen=True)
class FoundWeights:
    """The weights of `model:`, or of a `load` step, as a run loads them.

    `name` is what reports and checkpoints keep, `ignored` are the heads that need not be filled, `planned` is the plan
    of the load where the file is on this machine. `arguments` are those of a weights component.
    """

    name: str
    weights: Weights
    ignored: tuple[str, ...] = ()
    planned: Planned | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Known:
    """What the model's weights say of the data: how images are prepared, and the classes by output; () where they do
    not say. `kept` is whether the model still gives scores for these classes when it first sees data."""

    preprocessing: Preprocessing
    classes: tuple[str, ...] = ()
    kept: bool = False


@dataclass
class Verdict:
    """The outcome of a dry run. `assembly` is the model on `meta` as the last step leaves it, where it could be built.

    `arguments` are those that the architecture is built with: the recipe's, and what its weights need beside them.
    `known` is what the model's weights say of the data. `weights`, `loads` (of the `load` steps, by their index) and
    `data` are what a run goes on with: found, planned and opened, where they are on this machine. `notes` are the
    steps' remarks on what they will do.
    `input_shape` and `output_shape` are [b, …] of a small batch; `outputs` is the width the data asks for. `uncalled`
    are modules that forward never uses, `changes` what the steps did to the structure; `fitted` says what the input's
    size and channels decided. `built_for` are those of `arguments` that the data section has changed; `unfit` says that
    the network could not be built for the images, which explains what does not go through it. `estimate` is what
    the recipe would take, where it was tried out (`zoo.finetuning.estimate`).
    """

    errors: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    stages: list[Stage] = field(default_factory=list)
    assembly: Assembly | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    built_for: dict[str, Any] = field(default_factory=dict)
    unfit: bool = False
    known: Known = field(default_factory=lambda: Known(Preprocessing()))
    weights: FoundWeights | None = None
    loads: dict[int, FoundWeights] = field(default_factory=dict)
    data: OpenData | None = None
    input_shape: tuple[int, ...] | None = None
    output_shape: tuple[int, ...] | None = None
    outputs: int | None = None
    uncalled: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    fitted: list[str] = field(default_factory=list)
    estimate: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        return not self.errors

    @property
    def trainable(self) -> int | None:
        """Numbers that train at the last train step; without one, in the model as it is left."""
        return self.stages[-1].trainable if self.stages else self._count(lambda trains: trains)

    @property
    def frozen(self) -> int | None:
        """Frozen numbers at the last train step; without one, in the model as it is left."""
        return self.stages[-1].frozen if self.stages else self._count(lambda trains: not trains)

    def require(self) -> None:
        """Raises InputError with every mistake found."""
        if self.errors:
            raise InputError(self.errors)

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of `zoo check`."""
        return {
            "ok": self.ok,
            "errors": [problem.as_dict() for problem in self.errors],
            "warnings": [problem.as_dict() for problem in self.warnings],
            "notes": [*self.fitted, *self.notes],
            "trainable": self.trainable,
            "frozen": self.frozen,
            "stages": [stage.as_dict() for stage in self.stages],
            "architecture": self.assembly.architecture if self.assembly else None,
            "input_shape": self.input_shape,
            "output_shape": self.output_shape,
            "changes": [change.as_dict() for change in self.changes],
            "uncalled": self.uncalled,
            "estimate": self.estimate,
        }

    def _count(self, chosen: Callable[[bool], bool]) -> int | None:
        if self.assembly is None:
            return None
        return sum(p.numel() for p in self.assembly.model.parameters() if chosen(p.requires_grad))


def in_order(problems: Sequence[Problem]) -> list[Problem]:
    """By their place in the recipe, those of the command line and those without a place last; each said once."""

    def place(problem: Problem) -> tuple[bool, int, int]:
        at = problem.location
        return at is None or isinstance(at, FlagLocation), at.line if at else 0, at.column if at else 0

    return sorted(dict.fromkeys(problems), key=place)
