"""zoo's door to timm: every architecture and every pretrained tag. Importing this imports neither timm nor torch."""

from zoo_timm.architectures import Timm

source = Timm()

__all__ = ["source"]
