"""Opens checkpoints of every format: one function, one `Source` type. Importing this does not import torch."""

from zoo.checkpoint.sources.opening import open_source
from zoo.checkpoint.sources.source import ByteRange, Source

__all__ = ["ByteRange", "Source", "open_source"]
