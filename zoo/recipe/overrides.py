"""`--set KEY=VALUE` and shorthands: everything after this meets a recipe in one, complete form."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Sequence
from typing import Any

from zoo.errors import InputError, Location, Problem, did_you_mean
from zoo.recipe.chain import first_option
from zoo.recipe.document import Document, FlagLocation, Path, label
from zoo.recipe.validate import shown
from zoo.recipe.yaml_reader import parse


def write_out(document: Document) -> None:
    """Give every section and step its long form: a lone value becomes the first parameter, a bare step an empty
    mapping. What cannot be understood stays as it is, for validation to judge."""
    if not isinstance(document.data, dict):
        return
    _scalar(document, ("model",), lambda: "architecture")
    _scalar(document, ("data",), lambda: "source")
    steps = document.get(("steps",))
    for index in range(len(steps)) if isinstance(steps, list) else ():
        _step(document, ("steps", index))


def _step(document: Document, path: Path) -> None:
    step = document.get(path)
    if isinstance(step, str):
        document.wrap(path, step)
        document.replace((*path, step), None)
        step = document.get(path)
    if not isinstance(step, dict) or len(step) != 1:
        return
    (action,) = step
    if step[action] is None:
        document.replace((*path, action), {})
    _scalar(document, (*path, action), lambda: first_option(action))


def _scalar(document: Document, path: Path, key: Callable[[], str | None]) -> None:
    value = document.get(path)
    if value is not None and not isinstance(value, dict | list) and (name := key()):
        document.wrap(path, name)


_KEY = re.compile(r"[^.\[\]]+|\[\d+\]")


def apply(document: Document, overrides: Sequence[str], sections: Sequence[str]) -> None:
    """Lay every override over the document in order; `sections` are the keys a recipe has at the top.

    Mistakes become problems placed at `--set KEY`. Whether a key may stand where it was put is validation's question.
    """
    write_out(document)
    for override in overrides:
        key, equals, text = override.partition("=")
        place = FlagLocation(f"--set {key.strip()}")
        if not equals or not key.strip():
            said = f"expected KEY=VALUE, got {override!r}"
            document.problems.append(Problem(said, FlagLocation(f"--set {override}"), "for instance train.epochs=1"))
            continue
        _apply_one(document, key.strip(), text, place, sections)
        write_out(document)


def _apply_one(document: Document, key: str, text: str, place: FlagLocation, sections: Sequence[str]) -> None:
    try:
        read = parse(text, str(place))
    except InputError as error:
        document.problems += [Problem(problem.message, place, problem.suggestion) for problem in error.problems]
        return
    document.problems += [Problem(problem.message, place, problem.suggestion) for problem in read.problems]
    if not read.problems:
        put_all(document, key, read.data, place, sections)


def put_all(document: Document, key: str, value: Any, place: Location, sections: Sequence[str]) -> None:
    """Put the value at every path that `key` speaks of; all of it is said to stand at `place`, mistakes too."""
    try:
        targets = _targets(document, key, sections)
    except InputError as error:
        document.problems += [Problem(problem.message, place, problem.suggestion) for problem in error.problems]
        return
    for path in targets:
        if message := _unreachable(document, path):
            document.problems.append(Problem(message, place))
        else:
            _put(document, path, copy.deepcopy(value), place)


def _targets(document: Document, key: str, sections: Sequence[str]) -> list[Path]:
    """The paths that a key speaks of. Raises InputError when it begins with no section and no action."""
    parts = _split(key)
    if parts[0] in sections:
        return [parts]
    steps = document.get(("steps",), [])
    actions = [next(iter(step), None) if isinstance(step, dict) else None for step in steps or []]
    if chosen := [index for index, action in enumerate(actions) if action == parts[0]]:
        return [("steps", index, *parts) for index in chosen]
    known = [*sections, *(action for action in dict.fromkeys(actions) if action)]
    hint = did_you_mean(str(parts[0]), known) or f"keys: {', '.join(known)}"
    raise InputError(f"the recipe has no section or step {str(parts[0])!r}", suggestion=hint)


def _split(key: str) -> Path:
    """`steps[2].train.lr` and `steps.2.train.lr` in parts. Raises InputError for a key that is no such path."""
    found = _KEY.findall(key)
    if not found or re.sub(r"\.?\[", "[", key) != _joined(found):
        raise InputError(
            f"{key!r} is not a dotted path", suggestion="for instance data.batch_size or steps[2].train.lr"
        )
    return tuple(int(part.strip("[]")) if re.fullmatch(r"\[?\d{1,9}\]?", part) else part for part in found)


def _joined(parts: list[str]) -> str:
    return "".join(part if part.startswith("[") else f".{part}" for part in parts).removeprefix(".")


def _unreachable(document: Document, path: Path) -> str | None:
    """Why nothing can be put at `path`: a list without that entry, or something that has no keys."""
    for length, part in enumerate(path):
        holder = document.get(path[:length])
        where = label(path[:length]) or "the recipe"
        if isinstance(holder, list) and not (isinstance(part, int) and part < len(holder)):
            return f"{where} has the entries 0 to {len(holder) - 1}, not {part}" if holder else f"{where} is empty"
        if holder is not None and not isinstance(holder, dict | list):
            return f"{where} is {shown(holder)}, which contains no keys"
    return None


def _put(document: Document, path: Path, value: Any, place: Location) -> None:
    """Put the value there, with the mappings on the way that do not exist yet."""
    for length in range(1, len(path)):
        if document.get(path[:length]) is None:
            document.replace(path[:length], {}, place)
    parts = tuple(str(part) if isinstance(document.get(path[:i]), dict) else part for i, part in enumerate(path))
    document.replace(parts, value, place)
