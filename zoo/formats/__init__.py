"""Files of tensors in any format: open, read, write. No models, no rules; importing this imports no torch."""

from zoo.formats.open_source import open_source
from zoo.formats.source import ByteRange, Source

__all__ = ["ByteRange", "Source", "open_source"]
