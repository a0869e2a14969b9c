"""Where a file may be written: nothing of the user's is replaced unasked, and no source by what is made of it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from zoo.errors import InputError, Problem, ZooError
from zoo.formats.safetensors_file import read_header

OTHER_FORMATS = (".pth", ".pt", ".bin", ".ckpt", ".npz")


def check_destination(destination: str | os.PathLike[str], sources: Iterable[Path], *, overwrite: bool) -> None:
    """Raises InputError for a file that zoo does not write, that is there already, or that is one of the sources."""
    check_format(destination)
    place = Path(destination)
    if place.is_file() and any(source.is_file() and place.samefile(source) for source in sources):
        raise InputError(
            f"{place} is one of the sources: writing there would destroy it", suggestion="name another file"
        )
    check_free([place], overwrite=overwrite)


def check_format(destination: str | os.PathLike[str]) -> None:
    """Raises InputError for the name of a file in another format."""
    if Path(destination).suffix in OTHER_FORMATS:
        raise InputError(
            f"{destination}: zoo writes safetensors only, which every framework reads without running code",
            suggestion=str(Path(destination).with_suffix(".safetensors")),
        )


MADE_BY, CONVERT = "made_by", "zoo convert"  # in the header of what a conversion wrote


def is_conversion(place: Path) -> bool:
    """Whether a conversion made the file: doing it again, with other rules, replaces nothing that was only there."""
    try:
        return read_header(place).metadata.get(MADE_BY) == CONVERT
    except ZooError:
        return False


def check_free(places: Iterable[Path], *, overwrite: bool) -> None:
    """Raises InputError for files that would be replaced unasked."""
    taken = [] if overwrite else [place for place in places if place.is_file()]
    if taken:
        hint = "replace it: --overwrite, or name another file"
        raise InputError([Problem(f"{place} is there already", None, hint) for place in taken])
