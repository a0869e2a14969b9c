"""Google's Vision Transformers in JAX, as their `.npz` files are laid out, to timm's layout.

A kernel is [in, out] there, and [height, width, in, out] for a convolution; query, key and value are [in, heads, width]
each. Source: google-research/vision_transformer and google-research/big_vision, `_load_weights` of timm's
vision_transformer.py. A file of ImageNet-21k has `pre_logits` beside `head`, for which timm's networks have no place.
"""

from __future__ import annotations

from zoo_timm.remaps import Rules

_PARTS = ("query", "key", "value")


def vit() -> Rules:
    """vision_transformer's checkpoints (ViT-B_16.npz, the AugReg files) to `vit_*_patch*`."""
    return _vit("Transformer/posembed_input/pos_embedding", attention=1, second_norm=2, mlp=3)


def big_vision_vit() -> Rules:
    """big_vision's checkpoints, with a classifier, to `vit_*_patch*`; every name begins with `params/`."""
    return [{"strip_prefix": "params/"}, *_vit("pos_embedding", attention=0, second_norm=1, mlp=0)]


def _vit(positions: str, attention: int, second_norm: int, mlp: int) -> Rules:
    """`attention`, `second_norm` and `mlp` are the numbers that Flax gave the modules of a block."""
    block = "Transformer/encoderblock_{i}"
    heads = f"{block}/MultiHeadDotProductAttention_{attention}"
    parts = f"{heads}/{{part={'|'.join(_PARTS)}}}"
    dense = f"{block}/MlpBlock_{mlp}/Dense_{{j}}"
    lines = {
        "^cls$": "cls_token",
        f"^{positions}$": "pos_embed",
        "^embedding/kernel$": "patch_embed.proj.weight",
        "^embedding/bias$": "patch_embed.proj.bias",
        "^head/kernel$": "head.weight",
        "^head/bias$": "head.bias",
        "^Transformer/encoder_norm/scale$": "norm.weight",
        "^Transformer/encoder_norm/bias$": "norm.bias",
    }
    for norm, number in (("norm1", 0), ("norm2", second_norm)):
        lines |= {f"{block}/LayerNorm_{number}/scale": f"blocks.{{i}}.{norm}.weight"}
        lines |= {f"{block}/LayerNorm_{number}/bias": f"blocks.{{i}}.{norm}.bias"}
    for old, new in ((f"{heads}/qkv", "attn.qkv"), (f"{heads}/out", "attn.proj"), (dense, "mlp.fc{j+1}")):
        lines |= {f"{old}/kernel": f"blocks.{{i}}.{new}.weight", f"{old}/bias": f"blocks.{{i}}.{new}.bias"}
    return [
        {"permute": {"match": "^embedding/kernel$", "axes": [3, 2, 0, 1]}},
        {"reshape": {"match": f"{parts}/kernel", "to": [0, -1]}},
        {"transpose": f"{parts}/kernel"},
        {"reshape": {"match": f"{parts}/bias", "to": [-1]}},
        {"concat": {"into": f"{heads}/qkv/kernel", "from": [f"{heads}/{part}/kernel" for part in _PARTS]}},
        {"concat": {"into": f"{heads}/qkv/bias", "from": [f"{heads}/{part}/bias" for part in _PARTS]}},
        {"permute": {"match": f"{heads}/out/kernel", "axes": [2, 0, 1]}},
        {"reshape": {"match": f"{heads}/out/kernel", "to": [0, -1]}},
        {"transpose": f"{dense}/kernel"},
        {"transpose": "^head/kernel$"},
        {"rename": lines},
    ]
