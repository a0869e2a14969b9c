"""Decode whatever a data set calls an image (a path, a PIL image, an array, a tensor) to a tensor [c, h, w].

Images are uint8 unless a range is given: then they are float32 of 0..1, and nothing of deeper values is lost.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional

from zoo.contracts import Preprocessing, ValueRange
from zoo.data import arrays
from zoo.errors import InputError
from zoo.formats.files import kind_of

ORIENTATION, BITS_PER_SAMPLE, SAMPLE_FORMAT = 0x0112, 258, 339  # TIFF tags; EXIF has them, too
PNG = b"\x89PNG\r\n\x1a\n"
MOST_PIXELS = 178_956_970  # Pillow's own limit, kept where somebody has lifted that; a few kilobytes can claim more
MOST_BYTES = 1 << 30  # of a file
STRIP = 1 << 20  # pixels whose values are worked on at once in a wider type
PROGRAMS = {"EPS"}  # types for which Pillow runs another program on what the file says

# Pillow warns of half as many pixels, without the file's name; such an image is used
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Pixels(NamedTuple):
    """Values as a file has them, [c, h, w]. `white` is the value of white, None where nothing says; of these channels
    the last one is transparency where `alpha` says so."""

    values: np.ndarray[Any, Any]
    white: float | None
    alpha: bool


def image_for(value: Any, to: Preprocessing) -> Tensor:
    """`value` as a network with this preprocessing takes it, but for its size; see `to_image`."""
    return to_image(value, to.channels, range=to.range, layout=to.layout)


def to_image(value: Any, channels: int, *, range: ValueRange = None, layout: str = "auto") -> Tensor:
    """`value` as a tensor [channels, h, w] on the CPU, EXIF orientation applied.

    Grey becomes colour and colour grey (by luminance, ITU-R 601) as `channels` (1, 3 or 4) asks; what is transparent is
    laid over white, unless the network takes four channels. Any other number of channels has to be the image's own.

    Without a `range` the image is uint8: integers of up to 16 bits keep their high byte, floating point of 0..1 its
    picture. With one it is float32: `dtype` scales integers of up to 16 bits by the depth that their file or type
    states, and takes floating point of 0..1 as it is; two numbers are what becomes 0 and 1, and values beyond are kept.
    32-bit integers and other ranges say nothing about what is white, and are refused unless two numbers do.

    `layout` says whether the channels of an array are its first or its last dimension. Raises InputError naming the
    file that is empty, too large or cannot be decoded, and for values that are no image.
    """
    if isinstance(value, str | os.PathLike):
        return _read(Path(value), channels, range, layout)
    if isinstance(value, Image.Image):
        with _explained("the image"):
            return _finished(_from_pil(value), channels, range)
    if isinstance(value, np.ndarray) and (value.dtype == np.uint8 or range is not None) and value.ndim in (2, 3):
        layout = "channels_last" if layout == "auto" else layout
        values = arrays.channels_first(value, channels, layout)
    elif isinstance(value, Tensor) and (value.dtype == torch.uint8 or range is not None) and value.ndim in (2, 3):
        values = value.numpy(force=True) if value.ndim == 3 else value.unsqueeze(0).numpy(force=True)
    else:
        shape = f" of {value.dtype} {list(value.shape)}" if isinstance(value, Tensor | np.ndarray) else ""
        message = f"an image is a path, a PIL image or a uint8 tensor [c, h, w], not a {type(value).__name__}{shape}"
        raise InputError(message, suggestion="say which values are black and white: data.range" if shape else None)
    alpha = values.dtype == np.uint8 and len(values) in (2, 4)
    with _named("an image"):
        return _finished(Pixels(values, arrays.white_of(values.dtype), alpha), channels, range)


def natural_type(value: Any, channels: int, layout: str) -> np.dtype[Any]:
    """The type of an image's values before they are scaled. Raises InputError as `to_image`."""
    if isinstance(value, str | os.PathLike):
        with _explained(f"image {value}"):
            pixels = _decode(_content(Path(value)), channels, layout, deep=True)
            return np.dtype(str(pixels.values.dtype))
    if isinstance(value, Image.Image):
        return np.dtype(str(_from_pil(value).values.dtype))
    return np.dtype(str(value.dtype).removeprefix("torch.")) if hasattr(value, "dtype") else np.dtype(np.uint8)


def _read(path: Path, channels: int, range: ValueRange, layout: str) -> Tensor:
    content = _content(path)
    with _explained(f"image {path}"):
        return _finished(_decode(content, channels, layout, deep=range is not None), channels, range)


def _content(path: Path) -> bytes:
    """A regular file's bytes: a pipe would be waited for, and a device may never end."""
    try:
        kept = path.stat()
        if stat.S_ISREG(kept.st_mode) and 0 < kept.st_size <= MOST_BYTES:
            return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(f"cannot read image {path}: {getattr(error, 'strerror', None) or error}") from error
    if not stat.S_ISREG(kept.st_mode):
        raise InputError(f"image {path} is {kind_of(kept.st_mode)}, no file", suggestion="remove it")
    if not kept.st_size:
        raise InputError(f"image {path} is empty", suggestion="remove or replace it")
    message = f"image {path} has {kept.st_size:,} bytes: at most {MOST_BYTES:,} are read"
    raise InputError(message, suggestion="make it smaller, or remove it")


@contextlib.contextmanager
def _named(image: str) -> Iterator[None]:
    """Says of which image something is wrong."""
    try:
        yield
    except InputError as error:
        (problem,) = error.problems
        raise InputError(f"{image} {problem.message}", suggestion=problem.suggestion) from error


@contextlib.contextmanager
def _explained(image: str) -> Iterator[None]:
    """What a decoder raises as an InputError that names the image."""
    try:
        with _named(image):
            yield
    except InputError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        message = f"{image} is too large: at most {MOST_PIXELS:,} pixels are read"
        raise InputError(message, suggestion="make it smaller, or remove it") from error
    except UnidentifiedImageError as error:
        unknown = "it is damaged or of an unknown type"
        raise InputError(f"cannot decode {image}: {unknown}", suggestion="remove or replace it") from error
    except Exception as error:  # decoders raise whatever a damaged byte leads them to: struct.error, TypeError, …
        raise InputError(f"cannot decode {image}: it is damaged", suggestion="remove or replace it") from error


def _decode(content: bytes, channels: int, layout: str, *, deep: bool) -> Pixels:
    """`deep` asks for all bits of a colour PNG of 16 bits, of which Pillow gives the high byte."""
    if content.startswith(arrays.NPY):
        values = arrays.channels_first(arrays.read_npy(content, MOST_PIXELS), channels, layout)
        return Pixels(values, arrays.white_of(values.dtype), alpha=False)
    if content.startswith(PNG):
        _check_png(content)
        if deep and arrays.is_deep_png(content):
            _check_size(*struct.unpack_from(">II", content, 16))
            values = arrays.read_deep_png(content)
            return Pixels(values, 65535.0, alpha=len(values) in (2, 4))
    if arrays.is_tiff(content) and arrays.has_bands(content, MOST_PIXELS, deep=deep):
        values, alpha = arrays.read_bands(content)
        return Pixels(values, arrays.white_of(values.dtype), alpha)
    with Image.open(io.BytesIO(content), formats=_formats()) as opened:
        _check_size(opened.width, opened.height)
        return _from_pil(opened)


@functools.cache
def _formats() -> list[str]:
    Image.init()
    return [name for name in Image.ID if name not in PROGRAMS]


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise Image.DecompressionBombError


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


def _from_pil(image: Image.Image) -> Pixels:
    """1 or 3 channels, and one more where something is transparent; uint8 but for deep grey images."""
    depth = _depth(image)
    image = _upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Pixels(np.asarray(image)[None], None if depth is None else float(2**depth - 1), alpha=False)
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    transparent = image.has_transparency_data
    mode += "A" if transparent else ""
    decoded: Tensor = functional.pil_to_tensor(image if image.mode == mode else image.convert(mode))
    return Pixels(decoded.numpy(), 255.0, alpha=transparent)


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


def _finished(pixels: Pixels, channels: int, range: ValueRange) -> Tensor:
    """The values scaled, and as many channels as are asked for."""
    if range is None:
        return _with_channels(_bytes(pixels), channels, pixels.alpha, 255)
    return _with_channels(_floats(pixels, range), channels, pixels.alpha, 1.0)


def _bytes(pixels: Pixels) -> Tensor:
    values, white = pixels.values, pixels.white
    if values.dtype == np.uint8:
        return torch.tensor(values)  # a copy: what comes from elsewhere may be read-only
    if white is None:
        _check_known(values)
    image = torch.empty(values.shape, dtype=torch.uint8)
    for rows in _strips(values):
        part = values[:, rows]
        strip = np.rint(part * 255) if white is None else part >> (int(white).bit_length() - 8)
        image[:, rows] = torch.from_numpy(strip.astype(np.uint8))
    return image


def _strips(values: np.ndarray[Any, Any] | Tensor) -> Iterator[slice]:
    """The rows of [c, h, w], a strip at a time: an image may be large, and what is worked out is wider than a byte."""
    height, width = values.shape[-2:]
    step = max(STRIP // max(width, 1), 1)
    return (slice(top, top + step) for top in range(0, height, step))


def _floats(pixels: Pixels, range: ValueRange) -> Tensor:
    values, white = pixels.values, pixels.white
    _check_finite(values)
    if not isinstance(range, tuple) and white is None:
        _check_known(values)
    low, high = range if isinstance(range, tuple) else (0.0, white or 1.0)
    image = torch.empty(values.shape, dtype=torch.float32)
    for rows in _strips(values):
        strip = torch.from_numpy(values[:, rows].astype(np.float64))
        image[:, rows] = (strip - low) / (high - low)
        if pixels.alpha and isinstance(range, tuple):  # which is no measurement
            image[-1, rows] = strip[-1] / (white or 1.0)
    return image


def _check_finite(values: np.ndarray[Any, Any]) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError("has values that are no numbers (NaN or infinite)", suggestion="replace them by numbers")


def _check_known(values: np.ndarray[Any, Any]) -> None:
    """Raises InputError where nothing says what is white: of all but floating point of 0..1."""
    _check_finite(values)
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        return
    integers = "64-bit" if values.dtype.itemsize == 8 else "32-bit or signed"
    kind, advice = ("floating-point", "scale them to 0..1") if values.dtype.kind == "f" else (integers, "")
    raise InputError(
        f"has {kind} values of {low:g} to {high:g}: what is white cannot be known",
        suggestion=f"say it, data.range: [{low:g}, {high:g}] for instance, or let it be measured, data.range: measure; "
        f"or {advice or 'save it with 8 bits'}, or convert it to an 8- or 16-bit PNG",
    )


def _with_channels(image: Tensor, channels: int, alpha: bool, white: float) -> Tensor:
    if len(image) == channels:
        return image
    found = len(image)
    if channels in (1, 3, 4):
        if alpha and channels != 4:
            image, alpha = _over_white(image, white), False
        if len(image) - alpha == 1 and channels != 1:
            image = torch.cat([image[:1].expand(3, -1, -1), image[1:]])
        elif len(image) == 3 and channels == 1:
            image = functional.rgb_to_grayscale(image)
        if len(image) == 3 and channels == 4:
            image = torch.cat([image, torch.full_like(image[:1], white)])
    if len(image) != channels:
        said = f"with {found} channel{'s' if found > 1 else ''} does not fit a network that takes {channels}"
        raise InputError(said, suggestion=f"build the network for it: data.channels: {found}")
    return image


def _over_white(image: Tensor, white: float) -> Tensor:
    """Colours laid over white by the last channel, alpha: a transparent pixel has a colour that nobody sees."""
    colours, alpha = image[:-1], image[-1:]
    if bool((alpha == white).all()):
        return colours
    seen = torch.empty_like(colours)
    for rows in _strips(image):
        part, weight = colours[:, rows], alpha[:, rows]
        if image.dtype == torch.uint8:
            weight = weight.to(torch.int32)
            seen[:, rows] = (part.to(torch.int32) * weight + 255 * (255 - weight) + 127) // 255
        else:
            seen[:, rows] = part * weight + (1 - weight)
    return seen
