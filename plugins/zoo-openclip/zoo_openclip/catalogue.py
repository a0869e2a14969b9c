"""The configurations that the installed open_clip comes with, read from its files without importing it."""

from __future__ import annotations

import functools
import importlib.util
import json
from pathlib import Path
from typing import Any


@functools.cache
def configurations() -> dict[str, dict[str, Any]]:
    """By name; without those that caption (CoCa), whose image tower is made for another text tower. Raises
    ModuleNotFoundError without open_clip."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("open_clip is not installed", name="open_clip")
    folder = Path(spec.submodule_search_locations[0]) / "model_configs"
    read = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    return {name: config for name, config in read.items() if "multimodal_cfg" not in config}
