"""What finds no partner: which units are the same thing in another size (a table of positions, a first layer, a
classifier), and which tensors can be left out unasked, since they do not act on what is loaded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from zoo.formats.entry import Entry
from zoo.remap.auto.links import Link
from zoo.remap.auto.tree import Block
from zoo.remap.auto.units import Unit, squeezed
from zoo.remap.auto.words import tokens

_COMPUTED = re.compile(r"coords|index|freq|anchor|(attn|causal|attention)_mask$|ids$")
"""Tables that networks make themselves."""
_TRAINING = re.compile(r"(^|[._])(mask_token|logit_scale|logit_bias)$")
"""Parameters that act in pretraining only."""
_ASIDE = {"decoder", "text", "aux", "auxlogits", "auxiliary", "lm", "predictor"}
"""Words for what stands beside a backbone or behind it."""
_HEADS = {"head", "heads", "classifier", "fc", "logits", "pooler", "predictions", "linear", "visual_projection"}
"""Words for what stands behind a backbone alone."""
_TOWER = 3  # modules that make a branch a network of its own, and not a layer on the way


def needless(names: Sequence[str], source: Mapping[str, Entry], links: Sequence[Link]) -> list[str]:
    """Those of `names`, which have no place, that are dropped: derived tables, and branches apart.

    A branch is apart if it stands outside the one that holds all that is loaded, if its name says that it stands beside
    the backbone, or, where the target has no head, if it is one or is a network of its own. Anything else may stand
    between body and head, where leaving it out would change what the network computes: it stays. So does a parameter of
    the root, unless all that is loaded is a network inside.
    """
    used = [name for entry in links for name in entry.sources]
    inside = {name.partition(".")[0] for name in used}
    body = next(iter(inside)) if len(inside) == 1 and all("." in name for name in used) else None
    network = any(not name.split(".")[1].isdecimal() for name in used if body)
    headless = not any(_is_head(entry) for entry in links)
    branches: dict[str, set[str]] = {}
    for name in names:
        if "." in name and name.partition(".")[0] not in inside:
            branches.setdefault(name.partition(".")[0], set()).add(name.rpartition(".")[0])

    def is_needless(name: str) -> bool:
        branch = name.partition(".")[0]
        if not source[name].dtype.startswith(("F", "BF")) or _COMPUTED.search(name.rpartition(".")[2]):
            return True
        if _TRAINING.search(name) or (body is not None and branch != body and (network or "." in name)):
            return True
        meaning = set(tokens(branch))
        if branch in inside:
            return False
        if meaning & _ASIDE:
            return True
        return branch in branches and headless and (len(branches[branch]) >= _TOWER or bool(meaning & _HEADS))

    return [name for name in names if is_needless(name)]


def _is_head(entry: Link) -> bool:
    """Whether a link fills the target's classifier."""
    return len(entry.shape) > 1 and any(
        set(tokens(name.rpartition(".")[0])) & _HEADS and name.count(".") <= 2 for name in entry.targets if name
    )


Kind = tuple[object, ...]


def resized(blocks: Sequence[Block], mine: Sequence[Unit], its: Sequence[Unit]) -> list[tuple[Unit, Unit]]:
    """Pairs among units that are left over on both sides: alone of their kind, or of their name, in matched blocks.

    `blocks` are those of the solver, outer ones first. A kind is the roles and their numbers of axes. They are renamed
    and stay a mismatch, so that the plan names both shapes and what to do about them.
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
