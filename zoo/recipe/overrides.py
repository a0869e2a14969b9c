"""`--set KEY=VALUE`: values from the command line laid over a document.

data.batch_size=16          a key by its dotted path
steps.2.train.epochs=1      an entry of a list by its index, from 0; also steps[2].train.epochs
train.epochs=1              an action's name stands for every step of that action
model.weights=null          VALUE is YAML
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from zoo.errors import InputError, Problem, did_you_mean
from zoo.recipe.document import Document, FlagLocation, Path, label
from zoo.recipe.parse import parse
from zoo.recipe.shorthand import write_out
from zoo.recipe.words import shown

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
        problems = read.problems
        targets = _targets(document, key, sections)
    except InputError as error:
        problems = list(error.problems)
    document.problems += [Problem(problem.message, place, problem.suggestion) for problem in problems]
    if problems:
        return
    for path in targets:
        if message := _unreachable(document, path):
            document.problems.append(Problem(message, place))
        else:
            _put(document, path, read.data, place)


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
    """Why nothing can be put at `path`: a list without that entry, or something that holds no keys."""
    for length, part in enumerate(path):
        holder = document.get(path[:length])
        where = label(path[:length]) or "the recipe"
        if isinstance(holder, list) and not (isinstance(part, int) and part < len(holder)):
            return f"{where} has the entries 0 to {len(holder) - 1}, not {part}" if holder else f"{where} is empty"
        if holder is not None and not isinstance(holder, dict | list):
            return f"{where} is {shown(holder)}, which holds no keys"
    return None


def _put(document: Document, path: Path, value: Any, place: FlagLocation) -> None:
    """Put the value there, with the mappings on the way that do not exist yet."""
    for length in range(1, len(path)):
        if document.get(path[:length]) is None:
            document.replace(path[:length], {}, place)
    parts = tuple(str(part) if isinstance(document.get(path[:i]), dict) else part for i, part in enumerate(path))
    document.replace(parts, value, place)
