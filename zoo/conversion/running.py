"""Brings the networks at both ends of a conversion in: to prove what `--remap auto` found, and for `--verify`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoo.conversion.carry_out import Verify
from zoo.conversion.compare_models import TOLERANCE, compare, module_pairs
from zoo.conversion.equivalence import Prover, common_input, execution_order
from zoo.errors import InputError
from zoo.formats import Source
from zoo.formats.entry import Entry
from zoo.model.assembly import Assembly
from zoo.model.load_into import fill, target_of
from zoo.remap.auto import match
from zoo.remap.plan import Move, Plan, make_plan, percent
from zoo.remap.remaps import Match, Planned, fitting_remaps, plan_source

Build = Callable[[], Assembly]
Entries = Mapping[str, Entry]

ROUNDED = {"F16": 2e-2, "BF16": 1e-1}
"""Relative error of the outputs that rounding the weights to a dtype explains."""


def matcher(start: Build | None, end: Build) -> Match:
    """What finds rules for `auto`: by running both networks where the source's (`start`) is known, else by evidence.

    The builders give networks with memory. What comes back raises WorkError where there is no certain answer.
    """

    def find(source: Entries, target: Entries) -> tuple[Sequence[Mapping[str, Any]], Sequence[str]]:
        if start is None:
            result = match(source, target)
            return result.answer(lambda: fitting_remaps(source, target)), result.notes
        first, last = start(), end()
        names = _places(make_plan(source, (), target_of(first.model)), first)
        order = execution_order(first.model)
        result = match(
            {name: source[name] for name in [*names, *(source.keys() - names.keys())]},
            target,
            source_execution={name: order[place] for name, place in names.items() if place in order},
            target_execution=execution_order(last.model),
            prove=Prover(first, last, names),
        )
        return result.answer(lambda: fitting_remaps(source, target)), result.notes

    return find


def verifier(start: Build, end: Build) -> Verify:
    """What `--verify` runs: both networks on one seeded batch, with the source's weights and with the plan's."""

    def verify(source: Source, planned: Planned) -> Mapping[str, Any]:
        first, last = start(), end()
        own = plan_source(source, None, target_of(first.model)).plan
        names = _places(own, first)
        for assembly, plan in ((first, own), (last, planned.plan)):
            fill(assembly.model, plan, source.array, staged=False)
        inputs = common_input(first, last, odd=False)
        pairs = module_pairs(planned.plan.moves, names)
        return compare(first.model, last.model, pairs, inputs, _tolerance(planned.plan.moves)).as_dict()

    return verify


def _places(plan: Plan, assembly: Assembly) -> dict[str, str]:
    """A file's names in the order of the architecture's state dict, each with the name there.

    Raises InputError where the file is not of this architecture.
    """
    if plan.coverage != 1.0 or plan.mismatched:
        raise InputError(
            f"the file is not of {assembly.architecture}: it fills {percent(plan.coverage or 0.0)} of its parameters",
            suggestion="name the architecture that the file is of: --from",
        )
    return {move.sources[0]: move.target for move in plan.moves}


def _tolerance(moves: Sequence[Move]) -> float:
    return max([TOLERANCE, *(ROUNDED.get(move.dtype, 0.0) for move in moves)])
