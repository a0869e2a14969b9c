"""Which convolution a norm stands beside: what is known of one of the two settles the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from zoo.remap.auto.tree import Group, Pairs
from zoo.remap.auto.units import Unit
from zoo.remap.auto.words import tokens

_KINDS = {"conv", "norm", "2d", "conv2d", "linear", "bn", "tpu", "batch", "normalization"}
"""Words for what a module is; without them a norm and its convolution are called alike (`conv1`, `bn1`)."""

Beside = Mapping[str, str]
"""Path of a norm -> path of the layer whose outputs it normalises."""


def beside(units: Sequence[Unit], ordered: bool) -> Beside:
    """The convolutions that norms stand beside: by name, as the only two of a parent, or in order of registration.

    Only layers with as many outputs as the norm has channels count, and only those that one norm alone claims. Where a
    norm is called like a layer of another width (it stands in front of it), names say nothing on this side.
    """
    places = {unit.path: place for place, unit in enumerate(units)}
    layers = {unit.path: unit for unit in units if _outputs(unit)}
    norms = [unit for unit in units if _channels(unit)]
    called = _called_alike(norms, layers)
    by_name = called if all(_fits(norm, layers[called[norm.path]]) for norm in norms if norm.path in called) else {}
    found: dict[str, str] = {}
    alone = _alone(norms, layers)
    for norm in norms:
        before = units[places[norm.path] - 1].path if ordered and places[norm.path] else ""
        near = before if _parent(before) in (_parent(norm.path), before) else ""
        for path in (by_name.get(norm.path), alone.get(norm.path), near):
            if path in layers and _fits(norm, layers[path]):
                found[norm.path] = path
                break
    claims = Counter(found.values())
    return {norm: layer for norm, layer in found.items() if claims[layer] == 1}


def same_neighbour(group: Group, mine: Beside, its: Beside, matched: Mapping[str, str]) -> Pairs:
    """Norms that stand beside layers which are matched (`matched` maps paths of the source to the target's)."""
    norms = {its[item.path]: item for item in group.targets if item.path in its}
    found: Pairs = []
    for item in group.sources:
        layer = matched.get(mine.get(item.path, ""))
        if layer is None or item.unit is None:
            continue
        if layer not in norms:  # the layer's norm is not among these: the two sides are not alike
            return []
        found.append((item, norms[layer]))
    return found


def _called_alike(norms: Iterable[Unit], layers: Mapping[str, Unit]) -> Beside:
    names: dict[tuple[str, ...], list[str]] = {}
    for path in layers:
        names.setdefault(_name(path), []).append(path)
    found: dict[str, str] = {}
    for norm in norms:
        parent, _, last = norm.path.rpartition(".")
        if parent in layers and not _rest(last):  # `conv1.norm`
            found[norm.path] = parent
        elif _rest(last) and len(like := names.get(_name(norm.path), [])) == 1:
            found[norm.path] = like[0]
    return found


def _alone(norms: Iterable[Unit], layers: Mapping[str, Unit]) -> Beside:
    """The layer beside a norm where the two are all that their parent has."""
    children: dict[str, list[str]] = {}
    for path in [*layers, *(norm.path for norm in norms)]:
        children.setdefault(_parent(path), []).append(path)
    pairs = [paths for parent, paths in children.items() if parent and len(paths) == 2 and paths[0] in layers]
    return {norm: layer for layer, norm in pairs if norm not in layers}


def _name(path: str) -> tuple[str, ...]:
    parent, _, last = path.rpartition(".")
    return (parent, *_rest(last))


def _rest(last: str) -> list[str]:
    return [token for token in tokens(last) if token not in _KINDS]


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def _outputs(unit: Unit) -> int:
    """The outputs of a convolution; 0 for another unit. Linear layers mostly have their norms in front."""
    part = unit.parts.get("weight")
    return part.shape[0] if part and len(part.shape) == 4 else 0


def _channels(unit: Unit) -> int:
    """The channels of a norm; 0 for another unit."""
    part = unit.parts.get("weight") or unit.parts.get("running_mean")
    flat = part is not None and sum(size != 1 for size in part.shape) <= 1 and len(unit.parts) > 1
    return max(part.shape, default=0) if part and flat else 0


def _fits(norm: Unit, layer: Unit) -> bool:
    return _outputs(layer) == _channels(norm)
