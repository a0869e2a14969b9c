"""zoo's door to the tutorials' networks. Importing this does not import torch."""

from zoo_tutorial.source import Tutorial

source = Tutorial()

__all__ = ["source"]
