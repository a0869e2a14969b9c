"""The names timm offers, read from the source files of the installed package without executing them.

Importing timm takes seconds; finding its `@register_model` functions takes a hundredth of one. A slow test compares
what is read here with `timm.list_models()`.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

_REGISTERED = re.compile(rb"@register_model\s+def (\w+)")


@functools.cache
def names_by_file() -> dict[Path, tuple[str, ...]]:
    """The architectures each source file registers. Raises ModuleNotFoundError without timm."""
    spec = importlib.util.find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("timm is not installed", name="timm")
    models = Path(spec.submodule_search_locations[0]) / "models"
    return {
        path: tuple(name.decode() for name in _REGISTERED.findall(path.read_bytes())) for path in models.glob("*.py")
    }
