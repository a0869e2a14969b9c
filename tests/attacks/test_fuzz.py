"""Files changed at random: each is read, or refused by one of zoo's own errors within seconds.

Each fuzzer has `ZOO_FUZZ_SECONDS` (10), and says how much it tried. A failure prints the seed: `ZOO_FUZZ_SEED=n` tries
that input again, alone.
"""

import io
import json
import os
import pickle
import random
import struct
import time
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data.decode import to_image
from zoo.errors import ZooError
from zoo.formats import open_source
from zoo.formats.entry import Entry
from zoo.recipe.load import check_recipe
from zoo.recipe.yaml_reader import parse
from zoo.remap.rules import load_rules, run

SECONDS = float(os.environ.get("ZOO_FUZZ_SECONDS", "10"))
SLOWEST = 10

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2), "n": torch.tensor(3)}
WORDS = [
    b"\0", b"\xff" * 8, b"\x7f" * 4, b"(", b"]", b"}", b"\x85", b"R", b"\x81", b"\x93", b"N", b"[", b"{", b'"',
    b"9" * 40, b"\xed\xa0\x80", b"../", b"cos\nsystem\n", b"*a ", b"&a ", b"<<: ", b"(a+)+$", b"{i}", b"e999", b"-1",
    b": ", b"- ", b"\n",
]  # fmt: skip


def mutated(content, chance):
    """The content with a few bytes changed, doubled, moved or lost."""
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        place = chance.randrange(len(content) + 1)
        match chance.randrange(6):
            case 0:
                content[place : place + 1] = bytes([chance.randrange(256)])
            case 1:
                content[place : place + chance.randrange(1, 9)] = b""
            case 2:
                content[place:place] = chance.choice(WORDS)
            case 3:
                length = chance.randrange(1, 64)
                content[place:place] = content[place : place + length] * chance.choice((1, 2, 50))
            case 4:
                content[place : place + 4] = struct.pack(
                    "<i", chance.choice((-1, 0, 1, 2**31 - 1, chance.getrandbits(30)))
                )
            case 5:
                content[place : place + 8] = struct.pack("<q", chance.choice((-1, 2**63 - 1, 2**40, 2**62)))
    return bytes(content)


def read(path):
    """Every tensor of a small file."""
    with open_source(path) as source:
        for name, entry in source.entries.items():
            if entry.nbytes < 10_000_000:
                array = source.array(name)
                assert array.shape == entry.shape


def saved(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def header():
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    text = json.dumps({"__metadata__": {"zoo": '{"format": 1}', "b": "a"}, "a": entry}).encode()
    return struct.pack("<Q", len(text)) + text + bytes(8)


def npz(**options):
    buffer = io.BytesIO()
    (np.savez_compressed if options else np.savez)(buffer, a=np.ones((2, 3), "f4"), b=np.zeros(3, "i8"))
    return buffer.getvalue()


ARRAYS = {"model": {"a": np.ones((2, 3), "f4"), "b": np.asfortranarray(np.ones((2, 2), ">f8"))}}
FILES = {
    "header.safetensors": lambda: [header()],
    "torch.pth": lambda: [
        saved({"state_dict": TENSORS, "epoch": 3}),
        saved({"model": TENSORS}, _use_new_zipfile_serialization=False),
        saved({"state_dict": ARRAYS["model"]}),
    ],
    "plain.pkl": lambda: [
        *(pickle.dumps(ARRAYS, protocol=protocol) for protocol in (2, 4, 5)),
        pickle.dumps({"model": TENSORS}),
    ],
    "arrays.npz": lambda: [npz(), npz(compressed=True)],
    "m.index.json": lambda: [b'{"metadata": {}, "weight_map": {"a": "one.safetensors"}}'],
}


@pytest.fixture
def fuzz(tmp_path, record_property, capsys):
    """Tries inputs made from seeds until the time is over."""

    def tried(make, attempt):
        only = os.environ.get("ZOO_FUZZ_SEED")
        count, refused, began = 0, 0, time.monotonic()
        while time.monotonic() - began < SECONDS and not (only and count):
            seed = int(only) if only else random.randrange(2**32)
            content, start = make(random.Random(seed)), time.process_time()
            try:
                attempt(content)
            except ZooError:
                refused += 1
            except Exception as error:
                raise AssertionError(f"ZOO_FUZZ_SEED={seed}: {type(error).__name__}: {error}") from error
            assert time.process_time() - start < SLOWEST, f"ZOO_FUZZ_SEED={seed} takes too long"
            count += 1
        record_property("inputs", count)
        with capsys.disabled():
            print(f" {count:,} inputs, {refused:,} refused ", end="")

    return tried


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # of pickletools and numpy's headers
@pytest.mark.filterwarnings("ignore:invalid .* literal:SyntaxWarning")
@pytest.mark.filterwarnings("ignore:Reading `.npy` or `.npz` file required additional header parsing:UserWarning")
@pytest.mark.parametrize("name", FILES)
def test_weight_files(name, fuzz, tmp_path):
    seeds, path = FILES[name](), tmp_path / name
    (tmp_path / "one.safetensors").write_bytes(header())

    def attempt(content):
        path.write_bytes(content)
        read(path)

    fuzz(lambda chance: mutated(chance.choice(seeds), chance), attempt)


RECIPE = b"""\
name: r
model: {architecture: timm/test_vit, arguments: {img_size: 64}, remap: [drop: ^fc]}
data: {source: image_folder, path: data, image_size: 64, batch_size: 8, mean: [0.5, 0.5, 0.5], std: [1, 1, 1]}
steps:
  - freeze: {pattern: '^blocks\\\\.(0|1)\\\\.'}
  - swap_head: {num_classes: 3}
  - train: {epochs: 1, lr_scale: {head: 2}, optimizer: {name: adamw, lr: 0.001}}
  - save: {path: model.safetensors}
"""
RULES = b"""\
remap:
  - rename: {'^_conv_stem\\\\.(.*)': 'conv_stem.\\\\1', 'blocks.{i}.{leaf=weight|bias}': 'layers.{i+1}.{leaf}'}
  - &drop {drop: [fc, head]}
  - strip_prefix: module.
  - split: {from: 'attn.{i}.qkv', into: ['q.{i}', 'k.{i}', 'v.{i}'], sizes: [2, 2, 2]}
  - <<: *drop
  - reshape: {match: w, to: [2, -1]}
  - permute: {match: x, axes: [1, 0]}
"""
NAMES = ["module._conv_stem.weight", "blocks.0.weight", "attn.1.qkv", "fc.w", "x" * 60 + ".weight"]


@pytest.mark.slow
def test_recipes(fuzz):
    fuzz(
        lambda chance: mutated(RECIPE, chance).decode("utf-8", "replace"),
        lambda text: check_recipe(parse(text, "r.yaml")),
    )


@pytest.mark.slow
def test_rules(fuzz, tmp_path):
    entries = {name: Entry(name, "F32", (6, 2)) for name in NAMES}
    path = tmp_path / "rules.yaml"

    def attempt(content):
        path.write_bytes(content)
        run(load_rules(path), entries)

    fuzz(lambda chance: mutated(RULES, chance), attempt)


@pytest.mark.slow
def test_checkpoint_metadata(fuzz, tmp_path):
    from zoo.checkpoint.load import load
    from zoo.checkpoint.save import save_checkpoint
    from zoo.model.build import build

    path = tmp_path / "a.safetensors"
    save_checkpoint(build("timm/test_vit", {"num_classes": 3}), path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    whole = json.loads(content[8 : 8 + length])
    record = whole["__metadata__"]["zoo"].encode()

    def make(chance):
        text = mutated(record, chance).decode("utf-8", "replace")
        head = json.dumps(whole | {"__metadata__": {"format": "pt", "zoo": text}}).encode()
        return struct.pack("<Q", len(head)) + head + content[8 + length :]

    def attempt(changed):
        path.write_bytes(changed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of another version of a plugin, as the mutated record says
            load(path)

    fuzz(make, attempt)


PICTURES = ("png", "jpg", "webp", "gif", "bmp", "tiff", "avif", "jp2", "ppm", "tga")
MODES = {"png": ("RGB", "RGBA", "P", "L", "1", "I;16"), "gif": ("P",), "tiff": ("RGB", "L", "F", "I;16", "1")}
OPTIONS = {
    "tiff": ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}),
    "jpg": ({}, {"progressive": True}),
}


def pictures(suffix):
    """Small pictures of every kind that the format stores."""
    pixels = np.random.default_rng(0).integers(0, 255, (24, 20, 3), dtype=np.uint8)
    found = []
    for mode in MODES.get(suffix, ("RGB", "L")):
        deep = {"I;16": np.uint16, "F": np.float32}.get(mode)
        grey = pixels[..., 0]
        image = Image.fromarray(grey.astype(deep) / (255 if mode == "F" else 1)).convert("F") if mode == "F" else None
        image = image or (Image.fromarray(grey.astype(deep)) if deep else Image.fromarray(pixels).convert(mode))
        for options in OPTIONS.get(suffix, ({},)):
            buffer = io.BytesIO()
            image.save(buffer, Image.registered_extensions()[f".{suffix}"], **options)
            found.append(buffer.getvalue())
    return found


def flipped(content, chance):
    """The content with one to a dozen bits turned over; now and then cut short."""
    content = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 12))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return bytes(content[: chance.randrange(1, len(content))] if chance.random() < 0.05 else content)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Pillow warns of what is odd in a file
@pytest.mark.parametrize("suffix", PICTURES)
def test_images(suffix, fuzz, tmp_path):
    """Whatever a decoder makes of a damaged picture, it is a picture or one unreadable image."""
    if Image.registered_extensions().get(f".{suffix}") not in Image.SAVE:
        pytest.skip(f"Pillow here cannot write .{suffix}")
    seeds, path = pictures(suffix), tmp_path / f"picture.{suffix}"
    for content in seeds:
        path.write_bytes(content)
        assert to_image(path, 3).shape == (3, 24, 20)

    def attempt(content):
        path.write_bytes(content)  # what ends the process is left there
        image = to_image(path, 3)
        assert image.dtype == torch.uint8
        assert image.shape[0] == 3

    fuzz(lambda chance: flipped(chance.choice(seeds), chance), attempt)
