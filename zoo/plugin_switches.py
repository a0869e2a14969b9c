"""Which plugins are switched off: by `zoo plugins disable NAME`, kept in a file, or by the variable ZOO_PLUGINS.

`ZOO_PLUGINS=acme,timm` switches off every plugin but these (and zoo's own components, which are always there);
`ZOO_PLUGINS=-acme` switches off `acme`. A plugin that is named there is on or off whatever the file says.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

from zoo.cache import config_folder
from zoo.errors import InputError, WorkError

VARIABLE = "ZOO_PLUGINS"
CORE = "zoo"


def file() -> Path:
    """Where `zoo plugins disable` keeps its list."""
    return config_folder() / "plugins.json"


def disabled() -> frozenset[str]:
    """The plugins that the file switches off; none where it cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return frozenset(map(str, json.loads(file().read_text(encoding="utf-8"))["disabled"]))
    return frozenset()


def named() -> tuple[frozenset[str], frozenset[str]]:
    """The plugins that ZOO_PLUGINS names: those that are to be on, and those that are to be off."""
    words = [word.strip() for word in os.environ.get(VARIABLE, "").split(",") if word.strip()]
    off = frozenset(word[1:].strip() for word in words if word.startswith("-"))
    return frozenset(word for word in words if not word.startswith("-")), off


def why_off(plugin: str) -> str | None:
    """Why a plugin is switched off, and what switches it on; None where it is on."""
    if plugin == CORE:
        return None
    only, off = named()
    if plugin in off or (only and plugin not in only):
        return f"switched off by {VARIABLE}={os.environ[VARIABLE]}"
    if plugin in disabled() and plugin not in only:
        return f"switched off; zoo plugins enable {plugin}"
    return None


def switch(plugin: str, *, on: bool) -> bool:
    """Switch a plugin on or off for every later command; whether that changed anything.

    Raises InputError for zoo's own, WorkError where the file cannot be written.
    """
    if plugin == CORE:
        raise InputError("zoo's own components are always there", suggestion="zoo plugins lists what can be disabled")
    before = disabled()
    after = before - {plugin} if on else before | {plugin}
    if after == before:
        return False
    place = file()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps({"disabled": sorted(after)}, indent=1) + "\n", encoding="utf-8")
        temporary.replace(place)
    except OSError as error:
        raise WorkError(f"{place} cannot be written: {error.strerror}") from error
    return True
