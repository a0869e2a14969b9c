"""Remaps from the layout of lukemelas' EfficientNet (and its Lite offspring) to timm's `tf_efficientnet_*`.

The two layouts differ in names only. The source numbers its blocks through (`_blocks.0` to `_blocks.15`), timm counts
within stages (`blocks.6.0`), so the rules depend on how many blocks a stage has, and that on the depth coefficient.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Rules = list[dict[str, Any]]

REPEATS = (1, 2, 2, 3, 3, 4, 1)  # blocks a stage of EfficientNet-B0 (Tan & Le 2019, table 1)

OUTSIDE = {
    "_conv_stem.{leaf}": "conv_stem.{leaf}",
    "_bn0.{leaf}": "bn1.{leaf}",
    "_conv_head.{leaf}": "conv_head.{leaf}",
    "_bn1.{leaf}": "bn2.{leaf}",
    "_fc.{leaf}": "classifier.{leaf}",
}
FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}  # no expansion
OTHER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}


def block_numbers(depth: float, fixed_ends: bool) -> dict[str, str]:
    """One line a block: from its running number to (stage, number in the stage).

    `depth` is the coefficient that multiplies the repeats; `fixed_ends` keeps the first and last stage unscaled,
    as the Lite family does.
    """
    lines: dict[str, str] = {}
    for stage, repeats in enumerate(REPEATS):
        scaled = repeats if fixed_ends and stage in (0, len(REPEATS) - 1) else math.ceil(depth * repeats)
        lines |= {f"_blocks.{len(lines) + i}.{{rest*}}": f"blocks.{stage}.{i}.{{rest*}}" for i in range(scaled)}
    return lines


def _inside(block: str, names: dict[str, str]) -> dict[str, str]:
    return {f"{block}.{old}.{{leaf}}": f"{block}.{new}.{{leaf}}" for old, new in names.items()}


def _remap(name: str, depth: float, *, lite: bool) -> Callable[[], Rules]:
    def rules() -> Rules:
        inside = _inside("blocks.0.{j}", FIRST_STAGE) | _inside("blocks.{i+1}.{j}", OTHER_STAGES)
        inside |= {} if lite else _inside("blocks.{i}.{j}", SQUEEZE)
        return [{"rename": OUTSIDE | block_numbers(depth, fixed_ends=lite)}, {"rename": inside}]

    rules.__name__ = f"lukemelas_{name.replace('efficientnet_', '')}"
    rules.__doc__ = f"lukemelas' layout of {name} to timm's `tf_{name}`: names only, every tensor unchanged."
    return rules


lukemelas_lite0 = _remap("efficientnet_lite0", 1.0, lite=True)
lukemelas_lite1 = _remap("efficientnet_lite1", 1.1, lite=True)
lukemelas_lite2 = _remap("efficientnet_lite2", 1.2, lite=True)
lukemelas_lite3 = _remap("efficientnet_lite3", 1.4, lite=True)
lukemelas_lite4 = _remap("efficientnet_lite4", 1.8, lite=True)
lukemelas_b0 = _remap("efficientnet_b0", 1.0, lite=False)
lukemelas_b1 = _remap("efficientnet_b1", 1.1, lite=False)
lukemelas_b2 = _remap("efficientnet_b2", 1.2, lite=False)
lukemelas_b3 = _remap("efficientnet_b3", 1.4, lite=False)
lukemelas_b4 = _remap("efficientnet_b4", 1.8, lite=False)
lukemelas_b5 = _remap("efficientnet_b5", 2.2, lite=False)
lukemelas_b6 = _remap("efficientnet_b6", 2.6, lite=False)
lukemelas_b7 = _remap("efficientnet_b7", 3.1, lite=False)
lukemelas_b8 = _remap("efficientnet_b8", 3.6, lite=False)
