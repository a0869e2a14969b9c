"""Reading a recipe's text: what is not a readable, reasonably small UTF-8 file is an error for people."""

from __future__ import annotations

from pathlib import Path

from zoo.errors import InputError, Location, any_of, did_you_mean

MAX_BYTES = 1_000_000  # a long recipe is 5 kB; a remap with a thousand rules is 100 kB


def read_text(path: str) -> str:
    """The text of the file at `path`. Raises InputError when it is missing, a folder, too large or not UTF-8."""
    if not path:
        raise InputError("the name of the recipe is empty", suggestion="name a YAML file")
    file = Path(path)
    try:
        if file.is_dir():
            raise InputError(f"{path} is a folder, not a recipe", suggestion=_recipes_in(file))
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise InputError(f"there is no recipe {path}", suggestion=_similar(file)) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise InputError(f"cannot read {path!r}: {getattr(error, 'strerror', None) or error}") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES:,} bytes, which no recipe is")
    return _decode(path, content)


def _decode(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = len(before[before.rfind(b"\n") + 1 :].decode("utf-8", "replace")) + 1
        raise InputError(
            f"byte 0x{content[error.start]:02x} is not UTF-8 text",
            location=Location(path, line, column),
            suggestion="save the file as UTF-8",
        ) from None


def _recipes_in(folder: Path) -> str | None:
    names = sorted(str(file) for file in folder.glob("*.y*ml"))[:3]
    return f"recipes in it: {', '.join(names)}" if names else None


def _similar(file: Path) -> str | None:
    """Recipes of a like name beside the missing file, or under `recipes/`."""
    places = [file.parent, Path("recipes")]
    found = {candidate.name: str(candidate) for place in places for candidate in sorted(place.glob("*.y*ml"))}
    if file.name + ".yaml" in found:
        return f"did you mean {found[file.name + '.yaml']}?"
    hint = did_you_mean(file.name, found)
    if hint:
        for name, full in found.items():
            hint = hint.replace(name, full)
        return hint
    return f"see {any_of([*found.values()][:3])}" if found else None
