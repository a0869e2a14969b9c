"""What may be the name of one file or folder, on every system that zoo runs on.

Names that come from others (a recipe's `name`, a shard in an index, a file in a run's records) are held against this
before they become part of a path: one that passes stays in the folder it is put into, on Linux, macOS and Windows.
"""

from __future__ import annotations

import re

FIRST_BATCH = "first_batch.jpg"  # in a run's folder: the first images as the network saw them
RUN_MARK = ".zoo-run.json"  # in a run's folder: which recipe runs there, and what it writes (see zoo.training.folder)
RUN_LOCK = ".zoo.lock"  # there, too: empty, held while a run is at work, and left behind
RUN_HOLDER = ".zoo-holder.json"  # there, too: who holds the lock, while it does
RUN_FILES = (RUN_MARK, RUN_LOCK)
MAX_BYTES = 255  # what ext4, APFS and NTFS take
_RESERVED = {"con", "prn", "aux", "nul"} | {f"{port}{digit}" for port in ("com", "lpt") for digit in "0123456789¹²³"}
_FORBIDDEN = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f-\x9f]')
# the same for a JSON Schema, but for the length in bytes
PATTERN = (
    r"^(?!\.| |(?:[cC][oO][nN]|[pP][rR][nN]|[aA][uU][xX]|[nN][uU][lL]|(?:[cC][oO][mM]|[lL][pP][tT])[0-9¹²³]) *(?:\.|$))"
    r"[^/\\:*?\"<>|\x00-\x1f\x7f-\x9f]*[^/\\:*?\"<>|\x00-\x1f\x7f-\x9f .]$"
)


def name_mistake(name: str, suffix: str = "") -> str | None:
    """Why `name` with `suffix` behind it cannot be the name of one file or folder; None where it can."""
    if not name.strip():
        return "it is empty"
    if found := _FORBIDDEN.search(name):
        return f"it contains {found[0]!r}"
    if name[0] == ".":
        return "it begins with a dot"
    if name[0] == " " or name[-1] in " .":
        return "it begins or ends with a space, or ends with a dot"
    if name.partition(".")[0].rstrip().casefold() in _RESERVED:
        return "Windows keeps this name for a device"
    try:
        size = len((name + suffix).encode())
    except UnicodeEncodeError:
        return "it contains a character that no file name takes"
    return f"it takes {size} bytes, and a file's name at most {MAX_BYTES}" if size > MAX_BYTES else None


def as_name(text: str, otherwise: str = "run", suffix: str = "") -> str:
    """A name that passes `name_mistake`, as like `text` as can be: `text` itself, or what is left of it."""
    if name_mistake(text, suffix) is None:
        return text
    plain = re.sub(r"[^\w.-]+", "_", text.encode(errors="replace").decode()).strip("_. ")
    plain = re.sub(r"_*\.\.+_*|_+", "_", plain).strip("_.")
    if plain.partition(".")[0].casefold() in _RESERVED:
        plain = f"{otherwise}_{plain}"
    room = MAX_BYTES - len(suffix.encode())
    plain = plain.encode()[:room].decode(errors="ignore").rstrip("_. ")
    return plain if plain and name_mistake(plain, suffix) is None else otherwise


def same_name(one: str, other: str) -> bool:
    """Whether two names can mean one file: macOS and Windows do not distinguish capitals."""
    return one.casefold() == other.casefold()
