"""Units without a partner that are the same thing in another size: a table of positions, a first layer, a classifier.

They are renamed and stay a mismatch, so that the plan names both shapes and what to do about them.
"""

from __future__ import annotations

from collections.abc import Sequence

from zoo.remap.auto.tree import Block
from zoo.remap.auto.units import Unit, squeezed
from zoo.remap.auto.words import tokens

Kind = tuple[object, ...]


def resized(blocks: Sequence[Block], mine: Sequence[Unit], its: Sequence[Unit]) -> list[tuple[Unit, Unit]]:
    """Pairs among units that are left over on both sides: alone of their kind, or of their name, in matched blocks.

    `blocks` are those of the solver, outer ones first. A kind is the roles and their numbers of axes.
    """
    idle, wanting = {unit.path: unit for unit in mine}, {unit.path: unit for unit in its}
    found: list[tuple[Unit, Unit]] = []
    for block in reversed([block for block in blocks if not block.tentative]):
        if not (idle and wanting):
            break
        inside = [unit for unit in block.source.units if unit.path in idle]
        needed = [unit for unit in block.target.units if unit.path in wanting]
        for old, new in _alone(inside, needed) if inside and needed else ():
            found.append((old, new))
            del idle[old.path], wanting[new.path]
    return found


def _alone(mine: Sequence[Unit], its: Sequence[Unit]) -> list[tuple[Unit, Unit]]:
    found: list[tuple[Unit, Unit]] = []
    for key in (_named, _kind):
        for kind in dict.fromkeys(map(key, its)):
            one, other = ([u for u in units if key(u) == kind and not _paired(u, found)] for units in (mine, its))
            if len(one) == len(other) == 1:
                found.append((one[0], other[0]))
    return found


def _paired(unit: Unit, pairs: Sequence[tuple[Unit, Unit]]) -> bool:
    return any(unit in pair for pair in pairs)


def _kind(unit: Unit) -> Kind:
    return tuple((role, len(squeezed(shape))) for role, shape in unit.signature)


def _named(unit: Unit) -> Kind:
    return (*_kind(unit), *tokens(unit.path.rpartition(".")[2]))
