"""torchvision's EfficientNets to timm's `efficientnet_*` and `efficientnetv2_*`, which pad alike.

torchvision's norms have eps 1e-5 in efficientnet_b0 to b4, and 1e-3 in b5 to b7 and in efficientnet_v2_*; timm's have
1e-5 in all: build the latter with `bn_eps: 0.001`.
"""

from __future__ import annotations

from zoo_timm.remaps import Rules
from zoo_timm.remaps.torchvision_cnn import INVERTED_BOTTLENECK, renamed


def efficientnet() -> Rules:
    """efficientnet_b0 to efficientnet_b7. The first stage has no expansion."""
    names = {
        "0.0": "conv_dw", "0.1": "bn1", "1.fc1": "se.conv_reduce", "1.fc2": "se.conv_expand",
        "2.0": "conv_pw", "2.1": "bn2",
    }  # fmt: skip
    lines = renamed("features.1.{j}.block", names, "blocks.0.{j}")
    lines |= renamed("features.{i+2}.{j}.block", INVERTED_BOTTLENECK, "blocks.{i+1}.{j}")
    return [{"rename": _outside(head=8) | lines}]


def efficientnet_v2_s() -> Rules:
    """efficientnet_v2_s, which has six stages."""
    return _efficientnet_v2(head=7)


def efficientnet_v2() -> Rules:
    """efficientnet_v2_m and efficientnet_v2_l, which have seven stages."""
    return _efficientnet_v2(head=8)


def _efficientnet_v2(head: int) -> Rules:
    """Stage 0 is one convolution a block; stages 1 and 2 expand and convolve in one."""
    lines = renamed("features.1.{j}.block", {"0.0": "conv", "0.1": "bn1"}, "blocks.0.{j}")
    names = {"0.0": "conv_exp", "0.1": "bn1", "1.0": "conv_pwl", "1.1": "bn2"}
    for stage in (1, 2):
        lines |= renamed(f"features.{stage + 1}.{{j}}.block", names, f"blocks.{stage}.{{j}}")
    lines |= renamed("features.{i+4}.{j}.block", INVERTED_BOTTLENECK, "blocks.{i+3}.{j}")
    return [{"rename": _outside(head) | lines}]


def _outside(head: int) -> dict[str, str]:
    return {
        "features.0.0.{leaf}": "conv_stem.{leaf}",
        "features.0.1.{leaf}": "bn1.{leaf}",
        f"features.{head}.0.{{leaf}}": "conv_head.{leaf}",
        f"features.{head}.1.{{leaf}}": "bn2.{leaf}",
        "classifier.1.{leaf}": "classifier.{leaf}",
    }
