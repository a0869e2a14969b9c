"""transformers' networks, small, with timm's network that computes the same: for match_layouts.py.

Each entry names a class of transformers and its configuration, what the network's features are (`output`), and timm's
architecture with the arguments that make it as small. Weights are random in every tensor, so that equal outputs prove a
correspondence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Network:
    """One of transformers' networks and timm's.

    `output` is what is compared of the result (`[cls]`: of its first token), of the `submodel` if there is one; with
    `features` it is compared with timm's features, as the two libraries go on otherwise.
    """

    kind: str
    config: str
    options: Mapping[str, Any]
    architecture: str
    arguments: Mapping[str, Any]
    size: int = 64
    output: str = "logits"
    submodel: str = ""
    features: bool = False


def _vit(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 96, "intermediate_size": 384, "num_hidden_layers": 3, "num_attention_heads": 3,
        "image_size": 64, "patch_size": 16, "layer_norm_eps": 1e-6, **more,
    }  # fmt: skip


def _timm(**more: Any) -> dict[str, Any]:
    return {"img_size": 64, "embed_dim": 96, "depth": 3, "num_heads": 3, **more}


LABELS = {"num_labels": 10}
CLASSES = {"num_classes": 10}
NONE = {"num_classes": 0}
CLS = "last_hidden_state[cls]"

NETWORKS: dict[str, Network] = {
    "ViT": Network("ViTForImageClassification", "ViTConfig", _vit(**LABELS), "vit_tiny_patch16_224", _timm(**CLASSES)),
    "ViT without head": Network("ViTModel", "ViTConfig", _vit(), "vit_tiny_patch16_224", _timm(**NONE), output=CLS),
    "ViT without pooler": Network(
        "ViTModel",
        "ViTConfig",
        {**_vit(), "~add_pooling_layer": False},
        "vit_tiny_patch16_224",
        _timm(**NONE),
        output=CLS,
    ),
    "ViT MAE": Network(
        "ViTMAEModel", "ViTMAEConfig", _vit(mask_ratio=0.0), "vit_tiny_patch16_224", _timm(**NONE), output=CLS
    ),
    "ViT MSN": Network(
        "ViTMSNForImageClassification", "ViTMSNConfig", _vit(**LABELS), "vit_tiny_patch16_224", _timm(**CLASSES)
    ),
    "IJEPA": Network(
        "IJepaForImageClassification",
        "IJepaConfig",
        _vit(**LABELS),
        "vit_tiny_patch16_224",
        _timm(**CLASSES, class_token=False, global_pool="avg", fc_norm=False),
    ),
    "DeiT": Network(
        "DeiTForImageClassification",
        "DeiTConfig",
        _vit(**LABELS),
        "deit_tiny_distilled_patch16_224",
        _timm(**CLASSES),
        output="",
    ),
    "DeiT with teacher": Network(
        "DeiTForImageClassificationWithTeacher",
        "DeiTConfig",
        _vit(**LABELS),
        "deit_tiny_distilled_patch16_224",
        _timm(**CLASSES),
    ),
    "BEiT": Network(
        "BeitForImageClassification",
        "BeitConfig",
        _vit(**LABELS, use_relative_position_bias=True, layer_scale_init_value=0.1),
        "beit_base_patch16_224",
        _timm(**CLASSES),
    ),
    "Data2Vec": Network(
        "Data2VecVisionForImageClassification",
        "Data2VecVisionConfig",
        _vit(**LABELS, use_relative_position_bias=True, layer_scale_init_value=0.1),
        "beit_base_patch16_224",
        _timm(**CLASSES),
    ),
    "DINOv2": Network(
        "Dinov2Model",
        "Dinov2Config",
        _vit(mlp_ratio=4, patch_size=14, image_size=70),
        "vit_small_patch14_dinov2",
        _timm(**NONE, img_size=70),
        size=70,
        output=CLS,
    ),
    "DINOv2 giant": Network(
        "Dinov2Model",
        "Dinov2Config",
        _vit(mlp_ratio=4, patch_size=14, image_size=70, use_swiglu_ffn=True),
        "vit_giant_patch14_dinov2",
        _timm(**NONE, img_size=70, mlp_ratio=2.66667 * 2),
        size=70,
        output=CLS,
    ),
    "DINOv2 registers": Network(
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        _vit(mlp_ratio=4, patch_size=14, image_size=70),
        "vit_small_patch14_reg4_dinov2",
        _timm(**NONE, img_size=70),
        size=70,
        output=CLS,
    ),
    "DINOv3": Network(
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {**_vit(), "num_register_tokens": 4, "layer_norm_eps": 1e-5, "key_bias": False},
        "vit_small_patch16_dinov3_qkvb",
        _timm(**NONE, global_pool="token"),
        output=CLS,
    ),
    "DINOv3 plus": Network(
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {
            **_vit(intermediate_size=384),
            "num_register_tokens": 4,
            "use_gated_mlp": True,
            "hidden_act": "silu",
            "layer_norm_eps": 1e-5,
            "key_bias": False,
        },
        "vit_small_plus_patch16_dinov3_qkvb",
        _timm(**NONE, global_pool="token", mlp_ratio=4.0),
        output=CLS,
    ),
    "DINOv3 ConvNeXt": Network(
        "DINOv3ConvNextModel",
        "DINOv3ConvNextConfig",
        {"hidden_sizes": [16, 32, 64, 96], "depths": [1, 1, 2, 1], "layer_norm_eps": 1e-6},
        "convnext_tiny",
        {"depths": [1, 1, 2, 1], "dims": [16, 32, 64, 96], **NONE},
        output="pooler_output",
    ),
    "CLIP": Network(
        "CLIPVisionModel",
        "CLIPVisionConfig",
        _vit(hidden_act="quick_gelu", layer_norm_eps=1e-5),
        "vit_base_patch16_clip_quickgelu_224",
        _timm(**NONE),
        output="pooler_output",
    ),
    "CLIP with projection": Network(
        "CLIPVisionModelWithProjection",
        "CLIPVisionConfig",
        _vit(hidden_act="quick_gelu", layer_norm_eps=1e-5, projection_dim=40),
        "vit_base_patch16_clip_quickgelu_224",
        _timm(**NONE),
        output="pooler_output",
        submodel="vision_model",
    ),
    "CLIP, both towers": Network(
        "CLIPModel",
        "CLIPConfig",
        {
            "vision_config": _vit(hidden_act="quick_gelu", layer_norm_eps=1e-5),
            "text_config": {
                "hidden_size": 64,
                "intermediate_size": 128,
                "num_hidden_layers": 2,
                "vocab_size": 99,
                "num_attention_heads": 2,
            },
        },
        "vit_base_patch16_clip_quickgelu_224",
        _timm(**NONE),
        output="pooler_output",
        submodel="vision_model",
    ),
    "SigLIP": Network(
        "SiglipVisionModel",
        "SiglipVisionConfig",
        _vit(),
        "vit_base_patch16_siglip_224",
        _timm(**NONE),
        output="pooler_output",
    ),
    "ConvNeXt": Network(
        "ConvNextForImageClassification",
        "ConvNextConfig",
        {"hidden_sizes": [16, 32, 64, 96], "depths": [1, 1, 2, 1], "layer_norm_eps": 1e-6, **LABELS},
        "convnext_tiny",
        {"depths": [1, 1, 2, 1], "dims": [16, 32, 64, 96], **CLASSES},
    ),
    "ConvNeXt v2": Network(
        "ConvNextV2ForImageClassification",
        "ConvNextV2Config",
        {"hidden_sizes": [16, 32, 64, 96], "depths": [1, 1, 2, 1], "layer_norm_eps": 1e-6, **LABELS},
        "convnextv2_tiny",
        {"depths": [1, 1, 2, 1], "dims": [16, 32, 64, 96], **CLASSES},
    ),
    "Swin": Network(
        "SwinForImageClassification",
        "SwinConfig",
        {"embed_dim": 24, "depths": [2, 2, 2], "num_heads": [1, 2, 4], "window_size": 4, "image_size": 64, **LABELS},
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 24, "depths": [2, 2, 2], "num_heads": [1, 2, 4], "window_size": 4, "img_size": 64, **CLASSES},
    ),
    "Swin without head": Network(
        "SwinModel",
        "SwinConfig",
        {"embed_dim": 24, "depths": [2, 2, 2], "num_heads": [1, 2, 4], "window_size": 4, "image_size": 64},
        "swin_tiny_patch4_window7_224",
        {"embed_dim": 24, "depths": [2, 2, 2], "num_heads": [1, 2, 4], "window_size": 4, "img_size": 64, **NONE},
        output="pooler_output",
    ),
    "Swin v2": Network(
        "Swinv2ForImageClassification",
        "Swinv2Config",
        {"embed_dim": 24, "depths": [2, 2, 2], "num_heads": [1, 2, 4], "window_size": 4, "image_size": 64, **LABELS},
        "swinv2_tiny_window8_256",
        {"embed_dim": 24, "depths": [2, 2, 2], "num_heads": [1, 2, 4], "window_size": 4, "img_size": 64, **CLASSES},
    ),
    "LeViT": Network(
        "LevitForImageClassification",
        "LevitConfig",
        {
            "image_size": 224,
            **LABELS,
            "num_attention_heads": [4, 6, 8],
            "hidden_sizes": [128, 256, 384],
            "depths": [2, 2, 2],
        },
        "levit_128s",
        {"embed_dim": [128, 256, 384], "key_dim": 16, "num_heads": [4, 6, 8], "depth": [2, 2, 2], **CLASSES},
        size=224,
    ),
    "LeViT with teacher": Network(
        "LevitForImageClassificationWithTeacher",
        "LevitConfig",
        {
            "image_size": 224,
            **LABELS,
            "num_attention_heads": [4, 6, 8],
            "hidden_sizes": [128, 256, 384],
            "depths": [2, 2, 2],
        },
        "levit_128s",
        {"embed_dim": [128, 256, 384], "key_dim": 16, "num_heads": [4, 6, 8], "depth": [2, 2, 2], **CLASSES},
        size=224,
    ),
    "MobileNet v1": Network(
        "MobileNetV1ForImageClassification",
        "MobileNetV1Config",
        {**LABELS, "tf_padding": False, "layer_norm_eps": 1e-5},
        "mobilenetv1_100",
        CLASSES,
    ),
    "MobileNet v2": Network(
        "MobileNetV2ForImageClassification",
        "MobileNetV2Config",
        {**LABELS, "tf_padding": False, "layer_norm_eps": 1e-5},
        "mobilenetv2_100",
        CLASSES,
    ),
    "EfficientNet": Network(
        "EfficientNetForImageClassification",
        "EfficientNetConfig",
        {"width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 224, "hidden_dim": 1280, **LABELS},
        "tf_efficientnet_b0",
        CLASSES,
    ),
    "EfficientNet without head": Network(
        "EfficientNetModel",
        "EfficientNetConfig",
        {"width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 224, "hidden_dim": 1280},
        "tf_efficientnet_b0",
        NONE,
        output="pooler_output",
    ),
    "MobileViT": Network(
        "MobileViTForImageClassification",
        "MobileViTConfig",
        {
            "hidden_sizes": [64, 80, 96],
            "neck_hidden_sizes": [16, 16, 24, 48, 64, 80, 320],
            "expand_ratio": 2.0,
            **LABELS,
        },
        "mobilevit_xxs",
        CLASSES,
    ),
    "MobileViT v2": Network(
        "MobileViTV2ForImageClassification",
        "MobileViTV2Config",
        {"width_multiplier": 0.5, **LABELS},
        "mobilevitv2_050",
        CLASSES,
    ),
    "PoolFormer": Network("PoolFormerForImageClassification", "PoolFormerConfig", LABELS, "poolformer_s12", CLASSES),
    "ResNet": Network(
        "ResNetForImageClassification",
        "ResNetConfig",
        {"depths": [1, 2, 2, 1], **LABELS},
        "resnet50",
        {"layers": [1, 2, 2, 1], **CLASSES},
    ),
    "ResNet, basic blocks": Network(
        "ResNetForImageClassification",
        "ResNetConfig",
        {"depths": [2, 2, 2, 2], "layer_type": "basic", "hidden_sizes": [64, 128, 256, 512], **LABELS},
        "resnet18",
        CLASSES,
    ),
    "RegNet": Network(
        "RegNetForImageClassification",
        "RegNetConfig",
        {
            "embedding_size": 32,
            "hidden_sizes": [48, 104, 208, 440],
            "depths": [1, 3, 6, 6],
            "groups_width": 8,
            "layer_type": "y",
            **LABELS,
        },
        "regnety_004",
        CLASSES,
    ),
    "BiT": Network(
        "BitForImageClassification",
        "BitConfig",
        LABELS,
        "resnetv2_50x1_bit",
        CLASSES,
    ),
    "FocalNet": Network(
        "FocalNetForImageClassification", "FocalNetConfig", {"image_size": 64, **LABELS}, "focalnet_tiny_srf", CLASSES
    ),
    "PVT v2": Network(
        "PvtV2ForImageClassification",
        "PvtV2Config",
        {"depths": [1, 2, 1, 1], "image_size": 64, **LABELS},
        "pvt_v2_b0",
        {"depths": [1, 2, 1, 1], **CLASSES},
    ),
    "SwiftFormer": Network(
        "SwiftFormerForImageClassification", "SwiftFormerConfig", LABELS, "swiftformer_xs", CLASSES, size=224
    ),
    "Hiera": Network(
        "HieraForImageClassification",
        "HieraConfig",
        {**LABELS, "depths": [1, 2, 2, 1], "layer_norm_eps": 1e-6},
        "hiera_tiny_224",
        {"stages": [1, 2, 2, 1], **CLASSES},
        size=224,
    ),
    "HGNet v2": Network("HGNetV2ForImageClassification", "HGNetV2Config", LABELS, "hgnetv2_b4", CLASSES, size=224),
    "AIMv2": Network(
        "Aimv2VisionModel",
        "Aimv2VisionConfig",
        {**_vit(patch_size=14, image_size=70, rms_norm_eps=1e-5), "~layer_norm_eps": None, "use_head": False},
        "aimv2_large_patch14_224",
        _timm(**NONE, img_size=70, mlp_ratio=4.0, global_pool=""),
        size=70,
        output="last_hidden_state",
    ),
}
"""Row -> networks."""
