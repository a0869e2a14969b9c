"""`preprocessor_config.json`, as transformers publishes it beside weights, as zoo's preprocessing."""

from __future__ import annotations

from typing import Any

from zoo.api import InputError, Preprocessing, file_beside
from zoo_huggingface.configuration import read_json

_FILE = "preprocessor_config.json"
_INTERPOLATIONS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "bilinear", 5: "bicubic"}  # as Pillow
_STANDARD = (0.5, 0.5, 0.5)  # what transformers normalises by where its file does not say
_CONVNEXT_SQUASHES = 384  # from this size on its processor resizes to a square instead of cropping
_LEVIT_MARGIN = 256 / 224  # its processor resizes to so much more than it says, and crops


def read_preprocessing(location: str) -> Preprocessing | None:
    """How transformers prepares images for the weights at a location; None where it does not say.

    transformers squashes an image to a square where zoo resizes its short side and crops the centre. Raises InputError
    for a file that is damaged, and for a network that takes blue before red, which zoo does not.
    """
    path = file_beside(location, _FILE)
    if path is None:
        return None
    said = read_json(path)
    if said.get("do_flip_channel_order"):
        raise InputError(
            f"{path}: the network takes blue, green and red in this order, which zoo does not",
            suggestion="turn the input channels of its first convolution around, and remove do_flip_channel_order",
        )
    try:
        size, fraction = _size(said)
        mean, std = _normalisation(said)
    except (TypeError, ValueError, KeyError, IndexError, ZeroDivisionError) as error:
        raise InputError(f"{path} does not say how images are prepared: {error!r}") from error
    return Preprocessing(size, mean, std, _interpolation(said), fraction, len(mean))


def _size(said: dict[str, Any]) -> tuple[tuple[int, int], float]:
    """What the network sees, (height, width), and the share of the resized image's side that this is."""
    resized = _sides(said.get("size", 224))
    if "crop_pct" in said:
        share = 1.0 if min(resized) >= _CONVNEXT_SQUASHES else float(said["crop_pct"] or 1.0)
        return resized, share
    kind = str(said.get("image_processor_type") or said.get("feature_extractor_type") or "")
    if not said.get("do_center_crop") or "crop_size" not in said:
        return resized, 1.0
    cropped = _sides(said["crop_size"])
    if not said.get("do_resize", True):
        return cropped, 1.0
    side = min(resized) * (_LEVIT_MARGIN if kind.startswith("Levit") else 1)
    return cropped, min(min(cropped) / side, 1.0)


def _sides(size: Any) -> tuple[int, int]:
    if isinstance(size, dict):
        side = size.get("shortest_edge") or size.get("longest_edge")
        size = (size["height"], size["width"]) if side is None else side
    height, width = size if isinstance(size, list | tuple) else (size, size)
    return int(height), int(width)


def _normalisation(said: dict[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of values scaled to 0..1, whatever transformers scales them to."""
    normalised = said.get("do_normalize", True)
    mean = said.get("image_mean") or _STANDARD if normalised else (0.0, 0.0, 0.0)
    std = said.get("image_std") or _STANDARD if normalised else (1.0, 1.0, 1.0)
    white = 255 * float(said.get("rescale_factor") or 1 / 255) if said.get("do_rescale", True) else 255.0
    shift = 1.0 if said.get("rescale_offset") else 0.0
    white = round(white, 9)  # 255 * 0.00392156862745098 is 1
    return tuple((float(value) + shift) / white for value in mean), tuple(float(value) / white for value in std)


def _interpolation(said: dict[str, Any]) -> str:
    resample = said.get("resample", 2)
    return _INTERPOLATIONS.get(resample, "bilinear") if isinstance(resample, int) else "bilinear"
