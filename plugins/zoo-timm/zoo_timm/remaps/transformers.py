"""Hugging Face transformers' image classifiers, as their files are laid out, to timm's layout.

transformers' layer norms have eps 1e-12 (ViT, DeiT, ConvNeXt) where timm's have 1e-6: the outputs agree to about
1e-6 unless activations are tiny. For the last digit build timm's network with a norm layer of that eps.
"""

from __future__ import annotations

from zoo_timm.remaps import Rules


def vit() -> Rules:
    """ViTForImageClassification to `vit_*` and to `deit_*` without distillation."""
    return _vit("vit", {"classifier.{leaf}": "head.{leaf}"})


def deit() -> Rules:
    """DeiTForImageClassificationWithTeacher to `deit_*_distilled_*`."""
    heads = {"cls_classifier.{leaf}": "head.{leaf}", "distillation_classifier.{leaf}": "head_dist.{leaf}"}
    return _vit("deit", {r"^deit\.embeddings\.distillation_token$": "dist_token", **heads})


def _vit(prefix: str, more: dict[str, str]) -> Rules:
    layer, block = f"{prefix}.encoder.layer.{{i}}", "blocks.{i}"
    names = {
        "attention.qkv": "attn.qkv", "attention.output.dense": "attn.proj", "layernorm_before": "norm1",
        "layernorm_after": "norm2", "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2",
    }  # fmt: skip
    lines = {
        rf"^{prefix}\.embeddings\.cls_token$": "cls_token",
        rf"^{prefix}\.embeddings\.position_embeddings$": "pos_embed",
        f"{prefix}.embeddings.patch_embeddings.projection.{{leaf}}": "patch_embed.proj.{leaf}",
        f"{prefix}.layernorm.{{leaf}}": "norm.{leaf}",
    }
    lines |= {f"{layer}.{old}.{{leaf}}": f"{block}.{new}.{{leaf}}" for old, new in names.items()}
    parts = [f"{layer}.attention.attention.{part}.{{leaf}}" for part in ("query", "key", "value")]
    return [{"concat": {"into": f"{layer}.attention.qkv.{{leaf}}", "from": parts}}, {"rename": {**lines, **more}}]


def convnext() -> Rules:
    """ConvNextForImageClassification to `convnext_*`."""
    layer, block = "convnext.encoder.stages.{i}.layers.{j}", "stages.{i}.blocks.{j}"
    names = {"dwconv": "conv_dw", "layernorm": "norm", "pwconv1": "mlp.fc1", "pwconv2": "mlp.fc2"}
    lines = {
        "convnext.embeddings.patch_embeddings.{leaf}": "stem.0.{leaf}",
        "convnext.embeddings.layernorm.{leaf}": "stem.1.{leaf}",
        f"{layer}.layer_scale_parameter": f"{block}.gamma",
        "convnext.encoder.stages.{i}.downsampling_layer.{rest*}": "stages.{i}.downsample.{rest*}",
        "convnext.layernorm.{leaf}": "head.norm.{leaf}",
        "classifier.{leaf}": "head.fc.{leaf}",
    }
    return [{"rename": lines | {f"{layer}.{old}.{{leaf}}": f"{block}.{new}.{{leaf}}" for old, new in names.items()}}]


def resnet() -> Rules:
    """ResNetForImageClassification, basic and bottleneck, to `resnet*` of timm (and of torchvision)."""
    layer, block = "resnet.encoder.stages.{i}.layers.{j}", "layer{i+1}.{j}"
    lines = {
        "resnet.embedder.embedder.convolution.{leaf}": "conv1.{leaf}",
        "resnet.embedder.embedder.normalization.{leaf}": "bn1.{leaf}",
        f"{layer}.layer.{{k}}.convolution.{{leaf}}": f"{block}.conv{{k+1}}.{{leaf}}",
        f"{layer}.layer.{{k}}.normalization.{{leaf}}": f"{block}.bn{{k+1}}.{{leaf}}",
        f"{layer}.shortcut.convolution.{{leaf}}": f"{block}.downsample.0.{{leaf}}",
        f"{layer}.shortcut.normalization.{{leaf}}": f"{block}.downsample.1.{{leaf}}",
        "classifier.1.{leaf}": "fc.{leaf}",
    }
    return [{"rename": lines}]
