"""Names into units (the tensors of one module together), and which units of the two sides may correspond."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from zoo.formats.entry import Entry
from zoo.remap.auto.leaves import Aliases

Shape = tuple[int, ...]
Signature = tuple[tuple[str, Shape], ...]

LEAVES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
COUNTER = "num_batches_tracked"  # not compared: old checkpoints lack it
STATISTICS = ("running_mean", "running_var", COUNTER)
_PROJECTION = re.compile(
    r"(|.*_|[wW])(kv|q|k|v|query|key|value|queries|keys|values)(|_.*)"  # `to_q`, `query_proj`, `wk`, `self_value`, `kv`
)
_FUSED = (("q", "k", "v"), ("q", "kv"), ("k", "v"))


@dataclass(frozen=True)
class Part:
    """One role of a unit: the tensors that make it, in order along the first axis, and the complete shape.

    `names` contains None where a piece of it has no tensor (the bias of a key projection that has none). `sizes` are
    those of the pieces along the first axis, where there are several. `shape` is in torch's order of axes: that of the
    tensor permuted by `axes`, where the name says that it is stored in another (`kernel`).
    """

    names: tuple[str | None, ...]
    shape: Shape
    floating: bool = True
    sizes: tuple[int, ...] = ()
    axes: Shape | None = None


@dataclass(frozen=True)
class Unit:
    """A module with tensors of its own, or a bare tensor. `place` is the index of its first tensor.

    In `path` levels that are written into one component (`conv2_block1_0_conv`) are components of their own; `shown` is
    what stands in the file.
    """

    path: str
    parts: Mapping[str, Part] = field(compare=False)
    place: int = field(compare=False)
    shown: str = field(default="", compare=False)

    @property
    def signature(self) -> Signature:
        """Roles and shapes: what must agree for two units to be matched."""
        rows = {role: part for role, part in self.parts.items() if role != COUNTER} or self.parts
        return tuple(sorted((role + " (integer)" * (not part.floating), part.shape) for role, part in rows.items()))


def split_name(name: str) -> tuple[str, str]:
    """A tensor's unit and its role there: `("layer1.0.bn1", "weight")`; a bare tensor has the role "value"."""
    head, _, leaf = name.rpartition(".")
    if leaf in LEAVES and head:
        return head, leaf
    stem, _, ending = leaf.rpartition("_")
    if stem and ending in ("weight", "bias"):
        return (f"{head}.{stem}" if head else stem), ending
    return name, "value"


def find_units(entries: Mapping[str, Entry]) -> list[Unit]:
    """The units of a state dict, in order of their first tensors; bare biases of query and value join their `qkv`."""
    parts: dict[str, dict[str, Part]] = {}
    places: dict[str, int] = {}
    known = Aliases.of(entries)
    for place, (name, entry) in enumerate(entries.items()):
        path, role, axes = known.read(name, entry)
        floating = entry.dtype.startswith(("F", "BF"))
        shape = tuple(entry.shape[axis] for axis in axes) if axes else tuple(entry.shape)
        part = Part((name,), shape, floating or role == COUNTER, axes=axes)
        if role in parts.get(path, {}):  # two names for one role: neither can be trusted
            path, role, part = name, "value", replace(part, shape=tuple(entry.shape), axes=None)
        parts.setdefault(path, {})[role] = part
        places.setdefault(path, place)
    return _join_biases([Unit(leveled(path), roles, places[path], path) for path, roles in parts.items()])


def leveled(path: str) -> str:
    """The path with a level for each number in a component that more follows, and for each letter that counts: Keras's
    `conv2_block1_0_conv` becomes `conv2.block1.0.conv`, Caffe's `bn2b_branch2a` becomes `res2.1.branch2.0.bn`."""
    if not _FLAT.search(path):
        return path
    caffe = _CAFFE.fullmatch(path)
    path = f"res{caffe[2]}.{caffe[1]}" if caffe else path
    return ".".join(_COUNTED.sub(_count, component) for component in _FLAT.sub(".", path).split("."))


def _count(match: re.Match[str]) -> str:
    """A letter as a number from 0; Caffe's b1, b2, … go on after a."""
    letters, digits = match[2][0], match[2][1:]
    return f"{match[1]}.{digits or ord(letters) - ord('a')}"


_FLAT = re.compile(r"(?<=\d)_(?=.)|(?<=\d[a-z])_(?=.)")
_CAFFE = re.compile(r"(bn|scale)(\d+[a-z]?\d*_branch\w+)")
_COUNTED = re.compile(r"^((?!conv|pool|norm)[a-z]+\d+)([a-h]|b\d+)$")


def _join_biases(units: Sequence[Unit]) -> list[Unit]:
    """Take `q_bias` and `v_bias` into the `qkv` that has a weight only (Swin v2, BEiT): its key part has no bias."""
    by_path = {unit.path: unit for unit in units}
    gone: set[str] = set()
    joined: dict[str, Unit] = {}
    for unit in units:
        parent, dot, last = unit.path.rpartition(".")
        query, value = (by_path.get(f"{parent}{dot}{letter}") for letter in "qv")
        if last != "qkv" or set(unit.parts) != {"weight"} or query is None or value is None:
            continue
        if set(query.parts) == set(value.parts) == {"bias"}:
            names = (*query.parts["bias"].names, None, *value.parts["bias"].names)
            rows = query.parts["bias"].shape[0]
            bias = Part(names, (3 * rows,), sizes=(rows,) * 3)
            joined[unit.path] = replace(unit, parts={**unit.parts, "bias": bias})
            gone |= {query.path, value.path}
    return [joined.get(unit.path, unit) for unit in units if unit.path not in gone]


def fuse(units: Sequence[Unit], other: Iterable[Unit]) -> list[Unit]:
    """Take query, key and value projections together where the `other` side has tensors of the fused size.

    The fused unit stands at its parent's path plus `qkv` (or `kv`), where the first of them stood.
    """
    wanted = _weights(other) - _weights(units)
    families: dict[tuple[str, str, str], dict[str, Unit]] = {}
    for unit in units:
        parent, _, last = unit.path.rpartition(".")
        if found := _PROJECTION.fullmatch(last):
            letters = "kv" if found[2] == "kv" else found[2][0]
            families.setdefault((parent, found[1], found[3]), {})[letters] = unit
    fused: dict[str, Unit] = {}
    gone: set[str] = set()
    for (parent, _, _), family in families.items():
        for letters in _FUSED:
            members = [family[letter] for letter in letters if letter in family]
            name = f"{parent}.{''.join(letters)}".lstrip(".")
            whole = _fused(name, members) if len(members) == len(letters) else None
            if whole and whole.parts["weight"].shape in wanted:
                fused[members[0].path] = whole
                gone |= {member.path for member in members}
                break
    return [fused.get(unit.path, unit) for unit in units if unit.path in fused or unit.path not in gone]


def _weights(units: Iterable[Unit]) -> Counter[Shape]:
    return Counter(unit.parts["weight"].shape for unit in units if "weight" in unit.parts)


def _fused(path: str, members: Sequence[Unit]) -> Unit | None:
    if any("weight" not in member.parts or len(member.parts["weight"].shape) < 1 for member in members):
        return None
    sizes = tuple(member.parts["weight"].shape[0] for member in members)
    roles = dict.fromkeys(role for member in members for role in member.parts)
    parts: dict[str, Part] = {}
    for role in roles:
        pieces = [member.parts.get(role) for member in members]
        known = [piece for piece in pieces if piece is not None]
        if any(piece.axes or not piece.shape for piece in known) or len({piece.shape[1:] for piece in known}) > 1:
            return None
        if any(piece and piece.shape[0] != size for piece, size in zip(pieces, sizes, strict=True)):
            return None
        names = tuple(None if piece is None else piece.names[0] for piece in pieces)
        parts[role] = Part(names, (sum(sizes), *known[0].shape[1:]), sizes=sizes)
    return Unit(path, parts, min(member.place for member in members), path)


def squeezed(shape: Shape) -> Shape:
    return tuple(size for size in shape if size != 1)


def flattened(shape: Shape) -> Shape:
    """A convolution's kernel as the matrix that a linear layer would have."""
    return (shape[0], math.prod(shape[1:])) if shape else ()


def transposed(shape: Shape) -> Shape:
    return flattened(squeezed(shape)[::-1])


Classes = dict[Signature, Signature]


def classes(source: Iterable[Unit], target: Iterable[Unit]) -> Classes:
    """Maps each signature to the class it belongs to.

    Equal signatures are one class. Where one side has units to spare of one signature and the other side of another,
    the two are joined if they differ in axes of size 1, in a kernel laid flat (a linear layer and the convolution that
    does the same), in a transpose, or in a bias that one of them lacks; the first of these that fits one way only.
    """
    sources, targets = Counter(unit.signature for unit in source), Counter(unit.signature for unit in target)
    joined: Classes = {signature: signature for signature in [*sources, *targets]}
    spare = [signature for signature in sources if sources[signature] > targets[signature]]
    wanting = [signature for signature in targets if targets[signature] > sources[signature]]
    for like in _LIKENESSES:
        for signature in list(spare):
            fitting = [other for other in wanting if like(signature, other)]
            rivals = [other for other in spare if any(like(other, want) for want in fitting)]
            if len(fitting) == 1 and rivals == [signature]:
                joined[signature] = joined[fitting[0]]
                spare.remove(signature)
                wanting.remove(fitting[0])
    return joined


def _alike(change: Callable[[Shape], Shape]) -> Callable[[Signature, Signature], bool]:
    def like(first: Signature, second: Signature) -> bool:
        one, other = ([(role, change(shape)) for role, shape in signature] for signature in (first, second))
        return one == other

    return like


def _turned(first: Signature, second: Signature) -> bool:
    """The first's matrices are the second's tensors with the two axes swapped, in a shape of their own."""
    if [role for role, _ in first] != [role for role, _ in second]:
        return False
    shapes = [(one, other) for (_, one), (_, other) in zip(first, second, strict=True) if one != other]
    return all(len(one) == 2 and transposed(one) == flattened(other) for one, other in shapes)


def _lacking(first: Signature, second: Signature) -> bool:
    """They share a weight of the same shape, and one has what the other lacks."""
    one, other = dict(first), dict(second)
    common = set(one) & set(other)
    return "weight" in common and all(one[role] == other[role] for role in common) and common in (set(one), set(other))


def _single(first: Signature, second: Signature) -> bool:
    """Both are one table, whatever its role: an embedding's weight and a bare parameter."""
    if not len(first) == len(second) == 1:
        return False
    (one, shape), (other, its) = first[0], second[0]
    table = len(squeezed(shape)) > 1
    return table and squeezed(shape) == squeezed(its) and one.endswith("(integer)") == other.endswith("(integer)")


_LIKENESSES = (_alike(squeezed), _single, _alike(flattened), _turned, _lacking)
