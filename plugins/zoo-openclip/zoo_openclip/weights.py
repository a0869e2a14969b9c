"""From a checkpoint of both towers to the image tower."""

from __future__ import annotations


def image_tower() -> list[dict[str, str]]:
    """The image tower of a checkpoint of open_clip's; the text tower, scale and bias stay in the file."""
    return [{"keep": r"^visual\."}]
