"""The recipes that come with zoo: found in the wheel's data files, or in the checkout that zoo is run from."""

from __future__ import annotations

import importlib.metadata
import itertools
from contextlib import suppress
from pathlib import Path

from zoo.errors import InputError, WorkError, did_you_mean

_IN_WHEEL = "share/zoo/recipes/"


def shipped() -> dict[str, Path]:
    """The recipes by name: `quickstart`, `tutorials/mlp`."""
    checkout = Path(__file__).parents[2] / "recipes"
    if (checkout / "quickstart.yaml").is_file():
        files = sorted(checkout.rglob("*.yaml"))
        return {file.relative_to(checkout).with_suffix("").as_posix(): file for file in files}
    found: dict[str, Path] = {}
    with suppress(importlib.metadata.PackageNotFoundError):
        distribution = importlib.metadata.distribution("zoo-kit")
        for file in distribution.files or ():
            if _IN_WHEEL in (name := file.as_posix()) and name.endswith(".yaml"):
                place = Path(str(distribution.locate_file(file))).resolve()
                found[name.partition(_IN_WHEEL)[2].removesuffix(".yaml")] = place
    return dict(sorted(found.items()))


def title(file: Path) -> str:
    """What a recipe says of itself: its first line of comment that is no command, else how long that takes."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), file.read_text(encoding="utf-8").splitlines())
    said = [line.lstrip("# ") for line in lines if "yaml-language-server" not in line]
    words = [line for line in said if not line.startswith("zoo ")]
    return (words[0] if words else said[0].rpartition("    ")[2] if said else "").strip()


def copy(name: str, destination: str | None = None) -> Path:
    """Copy a recipe to a file or into a folder, the current one without; where it is then.

    Raises InputError for a name that no recipe has and where a file is there already, WorkError where it cannot be
    written.
    """
    known = shipped()
    name = name.removeprefix("recipes/").removesuffix(".yaml")
    if name not in known:
        by_end = [each for each in known if each.rpartition("/")[2] == name]
        if len(by_end) != 1:
            hint = did_you_mean(name, known) or "see: zoo recipes"
            raise InputError(f"no recipe is called {name!r}", suggestion=hint)
        name = by_end[0]
    source = known[name]
    place = Path(destination).expanduser() if destination is not None else Path(source.name)
    if place.is_dir() or (destination or "").endswith(("/", "\\")):
        place = place / source.name
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("x", encoding="utf-8") as file:  # never over another file
            file.write(source.read_text(encoding="utf-8"))
    except FileExistsError:
        message = f"{place} is there already, and nothing is overwritten"
        raise InputError(message, suggestion=f"zoo recipes copy {name} OTHER_NAME.yaml") from None
    except OSError as error:
        raise WorkError(f"{place} cannot be written: {error.strerror}") from error
    return place
