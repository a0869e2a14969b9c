"""zoo's door to torchvision: its classification networks and its datasets. Importing this does not import torch."""

from zoo_torchvision.architectures import Torchvision

source = Torchvision()

__all__ = ["source"]
