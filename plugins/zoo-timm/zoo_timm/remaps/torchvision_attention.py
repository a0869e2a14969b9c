"""torchvision's networks with attention to timm's layout; and back, where the same rules cannot run backwards."""

from __future__ import annotations

from zoo_timm.remaps import Rules


def vit() -> Rules:
    """vit_b_16 to vit_h_14 to `vit_*_patch*`; `in_proj` is timm's fused `qkv`."""
    layer, block = "encoder.layers.encoder_layer_{i}", "blocks.{i}"
    lines = {
        "^class_token$": "cls_token",
        r"^encoder\.pos_embedding$": "pos_embed",
        "conv_proj.{leaf}": "patch_embed.proj.{leaf}",
        f"{layer}.self_attention.in_proj_{{kind=weight|bias}}": f"{block}.attn.qkv.{{kind}}",
        f"{layer}.self_attention.out_proj.{{leaf}}": f"{block}.attn.proj.{{leaf}}",
        f"{layer}.ln_{{j}}.{{leaf}}": f"{block}.norm{{j}}.{{leaf}}",
        f"{layer}.mlp.0.{{leaf}}": f"{block}.mlp.fc1.{{leaf}}",
        f"{layer}.mlp.3.{{leaf}}": f"{block}.mlp.fc2.{{leaf}}",
        "encoder.ln.{leaf}": "norm.{leaf}",
        "heads.head.{leaf}": "head.{leaf}",
    }
    return [{"rename": lines}]


def swin() -> Rules:
    """swin_t, swin_s and swin_b to `swin_*_patch4_window7_224`; timm computes the position indices itself."""
    return [
        {"drop": {"match": "features.{i}.{j}.attn.relative_position_index", "derived": True}},
        {"rename": _swin_stages()},
        {"rename": _swin_mlp()},
    ]


def swin_v2() -> Rules:
    """swin_v2_t, swin_v2_s and swin_v2_b to `swinv2_*_window8_256`.

    torchvision sets the key's third of the qkv bias to zero in every pass; timm has no tensor for it.
    """
    return [
        {"drop": {"match": "features.{i}.{j}.attn.relative_{what=position_index|coords_table}", "derived": True}},
        {"rename": _swin_stages()},
        {"rename": _swin_mlp()},
        {
            "split": {
                "from": "layers.{i}.blocks.{j}.attn.qkv.bias",
                "into": [f"layers.{{i}}.blocks.{{j}}.attn.{letter}_bias" for letter in "qkv"],
            }
        },
        {"drop": "layers.{i}.blocks.{j}.attn.k_bias"},
    ]


def to_swin_v2() -> Rules:
    """`swinv2_*_window8_256` to torchvision's swin_v2_t, swin_v2_s and swin_v2_b.

    A bias for the key has to be in the file although torchvision never uses it: the query's stands in.
    """
    attention = "layers.{i}.blocks.{j}.attn"
    return [
        {"untie": {f"{attention}.k_bias": f"{attention}.q_bias"}},
        {"concat": {"into": f"{attention}.qkv.bias", "from": [f"{attention}.{letter}_bias" for letter in "qkv"]}},
        {"rename": {new: old for old, new in _swin_mlp().items()}},
        {"rename": {new: old for old, new in _swin_stages().items()}},
    ]


def _swin_stages() -> dict[str, str]:
    return {
        "features.0.0.{leaf}": "patch_embed.proj.{leaf}",
        "features.0.2.{leaf}": "patch_embed.norm.{leaf}",
        "features.{2*i+1}.{rest*}": "layers.{i}.blocks.{rest*}",
        "features.{2*i+2}.{rest*}": "layers.{i+1}.downsample.{rest*}",
        "head.{leaf}": "head.fc.{leaf}",
    }


def _swin_mlp() -> dict[str, str]:
    block = "layers.{i}.blocks.{j}.mlp"
    return {f"{block}.0.{{leaf}}": f"{block}.fc1.{{leaf}}", f"{block}.3.{{leaf}}": f"{block}.fc2.{{leaf}}"}


def maxvit() -> Rules:
    """maxvit_t to `maxvit_tiny_tf_224`. Every tensor finds its place, but the networks do not compute the same.

    torchvision projects the shortcut of the very first block, where timm only pools (that projection is dropped here),
    pools 3x3 instead of 2x2, pads alike on both sides, scales attention by all channels instead of those of a head,
    uses the exact GELU, and has no bias in its first convolution and classifier. Use it with `--min-coverage 0.999` as
    a start for fine-tuning, not for evaluation. timm counts relative positions the other way round, so the tables are
    reversed along both axes.
    """
    old, new = "blocks.{i}.layers.{j}.layers", "stages.{i}.blocks.{j}"
    convolution = {
        "proj.1": "shortcut.expand", "layers.pre_norm": "pre_norm", "layers.conv_a.0": "conv1_1x1",
        "layers.conv_a.1": "norm1", "layers.conv_b.0": "conv2_kxk", "layers.conv_b.1": "norm2",
        "layers.squeeze_excitation.fc1": "se.fc1", "layers.squeeze_excitation.fc2": "se.fc2",
        "layers.conv_c": "conv3_1x1",
    }  # fmt: skip
    attention = {
        "attn_layer.0": "norm1", "attn_layer.1.to_qkv": "attn.qkv", "attn_layer.1.merge": "attn.proj",
        "mlp_layer.0": "norm2", "mlp_layer.1": "mlp.fc1", "mlp_layer.3": "mlp.fc2",
    }  # fmt: skip
    kinds = {"window_attention": "attn_block", "grid_attention": "attn_grid"}
    lines = {
        "stem.{i}.0.{leaf}": "stem.conv{i+1}.{leaf}",
        "stem.{i}.1.{leaf}": "stem.norm{i+1}.{leaf}",
        "classifier.2.{leaf}": "head.norm.{leaf}",
        "classifier.3.{leaf}": "head.pre_logits.fc.{leaf}",
        "classifier.5.{leaf}": "head.fc.{leaf}",
    }
    lines |= {f"{old}.MBconv.{a}.{{leaf}}": f"{new}.conv.{b}.{{leaf}}" for a, b in convolution.items()}
    for kind, name in kinds.items():
        lines |= {f"{old}.{kind}.{a}.{{leaf}}": f"{new}.{name}.{b}.{{leaf}}" for a, b in attention.items()}
    table = "relative_position_bias_table"
    tables = {f"{old}.{a}.attn_layer.1.{table}": f"{new}.{b}.attn.rel_pos.{table}" for a, b in kinds.items()}
    match = f"{new}.{{kind=attn_block|attn_grid}}.attn.rel_pos.{table}"
    return [
        {"drop": {"match": f"{old}.{{kind}}.attn_layer.1.relative_position_index", "derived": True}},
        {"drop": r"^blocks\.0\.layers\.0\.layers\.MBconv\.proj\."},
        {"rename": {**lines, **tables}},
        {"permute": {"match": match, "axes": [1, 0]}},
        {"reshape": {"match": match, "from": [0, 169], "to": [0, 13, 13]}},
        *_reversed(match, axis=1),
        *_reversed(match, axis=2),
    ]


def _reversed(name: str, axis: int) -> Rules:
    """Turn the 13 positions of an axis round: take them apart, and stack them last to first."""
    parts = [f"{name}.{place}" for place in range(13)]
    return [
        {"unstack": {"from": name, "into": parts, "axis": axis}},
        {"stack": {"into": name, "from": parts[::-1], "axis": axis}},
    ]
