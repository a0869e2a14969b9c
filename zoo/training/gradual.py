"""Gradual unfreezing: the head trains first, then the network thaws group by group from the top down, in one step.

Howard & Ruder, "Universal Language Model Fine-tuning for Text Classification" (ULMFiT, 2018), section 3.3, as fastai's
`freeze_to` does it. The optimizer contains all that will ever train from the beginning: a frozen parameter has no
gradient, so torch's optimizers neither move it nor make moments of it, and those of what trains already go on across
each thaw. Which group trains is a function of the epoch alone, so that a resumed run needs no memory of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from zoo.errors import InputError, Problem, WorkError, listed
from zoo.expressions import Expression
from zoo.model.depths import depths_along, find_chain
from zoo.model.freezing import FrozenPart, Thawing, hashes, prove, trainable_parameters
from zoo.model.heads import find_heads
from zoo.model.paths import get_module
from zoo.recipe.options import UnfreezeGradually
from zoo.training.job import Progress
from zoo.training.optimizers import RateRow, rate_rows

HEAD, STEM = "head", "stem"


@dataclass(frozen=True)
class Phase:
    """The group of parameters, by name, that begins to train in `epoch`, counted from 0."""

    epoch: int
    group: str
    names: tuple[str, ...]


def find_phases(model: nn.Module, options: UnfreezeGradually) -> list[Phase]:
    """The phases of a model in which everything trains that will: the head's first, then the groups from the top down.

    Raises InputError for a model without a head or a chain of stages, for one of which nothing but the head trains, and
    for every pattern that finds nothing.
    """
    trainable = trainable_parameters(model)
    heads = {id(parameter) for path in find_heads(model) for parameter in get_module(model, path).parameters()}
    head = [name for name, parameter in trainable.items() if id(parameter) in heads]
    body = [name for name in trainable if name not in set(head)]
    if not head or not body:
        frozen, hint = ("the head is frozen", "let it train")
        if head:
            frozen, hint = "nothing outside the head trains", "leave the freeze step out: training begins with the head"
        raise InputError(f"unfreeze_gradually: {frozen}, so there is nothing to thaw", suggestion=hint)
    if isinstance(options.groups, list):
        groups = _by_pattern(body, options.groups)
    else:
        groups = _along_the_chain(model, body, find_chain(model, options.groups))
    thawing = [(HEAD, head), *((group, names) for group, names in groups.items() if names)]
    return [Phase(place * options.every, group, tuple(names)) for place, (group, names) in enumerate(thawing)]


def _along_the_chain(model: nn.Module, body: list[str], chain: list[str]) -> dict[str, list[str]]:
    """The links of the chain from the top down, then what comes before it."""
    depths = depths_along(chain, [name for name, _ in model.named_parameters()])
    rows = {link: [name for name in body if depths[name] == number] for number, link in enumerate(chain, 1)}
    return {**dict(reversed(rows.items())), STEM: [name for name in body if depths[name] == 0]}


def _by_pattern(body: list[str], patterns: list[str]) -> dict[str, list[str]]:
    """What each expression finds that none before it has found."""
    groups: dict[str, list[str]] = {}
    left = list(body)
    problems: list[Problem] = []
    for pattern in patterns:
        try:
            search = Expression(pattern).search
        except ValueError as error:
            problems.append(Problem(f"unfreeze_gradually: {error}"))
            continue
        groups[pattern] = [name for name in left if search(name)]
        if not groups[pattern]:
            hint = f"left to thaw are for instance {', '.join(left[:3])}" if left else "remove it"
            problems.append(Problem(f"unfreeze_gradually: {pattern!r} finds nothing that trains", suggestion=hint))
        left = [name for name in left if name not in set(groups[pattern])]
    if problems:
        raise InputError(problems)
    return groups


class GradualUnfreezing:
    """The phases of one train step at work on its model; one without `options` has none, and changes nothing.

    `begins` is the number of the phase in which a parameter begins to train, by name, in the model's order, and None
    without phases. `frozen` is what is frozen now, `before` the hashes of what is in the first phase, as the step
    began.
    """

    def __init__(
        self,
        model: nn.Module,
        options: UnfreezeGradually | None,
        frozen: FrozenPart | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Raises InputError as `find_phases`; the model is frozen only by `enter`."""
        self.model, self.note = model, note
        self.phases = find_phases(model, options) if options else []
        numbers = {name: number for number, phase in enumerate(self.phases) for name in phase.names}
        self._trainable = tuple(trainable_parameters(model))
        self.begins = {name: numbers[name] for name in self._trainable if name in numbers} or None
        self._thawing = Thawing(model)
        self._number = self._told = -1
        self.frozen = frozen or FrozenPart()
        self.before: Mapping[str, str] = {}

    @property
    def last(self) -> int:
        """An epoch in which all trains that ever will."""
        return self.phases[-1].epoch if self.phases else 0

    def enter(self, epoch: int) -> None:
        """Let train what is due in an epoch, counted from 0, and freeze the rest. Call it before `model.train()`."""
        number = self._at(epoch)
        if number == self._number:
            return
        self._number, begins = number, self.begins or {}
        self.frozen = self._thawing.hold(name for name in self._trainable if begins.get(name, number + 1) > number)

    def thaw(self, epoch: int) -> None:
        """As `enter`, and say what trains from now on."""
        self.enter(epoch)
        if (number := self._number) == self._told:
            return
        self._told = number
        still = sum(self.model.get_parameter(name).numel() for name in self.frozen.parameters)
        phase = self.phases[number]
        what = "the head trains" if phase.group == HEAD else f"{phase.group} thaws"
        numel = self._row(None, phase.group, phase.names)["parameters"]
        self.note(f"epoch {phase.epoch + 1}: {what}, {numel:,} parameters; {still:,} are frozen")

    def end_epoch(self, progress: Progress, *, finished: bool) -> None:
        """Prove what was frozen where another phase begins now."""
        if self.phases and not finished and self._at(progress.epoch) != self._number:
            progress.phases.append(self._proved())

    def end(self, progress: Progress) -> None:
        """Prove what was frozen in the last phase that trained."""
        if self.phases:
            self.enter(max(progress.epoch - 1, 0))  # of a run that was resumed behind its last epoch
            progress.phases.append(self._proved())

    def leave(self) -> None:
        """Everything trains again that did before."""
        if self.phases:
            self._thawing.release()
            self._number = -1

    @contextmanager
    def left(self) -> Iterator[None]:
        """In the block everything trains that did before the step."""
        epoch = self.phases[self._number].epoch if self.phases else 0
        self.leave()
        try:
            yield
        finally:
            self.enter(epoch)

    @property
    def still_frozen(self) -> dict[str, str]:
        """The hashes, as the step began, of what is frozen now."""
        own = {*self.frozen.parameters, *self.frozen.buffers}
        return {name: digest for name, digest in self.before.items() if name in own}

    def rows(self, epochs: int) -> list[RateRow]:
        """The phases of a training of so many epochs; what never thaws in it, last, has no epoch."""
        rows = [
            self._row(phase.epoch + 1 if phase.epoch < epochs else None, phase.group, phase.names)
            for phase in self.phases
        ]
        left = [name for name in self._trainable if name not in (self.begins or {})]
        return [*rows, *([self._row(None, "what no pattern finds", left)] if left else [])]

    def rates(self, optimizer: Optimizer) -> list[RateRow]:
        """The table of the parameter groups of an optimizer that was just made of `begins`."""
        epochs = {name: self.phases[number].epoch + 1 for name, number in (self.begins or {}).items()}
        return rate_rows(self.model, optimizer.param_groups, epochs)

    def _at(self, epoch: int) -> int:
        """The number of the phase that an epoch belongs to, -1 without phases."""
        return sum(phase.epoch <= epoch for phase in self.phases) - 1

    def _proved(self) -> RateRow:
        """Compare what is frozen now with what it was as the step began: a row for the report.

        Raises WorkError, with the names, where it is not bit for bit what it was.
        """
        phase = self.phases[self._number]
        proof = prove(self.still_frozen, hashes(self.model, self.frozen))
        if not proof.holds:
            message = f"{len(proof.moved)} tensors moved before they were to thaw: {listed(proof.moved)}"
            raise WorkError(message)
        return self._row(phase.epoch + 1, phase.group, phase.names) | {"frozen_tensors": proof.tensors}

    def _row(self, epoch: int | None, group: str, names: Sequence[str]) -> RateRow:
        numbers = sum(self.model.get_parameter(name).numel() for name in names)
        return {"epoch": epoch, "group": group, "tensors": len(names), "parameters": numbers}
