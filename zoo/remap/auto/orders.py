"""Where equal shapes can hide another order of values: patch merging, which code bases do in two ways.

Swin Transformer's authors, timm, torchvision and transformers cut an image into the four pixels of each patch and put
their channels one after the other. OpenMMLab takes nn.Unfold, which puts the four pixels of each channel together. The
tensors that act on the result, `reduction` and `norm`, have equal shapes in both (mmsegmentation#2350).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from zoo.formats.entry import Entry
from zoo.remap.auto.links import Link

_MERGING = re.compile(r"(?:^|\.)(?:downsample\w*|patch_merg\w*|merge\w*)\.(?:reduction|norm)\.|(?:^|\.)reduction\.")
_UNFOLD = re.compile(r"\.w_msa\.|\.ffn\.layers\.\d")
_SLICES = re.compile(r"relative_position_bias|rel_pos|position_bias|cpb_mlp")
_TABLES = re.compile(f"{_SLICES.pattern}|logit_scale")


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
