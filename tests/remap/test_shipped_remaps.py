"""Every installed remap through `zoo convert` and back: the same bytes, or a refusal that names the rule.

docs/remap.md holds the table; `ZOO_WRITE_GOLDEN=1 pytest tests/checkpoint/test_shipped_remaps.py` writes it anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from zoo import registry
from zoo.cli import run
from zoo.formats.safetensors_file import read_header
from zoo.model.build import build
from zoo.model.load_into import target_of

PAGE = Path(__file__).parents[2] / "docs" / "remap.md"
TABLE = re.compile(r"(?ms)^<!-- table: shipped -->\n(?P<table>.*?)^<!-- end -->\n")
ROW = re.compile(r"\| `(?P<name>[\w/-]+)` \| (?P<of>\w+) \| (?P<backwards>yes|no) \| (?P<why>.*?) \|")

TORCHVISION = {
    "convnext": "convnext_tiny", "efficientnet": "efficientnet_b0", "efficientnet_v2": "efficientnet_v2_m",
    "efficientnet_v2_s": "efficientnet_v2_s", "maxvit": "maxvit_t", "mnasnet": "mnasnet0_5",
    "mobilenet_v2": "mobilenet_v2", "mobilenet_v3_large": "mobilenet_v3_large",
    "mobilenet_v3_small": "mobilenet_v3_small", "regnet": "regnet_y_400mf", "swin": "swin_t", "swin_v2": "swin_v2_t",
    "vgg": "vgg11_bn", "vit": "vit_b_16",
}  # fmt: skip
TRANSFORMERS = {
    "convnext": ("ConvNextForImageClassification", "ConvNextConfig"),
    "deit": ("DeiTForImageClassificationWithTeacher", "DeiTConfig"),
    "resnet": ("ResNetForImageClassification", "ResNetConfig"),
    "vit": ("ViTForImageClassification", "ViTConfig"),
}
FLAX = {"flax": ("Transformer/posembed_input/pos_embedding", 1, 2, 3), "big_vision": ("pos_embedding", 0, 1, 0)}
LUKEMELAS = [*(f"b{n}" for n in range(9)), *(f"lite{n}" for n in range(5))]
SOURCES = {
    **{f"timm/from_torchvision_{remap}": model for remap, model in TORCHVISION.items()},
    "timm/to_torchvision_swin_v2": "swinv2_tiny_window8_256",
    **{f"timm/from_transformers_{remap}": kind for remap, (kind, _) in TRANSFORMERS.items()},
    **{f"timm/from_{code}_vit": "ViT" for code in FLAX},
    **{f"timm/from_tensorflow_efficientnet_{variant}": f"efficientnet_{variant}" for variant in LUKEMELAS},
    **{f"efficientnet-lite/lukemelas_{variant}": f"EfficientNet_{variant}" for variant in LUKEMELAS},
}
"""Remap -> the network whose file goes through it."""

POSITIONS, PIXELS = 13 * 13, 7 * 7  # sizes that rules ask for; larger ones are cut to keep the files small


def shapes_of(remap, folder):
    """What a file of the remap's source holds: (dtype, shape) by name."""
    if remap.startswith("timm/from_transformers_"):
        transformers = pytest.importorskip("transformers")
        kind, config = TRANSFORMERS[remap.removeprefix("timm/from_transformers_")]
        small = {"hidden_size": 12, "intermediate_size": 24, "num_attention_heads": 3} if "iT" in kind else {}
        getattr(transformers, kind)(getattr(transformers, config)(**small)).save_pretrained(folder / "hub")
        entries = read_header(folder / "hub" / "model.safetensors").entries
    elif remap in ("timm/from_flax_vit", "timm/from_big_vision_vit"):
        return {name: ("F32", shape) for name, shape in flax_vit(*FLAX[remap[10:-4]]).items()}
    elif remap.startswith("timm/from_tensorflow_"):
        return {name: ("F32", shape) for name, shape in tensorflow_efficientnet(SOURCES[remap]).items()}
    elif remap.startswith("efficientnet-lite/"):
        package = pytest.importorskip("efficientnet_lite_pytorch")
        import torch

        with torch.device("meta"):
            network = package.EfficientNet.from_name(SOURCES[remap].lower().replace("_", "-"))
        entries = target_of(network).entries
    else:
        library = "timm" if remap.startswith("timm/to_") else "torchvision"
        entries = target_of(build(f"{library}/{SOURCES[remap]}", device="meta").model).entries
    return {name: (entry.dtype, tuple(map(cut, entry.shape))) for name, entry in entries.items()}


def flax_vit(positions, attention, second, mlp):
    """The variables of a small ViT of vision_transformer or big_vision: 2 blocks, 3 heads of 4."""
    prefix = "params/" if positions == "pos_embedding" else ""
    shapes = {
        "cls": (1, 1, 12), positions: (1, 5, 12), "embedding/kernel": (16, 16, 3, 12), "embedding/bias": (12,),
        "Transformer/encoder_norm/scale": (12,), "Transformer/encoder_norm/bias": (12,), "head/kernel": (12, 7),
        "head/bias": (7,),
    }  # fmt: skip
    for block in (f"Transformer/encoderblock_{place}" for place in range(2)):
        heads, dense = f"{block}/MultiHeadDotProductAttention_{attention}", f"{block}/MlpBlock_{mlp}/Dense"
        for part in ("query", "key", "value"):
            shapes |= {f"{heads}/{part}/kernel": (12, 3, 4), f"{heads}/{part}/bias": (3, 4)}
        shapes |= {f"{heads}/out/kernel": (3, 4, 12), f"{heads}/out/bias": (12,)}
        for norm in (0, second):
            shapes |= {f"{block}/LayerNorm_{norm}/{leaf}": (12,) for leaf in ("scale", "bias")}
        shapes |= {f"{dense}_0/kernel": (12, 24), f"{dense}_0/bias": (24,)}
        shapes |= {f"{dense}_1/kernel": (24, 12), f"{dense}_1/bias": (12,)}
    return {prefix + name: shape for name, shape in shapes.items()}


STAGES = (1, 2, 2, 3, 3, 4, 1)
DEPTHS = dict(zip(LUKEMELAS, (1.0, 1.1, 1.2, 1.4, 1.8, 2.2, 2.6, 3.1, 3.6, 1.0, 1.1, 1.2, 1.4, 1.8), strict=True))


def tensorflow_efficientnet(name):
    """The variables of tensorflow/tpu's EfficientNet: a norm behind each convolution, numbered in the order of use."""
    variant, shapes = name.removeprefix("efficientnet_"), {}
    lite = variant.startswith("lite")
    depth = [n if lite and place in (0, 6) else -int(-n * DEPTHS[variant] // 1) for place, n in enumerate(STAGES)]
    network = f"efficientnet-{variant}"

    def norm(path):
        shapes.update({f"{path}/{leaf}": (4,) for leaf in ("gamma", "beta", "moving_mean", "moving_variance")})

    for place, wide in (("stem", 3), ("head", 4)):
        shapes[f"{network}/{place}/conv2d/kernel"] = (3, 3, wide, 4)
        norm(f"{network}/{place}/tpu_batch_normalization")
    shapes |= {f"{network}/head/dense/kernel": (4, 5), f"{network}/head/dense/bias": (5,)}
    for number in range(sum(depth)):
        block = f"{network}/blocks_{number}"
        expands = number >= depth[0]
        shapes |= {f"{block}/{'conv2d_1' if expands else 'conv2d'}/kernel": (1, 1, 4, 2)}
        shapes |= {f"{block}/conv2d/kernel": (1, 1, 2, 4)} if expands else {}
        shapes |= {f"{block}/depthwise_conv2d/depthwise_kernel": (3, 3, 4, 1)}
        for count in range(3 if expands else 2):
            norm(f"{block}/tpu_batch_normalization" + (f"_{count}" if count else ""))
        for place in () if lite else ("conv2d", "conv2d_1"):
            shapes |= {f"{block}/se/{place}/kernel": (1, 1, 4, 4), f"{block}/se/{place}/bias": (4,)}
    return shapes


def cut(size):
    """Still of three parts (query, key and value), and of whole images."""
    return size if size <= POSITIONS else 3 if size % PIXELS else 3 * PIXELS


def random_bits(shapes):
    generator = np.random.default_rng(0)
    types = {"F32": np.dtype("f4"), "I64": np.dtype("i8")}
    return {
        name: np.frombuffer(generator.bytes(int(np.prod(shape)) * types[dtype].itemsize), types[dtype]).reshape(shape)
        for name, (dtype, shape) in shapes.items()
    }


def written():
    """The rows of the page: remap -> (source, runs backwards, why not)."""
    rows = ROW.finditer(TABLE.search(PAGE.read_text())["table"])
    return {row["name"]: (row["of"], row["backwards"], row["why"]) for row in rows}


def settle(name, row):
    """Compare a row, or write what is true now."""
    if os.environ.get("ZOO_WRITE_GOLDEN"):
        rows = {**written(), name: row}
        lines = ["| remap | tried on | runs backwards | |", "|---|---|---|---|"]
        lines += [f"| `{name}` | {' | '.join(rows[name])} |" for name in sorted(rows)]
        text = "<!-- table: shipped -->\n" + "\n".join(lines) + "\n<!-- end -->\n"
        PAGE.write_text(TABLE.sub(lambda _: text, PAGE.read_text()))
    else:
        assert written()[name] == row


def test_no_installed_remap_is_forgotten():
    tried_there = {"openclip/image_tower"}  # in the plugin's own tests, with open_clip's networks
    assert set(registry.names("remaps")) - tried_there == set(SOURCES) == set(written())


LARGE = re.compile(r"(lukemelas|efficientnet)_b[4-8]$")  # the rules of b0 to b3, for more blocks: seconds each


@pytest.mark.parametrize(
    "remap", [pytest.param(each, marks=[pytest.mark.slow] if LARGE.search(each) else []) for each in SOURCES]
)
def test_there_and_back(remap, tmp_path, capsys):
    first, there, back = (str(tmp_path / f"{name}.safetensors") for name in ("first", "there", "back"))
    original = random_bits(shapes_of(remap, tmp_path))
    save_file(original, first)
    assert run(["convert", first, there, "--remap", remap]) == 0
    capsys.readouterr()
    code = run(["convert", there, back, "--remap", remap, "--invert"])
    said = capsys.readouterr().err
    if code == 0:
        assert not said
        returned = load_file(back)
        derived = {name for name in original.keys() - returned.keys() if "relative_position_index" in name}
        assert returned.keys() == original.keys() - derived
        for name, array in returned.items():
            assert (array.dtype, array.shape) == (original[name].dtype, original[name].shape)
            assert array.tobytes() == original[name].tobytes()
        settle(remap, (SOURCES[remap], "yes", "but for index tables, which the network computes" if derived else ""))
    else:
        assert code == 2
        assert not Path(back).exists()
        settle(remap, (SOURCES[remap], "no", " ".join(said.split())))
