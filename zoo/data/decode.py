"""Decode whatever a data set calls an image (a path, a PIL image, an array, a tensor) to a uint8 tensor [c, h, w]."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional

from zoo.errors import InputError

CHANNELS = (1, 3, 4)
ORIENTATION, BITS_PER_SAMPLE, SAMPLE_FORMAT = 0x0112, 258, 339  # TIFF tags; EXIF has them, too
PNG = b"\x89PNG\r\n\x1a\n"
MOST_PIXELS = 178_956_970  # Pillow's own limit, kept where somebody has lifted that; a few kilobytes can claim more

# Pillow warns of half as many pixels, without the file's name; such an image is used
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def to_image(value: Any, channels: int) -> Tensor:
    """`value` as a uint8 tensor [channels, h, w] on the CPU, EXIF orientation applied.

    Grey becomes colour and colour grey as `channels` (1, 3 or 4) asks; what is transparent is laid over white, unless
    the network takes four channels. Integers of up to 16 bits keep their high byte, floating point of 0..1 its
    picture; 32-bit integers and other ranges say nothing about what is white, and are refused. Raises InputError
    naming the file that is empty, too large or cannot be decoded, and for values that are no image.
    """
    if channels not in CHANNELS:
        raise InputError(f"images have 1, 3 or 4 channels; this network takes {channels}")
    if isinstance(value, str | os.PathLike):
        return _read(Path(value), channels)
    if isinstance(value, Image.Image):
        with _explained("the image"):
            return _with_channels(_from_pil(value), channels)
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        value = torch.tensor(value if value.ndim == 2 else np.moveaxis(value, -1, 0))  # a copy: it may be read-only
    if not isinstance(value, Tensor) or value.dtype != torch.uint8 or value.ndim not in (2, 3):
        shape = f" of {value.dtype} {list(value.shape)}" if isinstance(value, Tensor | np.ndarray) else ""
        raise InputError(
            f"an image is a path, a PIL image or a uint8 tensor [c, h, w], not a {type(value).__name__}{shape}"
        )
    return _with_channels(value if value.ndim == 3 else value.unsqueeze(0), channels)


def _read(path: Path, channels: int) -> Tensor:
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(f"cannot read image {path}: {getattr(error, 'strerror', None) or error}") from error
    if not content:
        raise InputError(f"image {path} is empty", suggestion="remove or replace it")
    with _explained(f"image {path}"):
        return _with_channels(_decode(content), channels)


@contextlib.contextmanager
def _explained(image: str) -> Iterator[None]:
    """What a decoder raises as an InputError that names the image."""
    try:
        yield
    except InputError as error:
        (problem,) = error.problems
        raise InputError(f"{image} {problem.message}", suggestion=problem.suggestion) from error
    except (Image.DecompressionBombError, MemoryError) as error:
        message = f"{image} is too large: at most {MOST_PIXELS:,} pixels are read"
        raise InputError(message, suggestion="make it smaller, or remove it") from error
    except UnidentifiedImageError as error:
        unknown = "it is damaged or of an unknown type"
        raise InputError(f"cannot decode {image}: {unknown}", suggestion="remove or replace it") from error
    except Exception as error:  # decoders raise whatever a damaged byte leads them to: struct.error, TypeError, …
        raise InputError(f"cannot decode {image}: it is damaged", suggestion="remove or replace it") from error


def _decode(content: bytes) -> Tensor:
    if content.startswith(PNG):
        _check_png(content)
    with Image.open(io.BytesIO(content)) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise Image.DecompressionBombError
        return _from_pil(opened)


def _check_png(content: bytes) -> None:
    """Raises ValueError where a checksum does not fit: Pillow does not look at those of the pixels, and shows noise."""
    at = len(PNG)
    while at + 12 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, at)
        end = at + 8 + length
        critical = not kind[0] & 0x20
        if critical and struct.pack(">I", zlib.crc32(memoryview(content)[at + 4 : end])) != content[end : end + 4]:
            raise ValueError(f"the checksum of {kind!r} does not fit")
        if kind == b"IEND":
            return
        at = end + 4
    raise ValueError("it ends early")


def _from_pil(image: Image.Image) -> Tensor:
    """uint8 [c, h, w]: 1 or 3 channels, and one more where something is transparent."""
    depth = _depth(image)
    image = _upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return torch.from_numpy(_eight_bits(np.asarray(image), depth)).unsqueeze(0)
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    mode += "A" if image.has_transparency_data else ""
    decoded: Tensor = functional.pil_to_tensor(image if image.mode == mode else image.convert(mode))
    return decoded


def _upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation asks; as it is where that cannot be read."""
    image.load()  # what the pixels raise is a damaged image; what EXIF raises is not
    try:
        return image if image.getexif().get(ORIENTATION, 1) == 1 else ImageOps.exif_transpose(image)
    except Exception:
        return image


def _depth(image: Image.Image) -> int | None:
    """Bits of an integer grey value, 9 to 16; None where the file does not say which value is white.

    Pillow gives the 16 bits of a PGM and all 32 of a TIFF in one mode ("I"), and the values of a 12-bit TIFF as they
    are, up to 4,095.
    """
    if image.format != "TIFF":
        return 16 if image.mode.startswith("I;16") or image.format == "PPM" else None
    tags = getattr(image, "tag_v2", {})
    (bits, *_), (signed, *_) = tags.get(BITS_PER_SAMPLE, (1,)), tags.get(SAMPLE_FORMAT, (1,))
    return int(bits) if 8 < bits <= 16 and signed == 1 else None


def _eight_bits(values: np.ndarray[Any, Any], depth: int | None) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Grey values of more than eight bits as uint8 [h, w]. Raises InputError where nothing says what is white."""
    low, high = values.min(), values.max()
    if depth is not None:
        return np.asarray(values >> (depth - 8), dtype=np.uint8)
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return np.asarray(np.rint(values * 255), dtype=np.uint8)
    kind, advice = ("floating-point", "scale them to 0..1") if values.dtype.kind == "f" else ("32-bit or signed", "")
    raise InputError(
        f"has {kind} values of {low:g} to {high:g}: what is white cannot be known",
        suggestion=f"{advice or 'save it with 8 bits'}, or convert it to an 8- or 16-bit PNG",
    )


def _with_channels(image: Tensor, channels: int) -> Tensor:
    if image.shape[0] in (2, 4) and channels != 4:
        image = _over_white(image)
    if image.shape[0] in (1, 2) and channels != 1:
        image = torch.cat([image[:1].expand(3, -1, -1), image[1:]])
    elif image.shape[0] == 3 and channels == 1:
        image = functional.rgb_to_grayscale(image)
    if image.shape[0] == 3 and channels == 4:
        image = torch.cat([image, torch.full_like(image[:1], 255)])
    if image.shape[0] != channels:
        raise InputError(f"an image with {image.shape[0]} channels does not fit a network that takes {channels}")
    return image


def _over_white(image: Tensor) -> Tensor:
    """Colours laid over white by the last channel, alpha: a transparent pixel has a colour that nobody sees."""
    colours, alpha = image[:-1], image[-1:]
    if bool((alpha == 255).all()):
        return colours
    weight = alpha.to(torch.int32)
    seen = (colours.to(torch.int32) * weight + 255 * (255 - weight) + 127) // 255
    return seen.to(torch.uint8)
