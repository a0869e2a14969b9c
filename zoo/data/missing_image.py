"""What to write in place of an image's path that a table names and nothing lies at."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterator

LOOKED_AT = 10_000  # names of a folder; more take too long for a hint
RELATIVE = "relative paths count from the table's folder"


def hint_of(image: str, folder: str) -> str:
    """What to do about `image`, which does not exist, in a table in `folder`: where it is, or how paths are written."""
    if re.match(r"[A-Za-z]:[\\/]", image):
        return "this is a path of a Windows machine: write it as it is here"
    if "\\" in image:
        return "write / in place of \\"
    if re.match(r"\w+://", image):
        return "a table lists files: download the images and write their paths"
    if image[0] in "~$%":
        return "~ and variables stand for nothing in a table: write the entire path"
    there = next((found for found in _others(image) if os.path.isfile(os.path.join(folder, found))), None)
    there = there or _alike(image, folder) or _below(image, folder)
    return f"there is {there}; {RELATIVE}" if there else RELATIVE


def _others(image: str) -> Iterator[str]:
    """The path without its first folders, one after the other: of another machine, or from another folder on."""
    parts = image.strip("/").split("/")
    return ("/".join(parts[first:]) for first in range(len(parts)))


def _alike(image: str, folder: str) -> str | None:
    """The file whose path differs in case, in Unicode form or in its ending alone."""
    *folders, name = image.split("/")
    found = ""
    for part in folders:
        match = next((each for each in _names(os.path.join(folder, found)) if _plain(each) == _plain(part)), None)
        if match is None:
            return None
        found = os.path.join(found, match)
    wanted = {_plain(name), _stem(_plain(name))}
    near = [each for each in _names(os.path.join(folder, found)) if {_plain(each), _stem(_plain(each))} & wanted]
    if not near:
        return None
    form = " (its name in another Unicode form)" if _nfc(near[0]) == _nfc(name) else ""
    return os.path.join(found, near[0]) + form


def _below(image: str, folder: str) -> str | None:
    """The file in a folder beside the table."""
    places = (os.path.join(name, image) for name in _names(folder))
    return next((place for place in places if os.path.isfile(os.path.join(folder, place))), None)


def _names(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in itertools.islice(entries, LOOKED_AT))
    except (OSError, ValueError):
        return []


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    return _nfc(name).casefold()


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name
