"""From corresponding units to corresponding tensors, with the change of layout that each needs; and where equal
shapes can hide another order of values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from zoo.formats.entry import Entry
from zoo.remap.auto.units import Part, Shape, Unit, flattened, squeezed, transposed


@dataclass(frozen=True)
class Link:
    """Which tensors of the source make which of the target.

    One to one (possibly through `shape` and `turned`), several to one (put together along the first axis) or one to
    several (cut into equal pieces; a target None is a piece that has no place). `source` and `target` name the complete
    tensor on both sides, also where only its parts exist. `shape` is its shape in the target, `old_shape` that in the
    source; `axes` is the order in which its axes are put first, `turned` that only the shapes say so. `sizes` are those
    of the parts along the first axis, where they differ. `order` says between which orders of values the tensor is
    moved, "?" that it is not known (`ordered`).
    """

    source: str
    target: str

    sources: tuple[str, ...]
    targets: tuple[str | None, ...]
    old_shape: Shape
    shape: Shape
    turned: bool = False
    axes: Shape | None = None
    sizes: tuple[int, ...] | None = None
    order: str = ""


def link(pairs: Iterable[tuple[Unit, Unit]], source: Mapping[str, Entry], target: Mapping[str, Entry]) -> list[Link]:
    """The links between the tensors of corresponding units; a role that one side lacks has none."""
    return [made for mine, its in pairs for made in _roles(mine, its, source, target)]


def _roles(mine: Unit, its: Unit, source: Mapping[str, Entry], target: Mapping[str, Entry]) -> Iterator[Link]:
    single = len(mine.parts) == len(its.parts) == 1
    for role in its.parts:
        if role not in mine.parts and not single:
            continue
        old, new = mine.parts[role if role in mine.parts else next(iter(mine.parts))], its.parts[role]
        whole, whole_target = (f"{unit.path}.{role}" for unit in (mine, its))
        if len(old.names) == len(new.names):
            for one, other in zip(old.names, new.names, strict=True):
                if one is not None and other is not None:
                    shapes = tuple(source[one].shape), tuple(target[other].shape)
                    yield _link((one,), (other,), *shapes, axes=_axes(old, new))
        elif len(new.names) == 1 and None not in old.names:
            yield _link(tuple(filter(None, old.names)), new.names, old.shape, new.shape, source=whole, sizes=old.sizes)
        elif len(old.names) == 1 and old.names[0] is not None:
            yield _link((old.names[0],), new.names, old.shape, new.shape, target=whole_target, sizes=new.sizes)


def _axes(old: Part, new: Part) -> Shape | None:
    """The order of axes that leads from how the source stores a tensor to how the target does; None where it is one."""
    if old.axes == new.axes:
        return None
    if old.axes and new.axes and len(old.axes) != len(new.axes):
        return old.axes
    if new.axes is None:
        return old.axes
    back = tuple(new.axes.index(axis) for axis in range(len(new.axes)))
    return back if old.axes is None else tuple(old.axes[axis] for axis in back)


def _link(
    sources: tuple[str, ...],
    targets: tuple[str | None, ...],
    old: Shape,
    new: Shape,
    source: str | None = None,
    target: str | None = None,
    sizes: tuple[int, ...] = (),
    axes: Shape | None = None,
) -> Link:
    same = axes is not None or squeezed(old) == squeezed(new) or flattened(old) == flattened(new)
    turned = not same and transposed(old) == flattened(new)
    return Link(
        source or sources[0], target or str(targets[0]), sources, targets, old, new, turned,
        (1, 0) if turned else axes, sizes if len(set(sizes)) > 1 else None,
    )  # fmt: skip


_MERGING = re.compile(r"(?:^|\.)(?:downsample\w*|patch_merg\w*|merge\w*)\.(?:reduction|norm)\.|(?:^|\.)reduction\.")
_UNFOLD = re.compile(r"\.w_msa\.|\.ffn\.layers\.\d")
_SLICES = re.compile(r"relative_position_bias|rel_pos|position_bias|cpb_mlp")
_TABLES = re.compile(f"{_SLICES.pattern}|logit_scale")


# Swin Transformer's authors, timm, torchvision and transformers cut an image into the four pixels of each patch and put
# their channels one after the other. OpenMMLab takes nn.Unfold, which puts the four pixels of each channel together.
# The tensors that act on the result, `reduction` and `norm`, have equal shapes in both (mmsegmentation#2350).
def ordered(links: Sequence[Link], source: Mapping[str, Entry], target: Mapping[str, Entry]) -> list[Link]:
    """The links, those of patch merging with the order of values on both sides; "?" where a side's is not known."""
    mine, its = _convention(source), _convention(target)
    names = [name for name in target if _TABLES.search(name)]
    if not names or (mine == its and mine != "?"):
        return list(links)
    merging = _merging(links)
    order = "?" if "?" in (mine, its) else f"{mine} to {its}"
    return [replace(entry, order=order) if entry.target in merging else entry for entry in links]


def _convention(entries: Iterable[str]) -> str:
    names = list(entries)
    if any(_UNFOLD.search(name) for name in names):
        return "unfold"
    known = any(_SLICES.search(name) for name in names) and any(_MERGING.search(name) for name in names)
    return "slices" if known else "?"


def _merging(links: Sequence[Link]) -> set[str]:
    """The targets that act on the channels of four pixels: `reduction`, and the norm in front of it."""
    shapes = {entry.target: entry.shape for entry in links if len(entry.targets) == 1 and _MERGING.search(entry.target)}
    parents = {name.rpartition(".")[0].rpartition(".")[0]: shape for name, shape in shapes.items() if len(shape) == 2}
    return {
        name
        for name, shape in shapes.items()
        if (matrix := parents.get(name.rpartition(".")[0].rpartition(".")[0]))
        if matrix[1] == 2 * matrix[0] and shape in (matrix, (matrix[1],))
    }
