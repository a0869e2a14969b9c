"""What plugins answered (`zoo.plugin_process`), remembered in zoo's cache folder, one file a distribution.

An answer counts while the distribution, the files it consists of and the versions of what it requires stay as they are;
a failure, beside that, only until anything is installed or removed. Of an editable install, where an edit changes no
metadata, every file of the package counts. `zoo doctor` asks anew.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoo.cache import cache_folder
from zoo.plugin_process import Answer, Question, ask

State = list[Any]
_METADATA = ("entry_points.txt", "RECORD", "METADATA", "direct_url.json")


@dataclass(frozen=True)
class Asked:
    """A question, and what its answer depends on: the distribution's `*.dist-info` folder and its module's files."""

    question: Question
    metadata: str
    files: tuple[Path, ...]

    @property
    def key(self) -> str:
        return f"{self.question.what} {self.question.kind} {self.question.target}"


def answers_to(asked: Sequence[Asked], *, anew: bool = False) -> list[Answer]:
    """The answers, in order: those that are remembered, or all `anew`; the rest is asked, and remembered."""
    found: dict[Asked, Answer | None] = {each: None if anew else _remembered(each) for each in asked}
    missing = [each for each, known in found.items() if known is None]
    if missing:
        fresh = ask([each.question for each in missing])
        for each, answer in zip(missing, fresh, strict=True):
            found[each] = answer
        _remember(dict(zip(missing, fresh, strict=True)))
    return [known for each in asked if (known := found[each]) is not None]


def forget() -> None:
    """Read everything again: the cache folder or what is installed has changed."""
    for cached in (_table, _version, _state, _installed):
        cached.cache_clear()


def _remembered(asked: Asked) -> Answer | None:
    row = _table(_file(asked.question.distribution)).get(asked.key)
    with suppress(KeyError, TypeError, AttributeError):  # another zoo may have written it
        if row is None or row["state"] != _state(asked) or row["requires"] != _versions(row["requires"]):
            return None
        if row["cause"] is not None and row["installed"] != _installed():
            return None
        value = row["value"]
        return Answer(row["cause"], value, tuple(row["changes"]), row["trace"]) if _is_plain(value) else None
    return None


def _is_plain(value: Any) -> bool:
    """Whether a value read from the file is of a form that an answer has."""
    kinds: Any = value if isinstance(value, list) else value.values() if isinstance(value, dict) else ()
    return value is None or (
        isinstance(value, list | dict) and all(item is None or isinstance(item, str) for item in kinds)
    )


def _remember(answers: dict[Asked, Answer]) -> None:
    """Write the answers beside those that are in the files; a cache that cannot be written costs time, nothing else."""
    for file in {_file(asked.question.distribution) for asked in answers}:
        rows = dict(_table(file))
        for asked, answer in answers.items():
            if _file(asked.question.distribution) == file:
                requires = _versions(_requirements(asked.question.distribution))
                when = {"state": _state(asked), "requires": requires, "installed": _installed()}
                rows[asked.key] = when | asdict(answer)
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(json.dumps(rows), encoding="utf-8")
            temporary.replace(file)
    _table.cache_clear()


def _file(distribution: str) -> Path:
    return cache_folder() / "plugins" / f"{re.sub(r'[^A-Za-z0-9._-]', '_', distribution)[:100]}.json"


@functools.cache
def _table(file: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(file.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    return {}


@functools.cache
def _state(asked: Asked) -> State:
    """Version and files of a distribution, as they are on disk, and the Python that imports them."""
    files = [Path(asked.metadata, name) for name in _METADATA] if asked.metadata else []
    files += asked.files
    if _is_edited(asked.metadata):
        files += [file for module in asked.files for file in sorted(module.parent.rglob("*.py"))[:2000]]
    stamps = [[str(file), *_stamp(file)] for file in dict.fromkeys(files)]
    return [asked.question.version, sys.version.partition(" ")[0], stamps]


def _is_edited(metadata: str) -> bool:
    """Whether a distribution's files are edited in place: an editable install, or a checkout on the path."""
    folder = Path(metadata)
    if not metadata or not (folder / "RECORD").is_file():
        return True
    with suppress(OSError, ValueError):
        return "editable" in (folder / "direct_url.json").read_text(encoding="utf-8")
    return False


def _stamp(file: Path) -> list[int]:
    try:
        found = file.stat()
    except OSError:
        return []
    return [found.st_mtime_ns, found.st_size]


@functools.cache
def _installed() -> State:
    """Changes with everything that is installed or removed: when the folders of `sys.path` last changed."""
    return [[entry, *_stamp(Path(entry))[:1]] for entry in sys.path if os.path.isdir(entry)]


def _requirements(distribution: str) -> list[str]:
    with suppress(importlib.metadata.PackageNotFoundError, OSError, ValueError):
        lines = importlib.metadata.requires(distribution) or ()
        return sorted({re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in lines if "extra ==" not in line})
    return []


def _versions(names: Any) -> dict[str, str | None]:
    return {name: _version(name) for name in names}


@functools.cache
def _version(name: str) -> str | None:
    with suppress(importlib.metadata.PackageNotFoundError, OSError, ValueError):
        return importlib.metadata.version(name)
    return None
