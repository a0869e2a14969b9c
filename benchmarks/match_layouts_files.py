"""The files of other code bases, made of timm's state dicts by renaming and rearranging: for match_layouts.py.

Each entry names timm's architecture, the arguments that make it small, and how its tensors lie in the other file. What
`--remap auto` makes of such a file must be what it was made of, tensor for tensor. Sources: the code bases named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]
Change = Callable[[State], State]


@dataclass(frozen=True)
class File:
    """A layout. `ignored` are tensors of timm's network that the file cannot have."""

    architecture: str
    arguments: Mapping[str, Any]
    make: Change
    ignored: str = r"num_batches_tracked$"


def renamed(*lines: tuple[str, str], extra: Mapping[str, Sequence[int]] | None = None) -> Change:
    """Regular expressions in turn; `extra` are tensors that the file has beside timm's."""

    def make(state: State) -> State:
        file: State = {}
        for name, value in state.items():
            for old, new in lines:
                name = re.sub(old, new, name)
            file[name] = value
        return file | {name: torch.randn(tuple(shape)) for name, shape in (extra or {}).items()}

    return make


def after(*changes: Change) -> Change:
    def make(state: State) -> State:
        for change in changes:
            state = change(state)
        return state

    return make


def changed(pattern: str, change: Callable[[Tensor], Tensor]) -> Change:
    """Values changed where the name is matched."""
    return lambda state: {n: change(v).contiguous() if re.search(pattern, n) else v for n, v in state.items()}


def split(pattern: str, parts: Sequence[str]) -> Change:
    r"""A fused tensor in equal parts; `parts` may refer to groups of the pattern."""

    def make(state: State) -> State:
        file: State = {}
        for name, value in state.items():
            if re.search(pattern, name):
                for part, piece in zip(parts, value.chunk(len(parts)), strict=True):
                    file[re.sub(pattern, part, name)] = piece.clone()
            else:
                file[name] = value
        return file

    return make


def dropped(pattern: str) -> Change:
    return lambda state: {name: value for name, value in state.items() if not re.search(pattern, name)}


def numbered(pattern: str, write: Callable[..., str]) -> Change:
    """Names rewritten by a function of the match."""
    return lambda state: {re.sub(pattern, write, name): value for name, value in state.items()}


def unfolded(state: State) -> State:
    """Swin's patch merging in the order of nn.Unfold, as OpenMMLab's networks have it."""
    file: State = {}
    for name, value in state.items():
        if name.endswith("downsample.reduction.weight"):
            rows, columns = value.shape
            value = value.reshape(rows, 4, columns // 4)[:, [0, 2, 1, 3]].transpose(1, 2).reshape(rows, columns)
        elif ".downsample.norm." in name:
            value = value.reshape(4, -1)[[0, 2, 1, 3]].t().reshape(-1)
        file[name] = value.contiguous()
    return file


VIT = {"depth": 3, "embed_dim": 96, "num_heads": 3, "img_size": 64, "num_classes": 10}
SWIN = {
    "embed_dim": 24, "depths": [2, 2, 2], "num_heads": [1, 2, 4], "window_size": 4, "img_size": 64, "num_classes": 10,
}  # fmt: skip
CONVNEXT = {"depths": [1, 1, 2, 1], "dims": [16, 32, 64, 96], "num_classes": 10}
TEN = {"num_classes": 10}

QKV = r"attn\.qkv\.(weight|bias)$"
_NORMS = (r"\bweight$", "gamma"), (r"\bbias$", "beta")


def _batch_norms(state: State) -> set[str]:
    return {name.rpartition(".")[0] for name in state if name.endswith("running_mean")}


def leaves(*names: str) -> Change:
    """Batch norm's weight, bias, running_mean and running_var under other names."""

    def make(state: State) -> State:
        norms = _batch_norms(state)
        table = dict(zip(("weight", "bias", "running_mean", "running_var"), names, strict=True))
        return {
            f"{path}.{table[leaf]}" if path in norms and leaf in table else name: value
            for name, value in state.items()
            for path, _, leaf in [name.rpartition(".")]
        }

    return make


def kernels(state: State) -> State:
    """Keras's layout of kernels: [height, width, in, out], depthwise ones [height, width, channels, 1]."""
    file: State = {}
    for name, value in state.items():
        if name.endswith(".weight") and value.ndim == 4:
            depthwise = value.shape[1] == 1 and value.shape[0] > 1 and "stem" not in name
            name = name.removesuffix("weight") + ("depthwise_kernel" if depthwise else "kernel")
            value = value.permute(2, 3, 0, 1) if depthwise else value.permute(2, 3, 1, 0)
        elif name.endswith(".weight") and value.ndim == 2:
            name, value = name.removesuffix("weight") + "kernel", value.t()
        file[name] = value.contiguous()
    return file


JEONSWORLD = after(
    split(QKV, [rf"attn.{part}.\1" for part in ("query", "key", "value")]),
    renamed(
        (r"^blocks\.", "transformer.encoder.layer."), (r"norm1", "attention_norm"), (r"norm2", "ffn_norm"),
        (r"mlp\.", "ffn."), (r"attn\.proj", "attn.out"), (r"^norm", "transformer.encoder.encoder_norm"),
        (r"^cls_token", "transformer.embeddings.cls_token"),
        (r"^pos_embed", "transformer.embeddings.position_embeddings"),
        (r"^patch_embed\.proj", "transformer.embeddings.patch_embeddings"),
    ),
)  # fmt: skip

LUCIDRAINS = renamed(
    (r"^blocks\.(\d+)\.norm1", r"transformer.layers.\1.0.norm"),
    (r"^blocks\.(\d+)\.attn\.qkv", r"transformer.layers.\1.0.to_qkv"),
    (r"^blocks\.(\d+)\.attn\.proj", r"transformer.layers.\1.0.to_out.0"),
    (r"^blocks\.(\d+)\.norm2", r"transformer.layers.\1.1.net.0"),
    (r"^blocks\.(\d+)\.mlp\.fc1", r"transformer.layers.\1.1.net.1"),
    (r"^blocks\.(\d+)\.mlp\.fc2", r"transformer.layers.\1.1.net.4"),
    (r"^norm", "transformer.norm"), (r"^head", "mlp_head"), (r"^pos_embed", "pos_embedding"),
    (r"^patch_embed\.proj", "to_patch_embedding.0"),
)  # fmt: skip

MM_VIT = renamed(
    (r"^blocks\.(\d+)\.norm1", r"backbone.layers.\1.ln1"), (r"^blocks\.(\d+)\.norm2", r"backbone.layers.\1.ln2"),
    (r"^blocks\.(\d+)\.mlp\.fc1", r"backbone.layers.\1.ffn.layers.0.0"),
    (r"^blocks\.(\d+)\.mlp\.fc2", r"backbone.layers.\1.ffn.layers.1"),
    (r"^blocks\.", "backbone.layers."), (r"^patch_embed\.proj", "backbone.patch_embed.projection"),
    (r"^norm", "backbone.ln1"), (r"^(cls_token|pos_embed)", r"backbone.\1"), (r"^head\.", "head.layers.head."),
)  # fmt: skip

OPENAI = after(
    renamed(
        (r"^blocks\.(\d+)\.attn\.qkv\.", r"visual.transformer.resblocks.\1.attn.in_proj_"),
        (r"^blocks\.(\d+)\.attn\.proj", r"visual.transformer.resblocks.\1.attn.out_proj"),
        (r"^blocks\.(\d+)\.norm(\d)", r"visual.transformer.resblocks.\1.ln_\2"),
        (r"^blocks\.(\d+)\.mlp\.fc1", r"visual.transformer.resblocks.\1.mlp.c_fc"),
        (r"^blocks\.(\d+)\.mlp\.fc2", r"visual.transformer.resblocks.\1.mlp.c_proj"),
        (r"^patch_embed\.proj", "visual.conv1"), (r"^norm_pre", "visual.ln_pre"), (r"^norm\.", "visual.ln_post."),
        (r"^cls_token", "visual.class_embedding"), (r"^pos_embed", "visual.positional_embedding"),
        (r"^head\.weight", "visual.proj"),
    ),
    changed(r"class_embedding", lambda v: v.reshape(-1)), changed(r"positional_embedding", lambda v: v[0]),
    changed(r"visual\.proj$", lambda v: v.t()), dropped(r"^head\.bias"),
)  # fmt: skip
TEXT = {
    "positional_embedding": (77, 64), "text_projection": (64, 40), "logit_scale": (),
    "token_embedding.weight": (99, 64),
    "transformer.resblocks.0.attn.in_proj_weight": (192, 64), "transformer.resblocks.0.attn.in_proj_bias": (192,),
    "transformer.resblocks.0.attn.out_proj.weight": (64, 64), "transformer.resblocks.0.attn.out_proj.bias": (64,),
    "transformer.resblocks.0.ln_1.weight": (64,), "transformer.resblocks.0.ln_1.bias": (64,),
    "transformer.resblocks.0.mlp.c_fc.weight": (256, 64), "transformer.resblocks.0.mlp.c_fc.bias": (256,),
    "transformer.resblocks.0.mlp.c_proj.weight": (64, 256), "transformer.resblocks.0.mlp.c_proj.bias": (64,),
    "transformer.resblocks.0.ln_2.weight": (64,), "transformer.resblocks.0.ln_2.bias": (64,),
    "ln_final.weight": (64,), "ln_final.bias": (64,),
}  # fmt: skip

_MS_SWIN = numbered(r"^layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample")
MS_SWIN = after(_MS_SWIN, renamed((r"^head\.fc", "head"), extra={
    **{f"layers.{i}.blocks.{j}.attn.relative_position_index": (16, 16) for i in range(3) for j in range(2)},
}))  # fmt: skip
MM_SWIN = after(
    unfolded, _MS_SWIN,
    renamed(
        (r"^layers\.", "backbone.stages."), (r"\.attn\.", ".attn.w_msa."), (r"mlp\.fc1", "ffn.layers.0.0"),
        (r"mlp\.fc2", "ffn.layers.1"), (r"^patch_embed\.proj", "backbone.patch_embed.projection"),
        (r"^patch_embed\.norm", "backbone.patch_embed.norm"), (r"^norm", "backbone.norm3"),
    ),
)  # fmt: skip

FB_CONVNEXT = renamed(
    (r"^stem\.", "downsample_layers.0."), (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
    (r"\.blocks\.", "."), (r"conv_dw", "dwconv"), (r"mlp\.fc", "pwconv"), (r"^head\.norm", "norm"),
    (r"^head\.fc", "head"),
)  # fmt: skip
MM_CONVNEXT = renamed(
    (r"^stem\.", "backbone.downsample_layers.0."), (r"^stages\.(\d)\.downsample\.", r"backbone.downsample_layers.\1."),
    (r"^stages\.(\d)\.blocks\.", r"backbone.stages.\1."), (r"conv_dw", "depthwise_conv"),
    (r"mlp\.fc", "pointwise_conv"), (r"^head\.norm", "backbone.norm3"),
)  # fmt: skip
FB_CONVNEXT_V2 = after(
    FB_CONVNEXT,
    renamed((r"pwconv\d?\.grn\.|mlp\.grn\.", "grn."), (r"grn\.weight", "grn.gamma"), (r"grn\.bias", "grn.beta")),
    changed(r"grn\.", lambda v: v.reshape(1, 1, 1, -1)),
)  # fmt: skip


def keras_resnet(match: re.Match[str]) -> str:
    place = "0" if match[6] else match[4] or match[5]
    kind = "bn" if match[5] or match[6] == "1" else "conv"
    return f"conv{int(match[1]) + 1}_block{int(match[2]) + 1}_{place}_{kind}."


KERAS_RESNET = after(
    numbered(r"^layer(\d)\.(\d+)\.(conv(\d)|bn(\d)|downsample\.(\d))\.", keras_resnet),
    renamed((r"^conv1\.", "conv1_conv."), (r"^bn1\.", "conv1_bn."), (r"^fc\.", "predictions.")),
)


def caffe_resnet(match: re.Match[str]) -> str:
    stage, block = int(match[1]) + 1, "abcdefgh"[int(match[2])]
    branch = "1" if match[6] else "2" + "abc"[int(match[4] or match[5]) - 1]
    kind = "bn" if match[5] or match[6] == "1" else "res"
    return f"{kind}{stage}{block}_branch{branch}."


CAFFE_RESNET = after(
    numbered(r"^layer(\d)\.(\d+)\.(conv(\d)|bn(\d)|downsample\.(\d))\.", caffe_resnet),
    renamed((r"^bn1\.", "bn_conv1."), (r"^fc\.", "fc1000.")),
)


def caffe2_resnet(match: re.Match[str]) -> str:
    branch = "1" if match[6] else "2" + "abc"[int(match[4] or match[5]) - 1]
    kind = "_bn" if match[5] or match[6] == "1" else ""
    return f"res{int(match[1]) + 1}_{match[2]}_branch{branch}{kind}."


CAFFE2_RESNET = after(
    dropped(r"running_(mean|var)|num_batches"),
    numbered(r"^layer(\d)\.(\d+)\.(conv(\d)|bn(\d)|downsample\.(\d))\.", caffe2_resnet),
    renamed((r"^bn1\.", "res_conv1_bn."), (r"^fc\.", "pred."), (r"bn\.weight$", "bn_s"), (r"bn\.bias$", "bn_b"),
            (r"\.weight$", "_w"), (r"\.bias$", "_b")),
)  # fmt: skip


def detectron_norms(match: re.Match[str]) -> str:
    return f"res{int(match[1]) + 1}.{match[2]}." + (
        ("shortcut." + ("norm." if match[6] == "1" else "")) if match[6] else
        f"conv{match[4]}." if match[4] else f"conv{match[5]}.norm."
    )  # fmt: skip


DETECTRON2 = after(
    numbered(r"^layer(\d)\.(\d+)\.(conv(\d)|bn(\d)|downsample\.(\d))\.", detectron_norms),
    renamed((r"^conv1\.", "stem.conv1."), (r"^bn1\.", "stem.conv1.norm."), (r"^fc\.", "linear.")),
)

_MM_FIRST = {"conv_dw": "0.conv", "bn1": "0.bn", "conv_pw": "1.conv", "bn2": "1.bn"}
_MM_OTHER = {
    "conv_pw": "0.conv", "bn1": "0.bn", "conv_dw": "1.conv", "bn2": "1.bn", "conv_pwl": "2.conv", "bn3": "2.bn",
}  # fmt: skip


def _mm_block(match: re.Match[str]) -> str:
    names = _MM_FIRST if match[1] == "0" else _MM_OTHER
    return f"backbone.layer{int(match[1]) + 1}.{match[2]}.conv.{names[match[3]]}."


MM_MOBILENET = after(
    numbered(r"^blocks\.(\d)\.(\d)\.(conv_pwl|conv_pw|conv_dw|bn\d)\.", _mm_block),
    renamed((r"^conv_stem\.", "backbone.conv1.conv."), (r"^bn1\.", "backbone.conv1.bn."),
            (r"^conv_head\.", "backbone.conv2.conv."), (r"^bn2\.", "backbone.conv2.bn."), (r"^classifier", "head.fc")),
)  # fmt: skip


def _keras_block(match: re.Match[str]) -> str:
    names = {
        "conv_pw": "expand_conv", "bn1": "expand_bn", "conv_dw": "dwconv", "bn2": "bn", "se.conv_reduce": "se_reduce",
        "se.conv_expand": "se_expand", "conv_pwl": "project_conv", "bn3": "project_bn",
    }  # fmt: skip
    if match[1] == "0":
        names |= {"bn1": "bn", "conv_pw": "project_conv", "bn2": "project_bn"}
    return f"block{int(match[1]) + 1}{'abcdefgh'[int(match[2])]}_{names[match[3]]}."


KERAS_EFFICIENTNET = after(
    numbered(r"^blocks\.(\d)\.(\d)\.(conv_pwl|conv_pw|conv_dw|bn\d|se\.conv_\w+)\.", _keras_block),
    renamed((r"^conv_stem", "stem_conv"), (r"^bn1", "stem_bn"), (r"^conv_head", "top_conv"), (r"^bn2", "top_bn"),
            (r"^classifier", "predictions")),
)  # fmt: skip

LUKEMELAS = after(
    lambda state: _running_blocks(state, "_blocks."),
    renamed(
        (r"^(_blocks\.\d+)\.conv_pw\.", r"\1._expand_conv."), (r"^(_blocks\.\d+)\.conv_dw", r"\1._depthwise_conv"),
        (r"^(_blocks\.\d+)\.conv_pwl", r"\1._project_conv"), (r"se\.conv_reduce", "_se_reduce"),
        (r"se\.conv_expand", "_se_expand"), (r"^(_blocks\.[1-9]\d*)\.bn1", r"\1._bn0"),
        (r"^(_blocks\.[1-9]\d*)\.bn2", r"\1._bn1"), (r"^(_blocks\.[1-9]\d*)\.bn3", r"\1._bn2"),
        (r"^_blocks\.0\.bn1", "_blocks.0._bn1"), (r"^_blocks\.0\.bn2", "_blocks.0._bn2"),
        (r"^_blocks\.0\._expand_conv", "_blocks.0._project_conv"), (r"^conv_stem", "_conv_stem"), (r"^bn1", "_bn0"),
        (r"^conv_head", "_conv_head"), (r"^bn2", "_bn1"), (r"^classifier", "_fc"),
    ),
)  # fmt: skip


def _running_blocks(state: State, prefix: str) -> State:
    """Blocks counted through all stages."""
    blocks = list(dict.fromkeys(m[0] for name in state if (m := re.match(r"blocks\.\d+\.\d+\.", name))))
    return {re.sub(r"^blocks\.\d+\.\d+\.", lambda m: f"{prefix}{blocks.index(m[0])}.", n): v for n, v in state.items()}


def flax_vit(state: State) -> State:
    """google-research/vision_transformer's checkpoints, and big_vision's."""
    file: State = {}
    for name, value in state.items():
        name = re.sub(r"^blocks\.(\d+)\.", r"Transformer.encoderblock_\1.", name)
        attention = "MultiHeadDotProductAttention_1"
        if "attn.qkv" in name:
            for part, piece in zip(("query", "key", "value"), value.chunk(3), strict=True):
                new = name.replace("attn.qkv", f"{attention}.{part}").replace("weight", "kernel")
                file[new] = (piece.t().reshape(96, 3, 32) if value.ndim == 2 else piece.reshape(3, 32)).contiguous()
            continue
        if "attn.proj" in name:
            name = name.replace("attn.proj", f"{attention}.out")
            value = value.t().reshape(3, 32, 96) if value.ndim == 2 else value
        elif value.ndim == 2:
            value = value.t()
        elif value.ndim == 4:
            value = value.permute(2, 3, 1, 0)
        for old, new in (
            (r"norm1\.", "LayerNorm_0."),
            (r"norm2\.", "LayerNorm_2."),
            (r"mlp\.fc1", "MlpBlock_3.Dense_0"),
            (r"mlp\.fc2", "MlpBlock_3.Dense_1"),
            (r"^norm\.", "Transformer.encoder_norm."),
            (r"^cls_token", "cls"),
            (r"^pos_embed", "Transformer.posembed_input.pos_embedding"),
            (r"^patch_embed\.proj", "embedding"),
            (r"(orm(_\d)?)\.weight", r"\1.scale"),
            (r"weight$", "kernel"),
        ):
            name = re.sub(old, new, name)
        file[name] = value.contiguous()
    return {name.replace(".", "/"): value for name, value in file.items()}


def craft(state: State) -> State:
    """VGG cut into slices, with a decoder beside it (easyocr)."""
    file: State = {}
    for name, value in state.items():
        if found := re.match(r"features\.(\d+)", name):
            part = 1 + sum(int(found[1]) >= cut for cut in (13, 20, 30))
            file[f"basenet.slice{part}.{name.removeprefix('features.')}"] = value
    for name, (wide, narrow) in {"upconv1": (512, 256), "upconv2": (256, 128), "upconv3": (128, 64)}.items():
        for place, shape in ((0, (wide, wide, 1, 1)), (3, (narrow, wide, 3, 3))):
            file |= {
                f"{name}.conv.{place}.weight": torch.randn(shape),
                f"{name}.conv.{place}.bias": torch.randn(shape[0]),
            }
            for leaf in ("weight", "bias", "running_mean", "running_var"):
                file[f"{name}.conv.{place + 1}.{leaf}"] = torch.randn(shape[0])
    return file


def eva02(state: State) -> State:
    return renamed(
        (r"mlp\.fc1_g", "mlp.w1"),
        (r"mlp\.fc1_x", "mlp.w2"),
        (r"mlp\.fc2", "mlp.w3"),
        (r"mlp\.norm", "mlp.ffn_ln"),
        (r"attn\.norm", "attn.inner_attn_ln"),
    )(state)


def clip_resnet(state: State) -> State:
    file = renamed(
        (r"^stem\.conv(\d)\.conv", r"conv\1"),
        (r"^stem\.conv(\d)\.bn", r"bn\1"),
        (r"conv(\d)_\w+\.conv", r"conv\1"),
        (r"conv(\d)_\w+\.bn", r"bn\1"),
        (r"shortcut\.conv\.conv", "downsample.0"),
        (r"shortcut\.conv\.bn", "downsample.1"),
        (r"^head\.([qkv])\.", r"attnpool.\1_proj."),
        (r"^head\.proj", "attnpool.c_proj"),
        (r"^head\.pos_embed", "attnpool.positional_embedding"),
    )(state)
    return {re.sub(r"^stages\.(\d)", lambda m: f"visual.layer{int(m[1]) + 1}", n)
            if n.startswith("stages") else f"visual.{n}": v for n, v in file.items()}  # fmt: skip


def gluon_resnet(state: State) -> State:
    """MXNet gluon's names: one flat name a layer, numbered through a stage."""
    file: State = {}
    counts: dict[tuple[str, str], int] = {}
    seen: dict[str, str] = {}
    for name, value in state.items():
        path, _, leaf = name.rpartition(".")
        stage = re.match(r"layer(\d)", path)
        kind = (
            "batchnorm" if f"{path}.running_mean" in state else "dense" if value.ndim == 2 or path == "fc" else "conv"
        )
        if path not in seen:
            prefix = f"resnetv10_stage{stage[1]}_" if stage else "resnetv10_"
            number = counts.get((prefix, kind), 0)
            counts[prefix, kind] = number + 1
            seen[path] = f"{prefix}{kind}{number}"
        if kind == "batchnorm":
            leaf = {"weight": "gamma", "bias": "beta"}.get(leaf, leaf)
        file[f"{seen[path]}_{leaf}"] = value
    return file


POOLFORMER = renamed(
    (r"^stem\.conv", "poolformer.encoder.patch_embeddings.0.projection"),
    (r"^stages\.(\d)\.downsample\.conv", r"poolformer.encoder.patch_embeddings.\1.projection"),
    (r"^stages\.(\d)\.blocks\.(\d)\.", r"poolformer.encoder.block.\1.\2."), (r"\.norm1", ".before_norm"),
    (r"\.norm2", ".after_norm"), (r"mlp\.fc", "output.conv"), (r"layer_scale(\d)\.scale", r"layer_scale_\1"),
    (r"^head\.norm", "norm"), (r"^head\.fc", "classifier"),
)  # fmt: skip
"""transformers' names; timm's network goes on otherwise behind the last block, so outputs cannot be compared."""

FILES: dict[str, File] = {
    "PoolFormer": File("poolformer_s12", TEN, POOLFORMER),
    "DeiT/DINO/MAE of FB": File("vit_tiny_patch16_224", VIT, renamed()),
    "MAE of FB, with decoder": File(
        "vit_tiny_patch16_224", {**VIT, "num_classes": 0},
        renamed(extra={
            "mask_token": (1, 1, 64), "decoder_pos_embed": (1, 17, 64), "decoder_embed.weight": (64, 96),
            "decoder_embed.bias": (64,), "decoder_blocks.0.norm1.weight": (64,), "decoder_blocks.0.norm1.bias": (64,),
            "decoder_blocks.0.attn.qkv.weight": (192, 64), "decoder_blocks.0.attn.qkv.bias": (192,),
            "decoder_norm.weight": (64,), "decoder_norm.bias": (64,), "decoder_pred.weight": (768, 64),
            "decoder_pred.bias": (768,),
        }),
    ),
    "DINOv2 of FB": File(
        "vit_small_patch14_dinov2", {**VIT, "img_size": 70, "num_classes": 0}, renamed(extra={"mask_token": (1, 96)})
    ),
    "DINOv2 of FB, in chunks": File(
        "vit_small_patch14_dinov2", {**VIT, "img_size": 70, "num_classes": 0},
        renamed((r"^blocks\.(\d)", r"blocks.0.\1"), extra={"mask_token": (1, 96)}),
    ),
    "ConvNeXt of FB": File("convnext_tiny", CONVNEXT, FB_CONVNEXT),
    "ConvNeXt v2 of FB": File("convnextv2_tiny", CONVNEXT, FB_CONVNEXT_V2),
    "BEiT of unilm": File(
        "beit_base_patch16_224", VIT,
        renamed(extra={f"blocks.{i}.attn.relative_position_index": (17, 17) for i in range(3)}),
    ),
    "EVA-02": File("eva02_base_patch14_224", {**VIT, "img_size": 70}, eva02),
    "jeonsworld ViT": File("vit_tiny_patch16_224", VIT, JEONSWORLD),
    "lucidrains ViT": File("vit_tiny_patch16_224", {**VIT, "qkv_bias": False}, LUCIDRAINS),
    "OpenAI CLIP, visual": File("vit_base_patch16_clip_quickgelu_224", VIT, OPENAI, r"head\.bias"),
    "OpenAI CLIP, both towers": File(
        "vit_base_patch16_clip_quickgelu_224", {**VIT, "num_classes": 40},
        after(OPENAI, lambda state: {**state, **{n: torch.randn(s) for n, s in TEXT.items()}}), r"head\.bias",
    ),
    "OpenAI CLIP ResNet": File("resnet50_clip", {"num_classes": 64}, clip_resnet),
    "OpenCLIP with timm's trunk": File(
        "vit_base_patch16_siglip_224", {**VIT, "num_classes": 0},
        renamed((r"^", "visual.trunk."), extra={f"text.{n}": s for n, s in TEXT.items()}),
    ),
    "Swin of Microsoft": File("swin_tiny_patch4_window7_224", SWIN, MS_SWIN),
    "Swin of mm": File("swin_tiny_patch4_window7_224", SWIN, MM_SWIN),
    "ViT of mm": File("vit_tiny_patch16_224", VIT, MM_VIT),
    "ConvNeXt of mm": File("convnext_tiny", CONVNEXT, MM_CONVNEXT),
    "MobileNet v2 of mm": File("mobilenetv2_100", TEN, MM_MOBILENET),
    "ResNet of mm": File(
        "resnet50", {**TEN, "layers": [1, 2, 1, 1]}, renamed((r"^fc", "head.fc"), (r"^(?!head)", "backbone."))
    ),
    "ResNet of Keras": File("resnet50", {**TEN, "layers": [1, 2, 2, 1]}, KERAS_RESNET),
    "ResNet of Keras, its kernels": File(
        "resnet50", {**TEN, "layers": [1, 2, 2, 1]},
        after(leaves("gamma", "beta", "moving_mean", "moving_variance"), kernels, KERAS_RESNET),
    ),
    "EfficientNet of Keras": File(
        "tf_efficientnet_b0", TEN,
        after(leaves("gamma", "beta", "moving_mean", "moving_variance"), KERAS_EFFICIENTNET),
    ),
    "EfficientNet of Keras, its kernels": File(
        "tf_efficientnet_b0", TEN,
        after(leaves("gamma", "beta", "moving_mean", "moving_variance"), kernels, KERAS_EFFICIENTNET),
    ),
    "EfficientNet of lukemelas": File("tf_efficientnet_b0", TEN, LUKEMELAS),
    "ResNet of Caffe": File("resnet50", {**TEN, "layers": [1, 2, 2, 1]}, CAFFE_RESNET),
    "ResNet of Caffe2": File("resnet50", {**TEN, "layers": [1, 2, 2, 1]}, CAFFE2_RESNET, r"running_|num_batches"),
    "ResNet of detectron2": File("resnet50", {**TEN, "layers": [1, 2, 2, 1]}, DETECTRON2),
    "ResNet of gluon": File("resnet50", {**TEN, "layers": [1, 2, 2, 1]}, gluon_resnet),
    "ResNet, TensorFlow's leaves": File("resnet18", TEN, leaves("gamma", "beta", "moving_mean", "moving_variance")),
    "ResNet, Paddle's leaves": File("resnet18", TEN, leaves("weight", "bias", "_mean", "_variance")),
    "VGG in slices (CRAFT)": File("vgg16_bn", {"num_classes": 0}, craft, r"num_batches|pre_logits"),
    "ViT of Flax": File("vit_tiny_patch16_224", VIT, flax_vit),
}  # fmt: skip
"""Row -> layout."""
