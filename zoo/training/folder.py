"""The folder of a run: who wrote what in it, and what may be replaced.

Before anything else is written there, a run leaves a mark in its folder, `.zoo-run.json`: which recipe runs there, and
the names of all files and folders that it writes. What the mark names is zoo's; everything else is the user's
and never touched: a run that would overwrite a name which is not in the mark does not start, not even with
`--overwrite`.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from zoo.errors import InputError, ZooError, listed
from zoo.file_name import FIRST_BATCH, RUN_MARK, name_mistake
from zoo.formats.checkpoint_metadata import json_digest
from zoo.formats.files import atomic_file, write_all
from zoo.recipe import Recipe
from zoo.recipe.document import walk

FORMAT = 1
MODEL, REPORT, RECIPE, STATE = "model.safetensors", "report.json", "recipe.yaml", "state"
PREDICTIONS, METRICS, CONFUSION = "predictions.csv", "metrics.csv", "confusion.csv"
STATUS, CARD, PAGE = "status.json", "README.md", "report.html"
NOT_FINITE = "not_finite"  # a folder, of a batch whose loss was not finite
FILES = frozenset(
    {MODEL, REPORT, RECIPE, STATE, NOT_FINITE, PREDICTIONS, METRICS, CONFUSION, STATUS, FIRST_BATCH, CARD, PAGE}
)
SAMPLES = "samples.jsonl"  # in the state folder
BEFORE = {SAMPLES, STATUS, FIRST_BATCH}  # written before training begins
INSIDE = {  # what zoo writes into the folders among these; any other file there is not zoo's
    STATE: re.compile(
        r"(state|before)\.json|samples\.jsonl|base-\d+(-\d+)?\.safetensors|step-\d+-\d+(-\d+)?\.safetensors"
    ),
    NOT_FINITE: re.compile(r"batch\.(json|safetensors)|model\.safetensors|\.lock"),
    "tensorboard": re.compile(r"events\.out\.tfevents\..+"),
}
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{16}\.tmp")  # as atomic_file calls them; only a killed run leaves one


class RunFolder:
    """The folder of one run of a recipe. Nothing is written or removed before `take`."""

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path, self.recipe = path, recipe
        self.source = os.path.realpath(recipe.path)
        self.planned = planned(recipe)
        mark = self._read()
        self.marked = mark is not None
        self.owner: str = mark["recipe"] if mark else self.source
        if self.source == os.path.realpath(self.path / RECIPE):  # the copy that the run left is its own recipe
            self.source = self.owner
        self.owned: frozenset[str] = frozenset(mark["files"] if mark else ())

    def check(self, *, resume: bool, overwrite: bool) -> None:
        """Raises InputError, with what to type instead, for a run that would overwrite what must stay."""
        if resume and overwrite:
            raise InputError("--resume continues a run, --overwrite replaces it", suggestion="give one of them")
        strange = [name for name in sorted(self.planned - self.owned) if os.path.lexists(self.path / name)]
        if strange:
            raise InputError(
                f"{self.path} contains {listed(strange)}, which no run of zoo wrote: a run here would overwrite it",
                suggestion=f"name another folder: --output {self.path / self.recipe.name}, or move it away",
            )
        if overwrite:
            self._check_inputs()
        elif resume:
            self._check_links()
        elif self._results():
            raise InputError(f"{self.path} contains {self._described()}", suggestion=f"{self._choices()}")

    def check_new_beginning(self) -> None:
        """Before `--resume` starts at the beginning, as there is no resume state: no finished or other run is lost."""
        if self._results() and (self.owner != self.source or (self.path / MODEL).exists()):
            raise InputError(
                f"{self.path} contains {self._described()}, and no resume state", suggestion=self._choices()
            )

    def check_owner(self) -> None:
        """Before a resumed run takes changes: they are the recipe's own, not another recipe's values."""
        if self.owner != self.source:
            raise InputError(
                f"{self.path} contains a run of another recipe, {self.owner}, which differs from {self.recipe.path}",
                suggestion=f"zoo finetune {self.owner} --resume --output {self.path}, or --output {self._free()}",
            )

    def take(self, *, keep: bool = False) -> None:
        """Mark the folder as this run's and remove what an earlier run wrote there; with `keep` only leftovers."""
        self.sweep()
        # before anything is removed, so that a killed run's other files are still known as zoo's
        self._write(self.owned | self.planned)
        if keep:
            return
        for name in self.owned:
            self._remove(name)
        self._write(self.planned)

    def _read(self) -> dict[str, Any] | None:
        path = self.path / RUN_MARK
        if not os.path.lexists(path):
            return None
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                raise ValueError("it is no regular file")
            mark = json.loads(path.read_text(encoding="utf-8"))
            if mark["format"] != FORMAT or not isinstance(mark["recipe"], str):
                raise ValueError("another version of zoo wrote it")
            names = [name for name in mark["files"] if name_mistake(name) is None]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(
                f"{path} should say what a run wrote into this folder, and cannot be read: {error}",
                suggestion=f"name another folder: --output {self._free()}",
            ) from error
        return {"recipe": mark["recipe"], "files": names}

    def _write(self, names: frozenset[str]) -> None:
        document = {"format": FORMAT, "recipe": self.source, "files": sorted(names)}
        with atomic_file(self.path / RUN_MARK) as file:
            write_all(file, (json.dumps(document, indent=1) + "\n").encode(), 0)

    def _results(self) -> list[str]:
        """The files of an earlier run that are there; a folder counts while zoo's files are in it. What a run writes
        before there is anything to lose is none of them."""
        return [name for name in sorted(self.owned) if any(path.name not in BEFORE for path in self._files(name))]

    def _files(self, name: str) -> Iterator[Path]:
        """zoo's own files under a name of the mark. A symbolic link is one, whatever it points to."""
        path = self.path / name
        if name in INSIDE and path.is_dir() and not path.is_symlink():
            yield from (inner for inner in path.iterdir() if INSIDE[name].fullmatch(inner.name))
        elif os.path.lexists(path) and not (path.is_dir() and not path.is_symlink()):
            yield path

    def _remove(self, name: str) -> None:
        path = self.path / name
        for file in list(self._files(name)):
            file.unlink(missing_ok=True)
        if name in INSIDE and path.is_dir():
            with suppress(OSError):  # something of the user's is in it
                path.rmdir()

    def sweep(self) -> None:
        """Remove the temporary files of a killed run; this run has the lock, so none is in use."""
        own = {name[:100] for name in (RUN_MARK, *self.owned)}
        for path in self.path.iterdir():
            if (found := _TEMPORARY.fullmatch(path.name)) and found[1] in own:
                path.unlink(missing_ok=True)
        state = self.path / STATE
        for path in state.iterdir() if STATE in self.owned and state.is_dir() and not state.is_symlink() else ():
            if (found := _TEMPORARY.fullmatch(path.name)) and INSIDE[STATE].fullmatch(found[1]):
                path.unlink(missing_ok=True)

    def _check_inputs(self) -> None:
        """`--overwrite` removes files of the mark: none that this recipe reads may be among them."""
        home = self.path.resolve()
        for text in _texts(self.recipe):
            for candidate in (Path(text), Path(self.recipe.path).parent / text):
                with suppress(OSError, ValueError, RuntimeError):
                    place = candidate.expanduser().resolve()
                    if place.exists() and place.is_relative_to(home) and place != home:
                        name = place.relative_to(home).parts[0]
                        if name in self.owned:
                            raise InputError(
                                f"the recipe reads {candidate}, which --overwrite would replace",
                                suggestion=f"name another folder: --output {self._free()}",
                            )

    def _check_links(self) -> None:
        """A resumed run writes into its folder, not to where a link points."""
        paths = [path for name in sorted(self.owned) for path in (self.path / name, *self._files(name))]
        for path in paths:
            if path.is_symlink():
                message = f"{path} is a symbolic link; a run writes into its own folder only"
                raise InputError(message, suggestion=f"remove {path}")

    def holds_run(self, *, finished: bool) -> bool:
        """Whether an earlier run's results are in the folder, of one that has ended, or has not."""
        return bool(self._results()) and self._unfinished() is not finished

    def waits(self) -> bool:
        """Whether a run of this very recipe was interrupted here."""
        return self.owner == self.source and self.holds_run(finished=False)

    def _described(self) -> str:
        of = "this recipe" if self.owner == self.source else self.owner
        return f"{'an unfinished' if self._unfinished() else 'a finished'} run of {of}"

    def _choices(self) -> str:
        go_on = "continue it with --resume, " if self._unfinished() and self.owner == self.source else ""
        return f"{go_on}replace it with --overwrite, or keep it and name another folder: --output {self._free()}"

    def _unfinished(self) -> bool:
        with suppress(OSError, ValueError, AttributeError, RecursionError):
            return not json.loads((self.path / STATE / "state.json").read_text(encoding="utf-8")).get("finished")
        return not (self.path / MODEL).exists()

    def _free(self) -> Path:
        path = self.path.resolve() if self.path.name in ("", "..") else self.path
        return next(free for n in range(2, 10_000) if not os.path.lexists(free := path.with_name(f"{path.name}-{n}")))


def own_name(folder: Path, name: str) -> None:
    """Let the mark in a run's folder name a file that was written there after the run; nothing where there is none."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError, ZooError):
        mark = json.loads((folder / RUN_MARK).read_text(encoding="utf-8"))
        if name not in mark["files"]:
            with atomic_file(folder / RUN_MARK) as file:
                text = json.dumps(mark | {"files": sorted([*mark["files"], name])}, indent=1)
                write_all(file, f"{text}\n".encode(), 0)


def default_folder(path: Path, recipe: Recipe, *, resume: bool = False, overwrite: bool = False) -> Path:
    """Where a run goes whose folder nobody named: `path`, or the first of `path-2`, `path-3`, … without a finished run.

    With `resume` it is the first in which a run of this recipe waits to be gone on with, where there is one; with
    `overwrite` it is `path`. An unfinished run ends the search: whether to go on with it is the user's to say.
    """
    if overwrite:
        return path
    for number in itertools.count(1):
        place = path if number == 1 else path.with_name(f"{path.name}-{number}")
        folder = RunFolder(place, recipe)
        if resume and not os.path.lexists(place):
            return path
        if folder.waits() if resume else not folder.holds_run(finished=True):
            return place
    raise AssertionError("there are always free numbers")


def planned(recipe: Recipe) -> frozenset[str]:
    """The names of all files and folders that a run of the recipe writes into its folder."""
    return FILES.union(*(step.files for step in recipe.steps))


def _texts(recipe: Recipe) -> Iterator[str]:
    """Everything in a recipe that may be the path of a file it reads, the recipe itself first."""
    yield recipe.path
    options = [step.model_dump() for step in recipe.steps]
    values = walk([recipe.model.weights, options, recipe.resolved])
    yield from (text for _, text in values if isinstance(text, str) and text)


def checkpoint_in(place: str | os.PathLike[str]) -> Path:
    """The checkpoint at a path: the file itself, or the finished model in a run's folder.

    Raises InputError for a folder without one.
    """
    path = Path(place)
    if not path.is_dir():
        return path
    if not (path / MODEL).exists():
        others = sorted(file.name for file in path.glob("*.safetensors"))
        hint = f"name a file: {path / others[0]}" if others else "name the folder of a finished run, or a checkpoint"
        raise InputError(f"{path} contains no {MODEL}", suggestion=hint)
    return path / MODEL


SEAL = "seal"


def sealed(report: dict[str, Any]) -> dict[str, Any]:
    """The report with the sha256 of all else that it says under `seal`, so that an edit can be seen; no signature."""
    rest = {key: value for key, value in report.items() if key != SEAL}
    return rest | {SEAL: json_digest(rest)}


def is_sealed(report: dict[str, Any]) -> bool:
    """Whether the report says what it said when it was sealed."""
    return bool(report.get(SEAL) == sealed(report)[SEAL])
