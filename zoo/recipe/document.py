"""A YAML document as plain data that remembers where every key and every value was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from zoo.errors import Location, Problem

Path = tuple[str | int, ...]


@dataclass(frozen=True)
class FlagLocation(Location):
    """The place of a value that stands in no file: a flag of the command line, as typed in `file`, or the key of a
    dictionary."""

    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return self.file

    @property
    def within(self) -> str:
        """The place as it is."""
        return self.file


@dataclass
class Document:
    """Plain data (mappings with string keys, lists, scalars) with the locations of its keys and values.

    `keys` holds where the key, or the list item, of a path is written; `values` where its value begins. What came
    through an alias or a merge key stands where the anchor wrote it. `problems` are mistakes that did not stop the
    reading, such as a key written twice.
    """

    file: str
    data: Any = None
    keys: dict[Path, Location] = field(default_factory=dict)
    values: dict[Path, Location] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    """The files that it was read from: `file`, and those it extends."""

    def __post_init__(self) -> None:
        self.sources = self.sources or [self.file]

    def key(self, path: Path) -> Location:
        """Where the key of `path` is written, or that of its nearest written parent."""
        return self._find(self.keys, path)

    def value(self, path: Path) -> Location:
        """Where the value of `path` begins, or that of its nearest written parent."""
        return self._find(self.values, path)

    def _find(self, places: dict[Path, Location], path: Path) -> Location:
        for length in range(len(path), -1, -1):
            if path[:length] in places:
                return places[path[:length]]
        return Location(self.file, 1, 1)

    def add(self, path: Path, message: str, suggestion: str | None = None, *, at_key: bool = False) -> None:
        """Note a mistake at the value of `path`, or at its key."""
        location = self.key(path) if at_key else self.value(path)
        self.problems.append(Problem(message, location, suggestion))

    def get(self, path: Path, default: Any = None) -> Any:
        """The value at `path`, or `default` where nothing stands."""
        value = self.data
        for part in path:
            holds = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
            if part not in holds:
                return default
            value = value[part]
        return value

    def replace(self, path: Path, value: Any, location: Location | None = None) -> None:
        """Put `value` at `path`, whose parent exists. With a `location`, all of it is said to stand there."""
        if not path:
            self.data = value
        else:
            self.get(path[:-1])[path[-1]] = value
        if location is not None:
            self.forget(path)
            self.keys[path] = self.values[path] = location

    def wrap(self, path: Path, key: str) -> None:
        """Turn the value X at `path` into `{key: X}`; both stand where X was written."""
        value, key_at, value_at = self.get(path), self.key(path), self.value(path)
        self.replace(path, {key: value})
        self.keys[path], self.values[path] = key_at, value_at
        self.keys[(*path, key)] = self.values[(*path, key)] = value_at

    def forget(self, path: Path) -> None:
        """Forget where `path`, and all inside it, was written."""
        for places in (self.keys, self.values):
            for known in [known for known in places if known[: len(path)] == path]:
                del places[known]


def walk(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value inside `value` with its path, parents first."""
    yield path, value
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from walk(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from walk(inner, (*path, index))


def label(path: Path) -> str:
    """A path as people write it: `data.batch_size`, `train.metrics[0]` (steps go by their action, not their index)."""
    parts = path[2:] if len(path) > 2 and path[0] == "steps" else path
    text = ""
    for part in parts:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
