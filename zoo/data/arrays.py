"""Image files that Pillow cannot read, or only in part: arrays of numpy, TIFF of many bands, colour PNG of 16 bits.

Each gives its values as they are, [c, h, w]; what they mean is for zoo.data.decode to say.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np

from zoo.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]

NPY = b"\x93NUMPY"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two of files beyond 4 GB
COLOUR_MODELS = (1, 3, 4)  # grey, RGB, RGBA
ALPHAS = (1, 2)  # how a TIFF marks a sample that is transparency; others are bands like any


def white_of(dtype: np.dtype[Any]) -> float | None:
    """The largest value of an unsigned integer of up to 16 bits; None of other types, which say nothing of white."""
    return float(np.iinfo(dtype).max) if dtype.kind == "u" and dtype.itemsize <= 2 else None


def channels_first(values: Array, channels: int, layout: str) -> Array:
    """[h, w], [h, w, c] or [c, h, w] as [c, h, w].

    Without a `layout` the channels are the dimension, first or last, that has as many as the network takes, or as a
    grey or colour image has. Raises InputError where neither or both may be meant.
    """
    if values.ndim == 2:
        return values[None]
    if values.ndim != 3 or 0 in values.shape:
        raise InputError(f"has the shape {list(values.shape)}: an image is [h, w], [h, w, c] or [c, h, w]")
    if values.dtype.kind not in "uif":
        raise InputError(f"contains {values.dtype}: an image consists of integers or real numbers")
    if layout == "auto":
        layout = _layout_of(values.shape, channels)
    return values if layout == "channels_first" else np.moveaxis(values, -1, 0)


def _layout_of(shape: tuple[int, ...], channels: int) -> str:
    ends = {"channels_first": shape[0], "channels_last": shape[-1]}
    for counts in ((channels,), COLOUR_MODELS):
        found = [layout for layout, count in ends.items() if count in counts]
        if len(found) == 1:
            return found[0]
        if found:
            message = f"has the shape {list(shape)}: its channels may be the first or the last dimension"
            raise InputError(message, suggestion="say which: data.layout: channels_last (or channels_first)")
    fewest = min(shape[0], shape[-1])
    message = f"has the shape {list(shape)}, and the network takes {channels} channels"
    raise InputError(message, suggestion=f"build the network for it: data.channels: {fewest}")


def read_npy(content: bytes, most: int) -> Array:
    """The array of a `.npy` file, which is never unpickled. Raises InputError where it contains no numbers, ValueError
    where its header and its length do not agree, MemoryError of more than `most` pixels."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.kind not in "uif":
        raise InputError(f"contains {dtype}: an image consists of integers or real numbers")
    if math.prod(shape) * dtype.itemsize > len(content) - file.tell():
        raise ValueError("it ends early")
    if math.prod(sorted(shape)[-2:]) > most:
        raise MemoryError
    values: Array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def is_deep_png(content: bytes) -> bool:
    """Whether a PNG has colours or transparency of 16 bits: Pillow gives the high byte alone of these."""
    return len(content) > 26 and content[24] == 16 and content[25] in (2, 4, 6)


def read_deep_png(content: bytes) -> Array:
    """uint16 [c, h, w], EXIF orientation applied."""
    import torch
    from torchvision.io import ImageReadMode, decode_image

    data = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    decoded: Array = decode_image(data, ImageReadMode.UNCHANGED, apply_exif_orientation=True).numpy()
    return decoded


def is_tiff(content: bytes) -> bool:
    return content[:4] in TIFF


def has_bands(content: bytes, most: int, *, deep: bool) -> bool:
    """Whether a TIFF has bands that Pillow does not give as they are: more than a colour image, or, where `deep` asks
    for all bits, colours of more than 8. Raises InputError where tifffile, which reads these, is not installed."""
    from PIL import TiffImagePlugin

    prefix = content[:4]
    directory = TiffImagePlugin.ImageFileDirectory_v2(content[:16] if prefix[2:3] == b"+" else content[:8])
    file = io.BytesIO(content)
    file.seek(directory.next)
    directory.load(file)
    bits, extra = directory.get(258, (1,)), directory.get(338, ())
    samples = int(directory.get(277, 1))
    if math.prod(int(directory.get(tag, 0)) for tag in (256, 257)) > most:
        raise MemoryError
    colours = samples <= 3 or (samples == 4 and (not extra or extra[0] in ALPHAS))
    if samples == 1 or (colours and not (deep and max(bits) > 8)):
        return False
    try:
        import tifffile  # noqa: F401
    except ImportError:
        message = f"has {samples} bands of {max(bits)} bits, which Pillow cannot read"
        raise InputError(message, suggestion='pip install "zoo-kit[tiff]"') from None
    return True


def read_bands(content: bytes) -> tuple[Array, bool]:
    """Every band of a TIFF's first page, interleaved or one after the other, and whether the last one is transparency.
    Raises InputError for a compression that takes another package."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(content)) as opened:
        page = opened.pages[0]
        try:
            values = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            name = getattr(page.compression, "name", page.compression)
            message = f"is compressed by {name}, which tifffile cannot read alone"
            raise InputError(message, suggestion="pip install imagecodecs") from error
        values = np.moveaxis(values, -1, 0) if page.axes == "YXS" else values
        return values, len(values) in (2, 4) and any(int(kind) in ALPHAS for kind in getattr(page, "extrasamples", ()))
