"""zoo's door to transformers' image networks and to `datasets`. Importing this imports none of them, and no torch."""

from zoo_huggingface.architectures import Transformers

source = Transformers()

__all__ = ["source"]
