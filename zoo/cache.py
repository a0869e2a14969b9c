"""Where zoo keeps what it can make or fetch again: its own cache folder, and torch.hub's for downloaded weights; and
where it keeps what a person has chosen: its folder of settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_folder() -> Path:
    """zoo's own cache (features, timings, the index of `zoo list`): `$ZOO_CACHE`, else the system's place for caches.

    That is `~/.cache/zoo` (`$XDG_CACHE_HOME/zoo`) on Linux, `~/Library/Caches/zoo` on macOS and
    `%LOCALAPPDATA%\\zoo\\Cache` on Windows. The folder need not exist.
    """
    if chosen := os.environ.get("ZOO_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "zoo" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "zoo"
    return _xdg_cache() / "zoo"


@contextmanager
def cache_in(folder: Path) -> Iterator[None]:
    """Inside, zoo's own cache is this folder."""
    before = os.environ.get("ZOO_CACHE")
    os.environ["ZOO_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["ZOO_CACHE"]
        else:
            os.environ["ZOO_CACHE"] = before


def config_folder() -> Path:
    """What a person has set (which plugins are switched off): `$ZOO_CONFIG`, else the system's place for settings.

    That is `~/.config/zoo` (`$XDG_CONFIG_HOME/zoo`) on Linux, `~/Library/Application Support/zoo` on macOS and
    `%APPDATA%\\zoo` on Windows. The folder need not exist.
    """
    if chosen := os.environ.get("ZOO_CONFIG"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming") / "zoo"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "zoo"
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "zoo"


def weights_folder() -> Path:
    """Where weights from https addresses are kept: torch.hub's folder, so that what torchvision downloaded is found,
    and the other way round. Imports no torch."""
    home = os.environ.get("TORCH_HOME")
    return (Path(home).expanduser() if home else _xdg_cache() / "torch") / "hub" / "checkpoints"


def _xdg_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
