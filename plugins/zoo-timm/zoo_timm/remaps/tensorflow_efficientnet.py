"""TensorFlow's EfficientNets, as the variables of Google's checkpoints lie in an `.npz`, to timm's `tf_efficientnet_*`.

Names begin with the network's (`efficientnet-b0/blocks_3/conv2d_1/kernel`) and number its blocks through; timm counts
within stages, so the rules depend on how many blocks a stage has. Kernels are [height, width, in, out]. Batch norms are
called `tpu_batch_normalization`, in the order of their use. Source: tensorflow/tpu, models/official/efficientnet.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from zoo_timm.remaps import Rules

REPEATS = (1, 2, 2, 3, 3, 4, 1)  # blocks a stage of EfficientNet-B0 (Tan & Le 2019, table 1)
NORM = "tpu_batch_normalization"
LEAVES = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}

OUTSIDE = {"stem": ("conv_stem", "bn1"), "head": ("conv_head", "bn2")}
FIRST_STAGE = {
    "depthwise_conv2d/depthwise_kernel": "conv_dw.weight", NORM: "bn1", "conv2d/kernel": "conv_pw.weight",
    f"{NORM}_1": "bn2",
}  # fmt: skip
OTHER_STAGES = {
    "conv2d/kernel": "conv_pw.weight", NORM: "bn1", "depthwise_conv2d/depthwise_kernel": "conv_dw.weight",
    f"{NORM}_1": "bn2", "conv2d_1/kernel": "conv_pwl.weight", f"{NORM}_2": "bn3",
}  # fmt: skip
SQUEEZE = {
    "se/conv2d/kernel": "se.conv_reduce.weight", "se/conv2d/bias": "se.conv_reduce.bias",
    "se/conv2d_1/kernel": "se.conv_expand.weight", "se/conv2d_1/bias": "se.conv_expand.bias",
}  # fmt: skip


def _remap(name: str, depth: float) -> Callable[[], Rules]:
    network = f"efficientnet-{name}/"

    def rules() -> Rules:
        return [
            {"strip_prefix": network},
            {"permute": {"match": "{rest*}/depthwise_kernel", "axes": [2, 3, 0, 1]}},
            {"permute": {"match": "{rest*}/{conv=conv2d|conv2d_1}/kernel", "axes": [3, 2, 0, 1]}},
            {"transpose": "^head/dense/kernel$"},
            {"rename": _outside() | _numbers(depth, fixed_ends=name.startswith("lite"))},
            {"rename": _inside(squeeze=not name.startswith("lite"))},
        ]

    rules.__name__ = f"from_tensorflow_efficientnet_{name}"
    rules.__doc__ = f"TensorFlow's efficientnet-{name} to `tf_efficientnet_{name}`."
    return rules


def _outside() -> dict[str, str]:
    lines = {"^head/dense/kernel$": "classifier.weight", "^head/dense/bias$": "classifier.bias"}
    for place, (convolution, norm) in OUTSIDE.items():
        lines[f"^{place}/conv2d/kernel$"] = f"{convolution}.weight"
        lines |= {f"^{place}/{NORM}/{old}$": f"{norm}.{new}" for old, new in LEAVES.items()}
    return lines


def _numbers(depth: float, *, fixed_ends: bool) -> dict[str, str]:
    """One line a block: from its running number to (stage, number in the stage). Lite networks scale no ends."""
    lines: dict[str, str] = {}
    for stage, repeats in enumerate(REPEATS):
        scaled = repeats if fixed_ends and stage in (0, len(REPEATS) - 1) else math.ceil(depth * repeats)
        lines |= {f"blocks_{len(lines) + i}/{{rest*}}": f"blocks.{stage}.{i}.{{rest*}}" for i in range(scaled)}
    return lines


def _inside(*, squeeze: bool) -> dict[str, str]:
    lines: dict[str, str] = {}
    for block, names in (("blocks.0.{j}", FIRST_STAGE), ("blocks.{i+1}.{j}", OTHER_STAGES)):
        for old, new in names.items():
            if old.startswith(NORM):
                lines |= {f"{block}.{old}/{leaf}": f"{block}.{new}.{role}" for leaf, role in LEAVES.items()}
            else:
                lines[f"{block}.{old}"] = f"{block}.{new}"
    if squeeze:
        lines |= {f"blocks.{{i}}.{{j}}.{old}": f"blocks.{{i}}.{{j}}.{new}" for old, new in SQUEEZE.items()}
    return lines


b0 = _remap("b0", 1.0)
b1 = _remap("b1", 1.1)
b2 = _remap("b2", 1.2)
b3 = _remap("b3", 1.4)
b4 = _remap("b4", 1.8)
b5 = _remap("b5", 2.2)
b6 = _remap("b6", 2.6)
b7 = _remap("b7", 3.1)
b8 = _remap("b8", 3.6)
lite0 = _remap("lite0", 1.0)
lite1 = _remap("lite1", 1.1)
lite2 = _remap("lite2", 1.2)
lite3 = _remap("lite3", 1.4)
lite4 = _remap("lite4", 1.8)
