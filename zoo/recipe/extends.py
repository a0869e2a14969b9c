"""`extends: base.yaml`: a recipe that says only what it does differently.

Mappings are merged key by key, in their long forms; anything else, `steps` and other lists too, takes the place of what
the base says. `set: {train.lr: 0.1}` changes single values of what came of that, as `--set` does. A base's `name` stays
its own. Every key and value keeps the file, line and column at which it was written.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from zoo.errors import InputError
from zoo.recipe.document import Document, Path, walk
from zoo.recipe.overrides import put_all, write_out
from zoo.recipe.validate import shown
from zoo.recipe.yaml_reader import parse, read_text

EXTENDS, SET = "extends", "set"
SUFFIXES = (".yaml", ".yml")


def extended(document: Document, sections: Sequence[str], chain: Sequence[str] = ()) -> Document:
    """The recipe with all that it extends, as one document; its own mistakes and those of its bases are in `problems`.

    Args:
        sections: the keys that a recipe has at the top.
        chain: the files that led here, each of which extends the next.

    Raises InputError where what it extends cannot be read: what the rest lacks may stand there.
    """
    if not isinstance(document.data, dict) or not document.data.keys() & {EXTENDS, SET}:
        return document
    here = (*chain, os.path.realpath(document.file))
    bases = [_read(document, path, name, sections, here) for path, name in _bases(document)]
    changes = _changes(document)
    if not bases or None in bases:
        raise InputError(document.problems)
    whole = Document(document.file, {}, sources=[*document.sources])
    for base in filter(None, bases):
        whole.problems += base.problems
        whole.sources += [source for source in base.sources if source not in whole.sources]
        _lay(whole, base, ())
    document.data = {key: value for key, value in document.data.items() if key not in (EXTENDS, SET)}
    write_out(document)
    _lay(whole, document, ())
    whole.problems += document.problems
    for key, value in changes.items():
        put_all(whole, key, value, document.key((SET, key)), sections)
        write_out(whole)
    return whole


def _changes(document: Document) -> dict[str, Any]:
    """What `set` changes; one that is no mapping, or stands alone, is noted."""
    changes = document.get((SET,), {})
    if EXTENDS not in document.data:
        hint = "write the value where it stands"
        document.add((SET,), "set: there is no extends whose values it could change", hint, at_key=True)
    elif not isinstance(changes, dict):
        document.add((SET,), f"set: expected a mapping, got {shown(changes)}", "for instance set: {train.lr: 0.1}")
    return changes if isinstance(changes, dict) else {}


def _bases(document: Document) -> list[tuple[Path, str]]:
    """The files named by `extends`, and where; what is no name of a YAML file is noted."""
    if EXTENDS not in document.data:
        return []
    named = document.get((EXTENDS,))
    places: list[Path] = (
        [(EXTENDS, index) for index in range(len(named))] if isinstance(named, list) and named else [(EXTENDS,)]
    )
    found: list[tuple[Path, str]] = []
    for path in places:
        name = document.get(path)
        if isinstance(name, str) and name.endswith(SUFFIXES):
            found.append((path, name))
        else:
            message = f"extends: expected the name of a YAML file, got {shown(name)}"
            document.add(path, message, "for instance base.yaml")
    return found


def _read(
    document: Document, path: Path, name: str, sections: Sequence[str], chain: tuple[str, ...]
) -> Document | None:
    """The base, with all that it extends in turn; None, and a note, where it cannot be read."""
    file = os.path.normpath(os.path.join(os.path.dirname(document.file), name))
    if os.path.realpath(file) in chain:
        document.add(path, f"extends: {name} extends this recipe in turn", "remove one of the two")
        return None
    try:
        base = parse(read_text(file), file)
        if not isinstance(base.data, dict):
            raise InputError(f"{name} contains no sections", suggestion="a recipe begins with model: or extends:")
        base = extended(base, sections, chain)
    except InputError as error:
        for problem in error.problems:
            if problem.location is None:
                document.add(path, f"extends: {problem.message}", problem.suggestion)
            else:
                document.problems.append(problem)
        return None
    base.data.pop("name", None)
    write_out(base)
    return base


def _lay(below: Document, above: Document, path: Path) -> None:
    """Put what `above` says at `path` over what `below` says there: mappings key by key, anything else entire."""
    value = above.get(path)
    if path and not (isinstance(value, dict) and isinstance(below.get(path), dict)):
        below.replace(path, value)
        below.forget(path)
        for inner, _ in walk(value, path):
            below.keys[inner], below.values[inner] = above.key(inner), above.value(inner)
        return
    below.keys[path], below.values[path] = above.key(path), above.value(path)
    for key in value:
        _lay(below, above, (*path, key))
