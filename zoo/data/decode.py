"""Decode whatever a data set calls an image (a path, a PIL image, an array, a tensor) to a uint8 tensor [c, h, w]."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision import io as torchvision_io
from torchvision.io import ImageReadMode
from torchvision.transforms.v2 import functional

from zoo.errors import InputError

MODES = {1: ("L", ImageReadMode.GRAY), 3: ("RGB", ImageReadMode.RGB), 4: ("RGBA", ImageReadMode.RGB_ALPHA)}
MAGIC = {b"\xff\xd8\xff": "decode_jpeg", b"\x89PNG": "decode_png"}
# torchvision 0.29 announces that these will go; PIL decodes everything they do, at two thirds of the speed
DECODERS = {magic: getattr(torchvision_io, name) for magic, name in MAGIC.items() if hasattr(torchvision_io, name)}


def to_image(value: Any, channels: int) -> Tensor:
    """`value` as a uint8 tensor [channels, h, w] on the CPU, EXIF orientation applied.

    Grey becomes colour and colour grey as `channels` (1, 3 or 4) asks; 16-bit images keep their high byte. Raises
    InputError naming the file that is empty or cannot be decoded, and for values that are no image.
    """
    if channels not in MODES:
        raise InputError(f"images have 1, 3 or 4 channels; this network takes {channels}")
    if isinstance(value, str | os.PathLike):
        return _read(Path(value), channels)
    if isinstance(value, Image.Image):
        return _from_pil(value, channels)
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value if value.ndim == 2 else np.moveaxis(value, -1, 0))
    if not isinstance(value, Tensor) or value.dtype != torch.uint8 or value.ndim not in (2, 3):
        what = f"{value.dtype} tensor {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(f"an image is a path, a PIL image or a uint8 tensor [c, h, w], not a {what}")
    return _with_channels(value if value.ndim == 3 else value.unsqueeze(0), channels)


def _read(path: Path, channels: int) -> Tensor:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read image {path}: {error.strerror}") from error
    if not content:
        raise InputError(f"image {path} is empty", suggestion="remove or replace it")
    try:
        return _decode(content, channels)
    except (RuntimeError, OSError, SyntaxError, ValueError) as error:
        kind = "damaged" if content[:4].startswith(tuple(MAGIC)) else "damaged or of an unknown type"
        raise InputError(f"cannot decode image {path}: it is {kind}", suggestion="remove or replace it") from error


def _decode(content: bytes, channels: int) -> Tensor:
    for magic, decoder in DECODERS.items():
        if content.startswith(magic) and channels != 4:
            encoded = torch.frombuffer(bytearray(content), dtype=torch.uint8)
            image: Tensor = decoder(encoded, MODES[channels][1], apply_exif_orientation=True)
            return image if image.dtype == torch.uint8 else (image.to(torch.int32) >> 8).to(torch.uint8)
    with Image.open(io.BytesIO(content)) as opened:
        return _from_pil(ImageOps.exif_transpose(opened), channels)


def _from_pil(image: Image.Image, channels: int) -> Tensor:
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # PIL warns about the direct way to RGB
    decoded: Tensor = functional.pil_to_tensor(image.convert(MODES[channels][0]))
    return decoded


def _with_channels(image: Tensor, channels: int) -> Tensor:
    have = image.shape[0]
    if have in (2, 4) and channels in (1, 3):
        image = image[: have - 1]  # the last one is alpha
    if image.shape[0] == 1 and channels == 3:
        image = image.expand(3, -1, -1)
    elif image.shape[0] == 3 and channels == 1:
        image = functional.rgb_to_grayscale(image)
    if image.shape[0] != channels:
        raise InputError(f"an image with {have} channels does not fit a network that takes {channels}")
    return image
