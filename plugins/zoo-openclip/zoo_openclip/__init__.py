"""zoo's door to OpenCLIP: the image towers of its models. Importing this imports neither open_clip nor torch."""

from zoo_openclip.architectures import OpenClip

source = OpenClip()

__all__ = ["source"]
