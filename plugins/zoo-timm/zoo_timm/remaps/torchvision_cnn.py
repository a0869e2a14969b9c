"""torchvision's convolutional networks to timm's layout.

resnet, resnext, wide_resnet, densenet and inception_v3 have the same names in both and need no rules (drop AuxLogits
of inception_v3). timm's networks may use another eps in their norms (1e-5 where torchvision's EfficientNetV2 and
MobileNetV3 have 1e-3): build them with `bn_eps: 0.001`; `zoo convert --verify` tells where that is missing.
"""

from __future__ import annotations

from zoo_timm.remaps import Rules

INVERTED_BOTTLENECK = {
    "0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2",
    "2.fc1": "se.conv_reduce", "2.fc2": "se.conv_expand", "3.0": "conv_pwl", "3.1": "bn3",
}  # fmt: skip
"""Expand, depthwise, squeeze and excite, project: torchvision numbers them, timm names them."""
TO_CONVOLUTION = {"from": [0, 0], "to": [0, 0, 1, 1]}  # a linear layer and the 1x1 convolution that does the same


def vgg() -> Rules:
    """vgg11 to vgg19, with and without batch norm: the classifier's linear layers become convolutions."""
    heads = {
        "classifier.0.{leaf}": "pre_logits.fc1.{leaf}",
        "classifier.3.{leaf}": "pre_logits.fc2.{leaf}",
        "classifier.6.{leaf}": "head.fc.{leaf}",
    }
    return [
        {"rename": heads},
        {"reshape": {"match": r"^pre_logits\.fc1\.weight$", "from": [0, -1], "to": [0, -1, 7, 7]}},
        {"reshape": {"match": r"^pre_logits\.fc2\.weight$", **TO_CONVOLUTION}},
    ]


def mobilenet_v2() -> Rules:
    """mobilenet_v2 of any width to `mobilenetv2_*`."""
    stages = {
        "features.0.0.{leaf}": "conv_stem.{leaf}",
        "features.0.1.{leaf}": "bn1.{leaf}",
        "features.1.conv.{rest*}": "blocks.0.0.{rest*}",
        "features.18.0.{leaf}": "conv_head.{leaf}",
        "features.18.1.{leaf}": "bn2.{leaf}",
        "features.17.conv.{rest*}": "blocks.6.0.{rest*}",
        "features.{i+14}.conv.{rest*}": "blocks.5.{i}.{rest*}",
        "features.{i+11}.conv.{rest*}": "blocks.4.{i}.{rest*}",
        "features.{i+7}.conv.{rest*}": "blocks.3.{i}.{rest*}",
        "features.{i+4}.conv.{rest*}": "blocks.2.{i}.{rest*}",
        "features.{i+2}.conv.{rest*}": "blocks.1.{i}.{rest*}",
        "classifier.1.{leaf}": "classifier.{leaf}",
    }
    first = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
    other = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl", "3": "bn3"}
    inside = renamed("blocks.0.{j}", first) | renamed("blocks.{i+1}.{j}", other)
    return [{"rename": stages}, {"rename": inside}]


def renamed(block: str, names: dict[str, str], new_block: str | None = None) -> dict[str, str]:
    """Lines that rename the modules inside a block."""
    return {f"{block}.{old}.{{leaf}}": f"{new_block or block}.{new}.{{leaf}}" for old, new in names.items()}


def mobilenet_v3_large() -> Rules:
    """mobilenet_v3_large to `mobilenetv3_large_*`. Stages 2, 4 and 5 squeeze and excite."""
    stages = {
        "features.1.block.{rest*}": "blocks.0.0.{rest*}",
        "features.16.{rest*}": "blocks.6.0.{rest*}",
        "features.{i+13}.block.{rest*}": "blocks.5.{i}.{rest*}",
        "features.{i+11}.block.{rest*}": "blocks.4.{i}.{rest*}",
        "features.{i+7}.block.{rest*}": "blocks.3.{i}.{rest*}",
        "features.{i+4}.block.{rest*}": "blocks.2.{i}.{rest*}",
        "features.{i+2}.block.{rest*}": "blocks.1.{i}.{rest*}",
    }
    first = {"0.0": "conv_dw", "0.1": "bn1", "1.0": "conv_pw", "1.1": "bn2"}
    return _mobilenet_v3(stages, first, excited="2|4|5", plain="1|3", last=6)


def mobilenet_v3_small() -> Rules:
    """mobilenet_v3_small to `mobilenetv3_small_*`. All stages but 1 squeeze and excite."""
    stages = {
        "features.1.block.{rest*}": "blocks.0.0.{rest*}",
        "features.12.{rest*}": "blocks.5.0.{rest*}",
        "features.{i+9}.block.{rest*}": "blocks.4.{i}.{rest*}",
        "features.{i+7}.block.{rest*}": "blocks.3.{i}.{rest*}",
        "features.{i+4}.block.{rest*}": "blocks.2.{i}.{rest*}",
        "features.{i+2}.block.{rest*}": "blocks.1.{i}.{rest*}",
    }
    first = {
        "0.0": "conv_dw", "0.1": "bn1", "1.fc1": "se.conv_reduce", "1.fc2": "se.conv_expand",
        "2.0": "conv_pw", "2.1": "bn2",
    }  # fmt: skip
    return _mobilenet_v3(stages, first, excited="2|3|4", plain="1", last=5)


def _mobilenet_v3(stages: dict[str, str], first: dict[str, str], excited: str, plain: str, last: int) -> Rules:
    """`excited` stages squeeze and excite between the depthwise convolution and the projection, `plain` ones do not."""
    outside = {
        "features.0.0.{leaf}": "conv_stem.{leaf}",
        "features.0.1.{leaf}": "bn1.{leaf}",
        "classifier.0.{leaf}": "conv_head.{leaf}",
        "classifier.3.{leaf}": "classifier.{leaf}",
    }
    without = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2.0": "conv_pwl", "2.1": "bn3"}
    inside = renamed("blocks.0.{j}", first)
    for kind, names in ((excited, INVERTED_BOTTLENECK), (plain, without)):
        inside |= renamed(f"blocks.{{stage={kind}}}.{{j}}", names, "blocks.{stage}.{j}")
    return [
        {"rename": {**outside, **stages}},
        {"rename": inside | renamed(f"blocks.{last}.0", {"0": "conv", "1": "bn1"})},
        {"reshape": {"match": r"^conv_head\.weight$", **TO_CONVOLUTION}},
    ]


def mnasnet() -> Rules:
    """mnasnet0_5 to mnasnet1_3 to `mnasnet_*`."""
    outside = {
        0: "conv_stem", 1: "bn1", 3: "blocks.0.0.conv_dw", 4: "blocks.0.0.bn1", 6: "blocks.0.0.conv_pw",
        7: "blocks.0.0.bn2", 14: "conv_head", 15: "bn2",
    }  # fmt: skip
    inside = {0: "conv_pw", 1: "bn1", 3: "conv_dw", 4: "bn2", 6: "conv_pwl", 7: "bn3"}
    lines = {f"layers.{number}.{{leaf}}": f"{name}.{{leaf}}" for number, name in outside.items()}
    for number, name in inside.items():
        lines[f"layers.{{i+8}}.{{j}}.layers.{number}.{{leaf}}"] = f"blocks.{{i+1}}.{{j}}.{name}.{{leaf}}"
    return [{"rename": {**lines, "classifier.1.{leaf}": "classifier.{leaf}"}}]


def regnet() -> Rules:
    """regnet_x_* and regnet_y_* to `regnetx_*` and `regnety_*`; the shortcut comes first there and last here."""
    branches = {"proj": "downsample", "a": "conv1", "b": "conv2", "c": "conv3"}
    lines = {"stem.0.{leaf}": "stem.conv.{leaf}", "stem.1.{leaf}": "stem.bn.{leaf}", "fc.{leaf}": "head.fc.{leaf}"}
    lines["trunk_output.block{i}.block{i}-{j}.f.{branch=a|b|c|se}.{rest*}"] = "s{i}.b{j+1}.{branch}.{rest*}"
    lines["trunk_output.block{i}.block{i}-{j}.proj.{rest*}"] = "s{i}.b{j+1}.proj.{rest*}"
    inside = {
        f"s{{i}}.b{{j}}.{old}.{number}.{{leaf}}": f"s{{i}}.b{{j}}.{new}.{kind}.{{leaf}}"
        for old, new in branches.items()
        for number, kind in enumerate(("conv", "bn"))
    }
    return [{"rename": lines}, {"rename": inside}]


def convnext() -> Rules:
    """convnext_tiny to convnext_large; the layer scale (c, 1, 1) becomes (c)."""
    lines = {
        "features.0.{rest*}": "stem.{rest*}",
        "features.{2*i+1}.{j}.layer_scale": "stages.{i}.blocks.{j}.gamma",
        "features.{2*i+1}.{j}.block.0.{leaf}": "stages.{i}.blocks.{j}.conv_dw.{leaf}",
        "features.{2*i+1}.{j}.block.2.{leaf}": "stages.{i}.blocks.{j}.norm.{leaf}",
        "features.{2*i+1}.{j}.block.3.{leaf}": "stages.{i}.blocks.{j}.mlp.fc1.{leaf}",
        "features.{2*i+1}.{j}.block.5.{leaf}": "stages.{i}.blocks.{j}.mlp.fc2.{leaf}",
        "features.{2*i+2}.{rest*}": "stages.{i+1}.downsample.{rest*}",
        "classifier.0.{leaf}": "head.norm.{leaf}",
        "classifier.2.{leaf}": "head.fc.{leaf}",
    }
    return [
        {"rename": lines},
        {"reshape": {"match": "stages.{i}.blocks.{j}.gamma", "from": [0, 1, 1], "to": [0]}},
    ]
