"""The data set of a folder of images, one sub-folder a class. Importing this needs no torch."""

from __future__ import annotations

import collections
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.contracts import Data
from zoo.data.datasets import PARTS, ListedSamples, alike, files_named, part_called, similar
from zoo.errors import InputError, Problem, did_you_mean, listed
from zoo.file_name import FIRST_BATCH, RUN_FILES, RUN_MARK

_EXTENSIONS = (
    ".jpg .jpeg .jpe .jfif .png .apng .gif .webp .avif .bmp .dib .tif .tiff .ppm .pgm .pbm .pnm .jp2 .j2k .jpx .tga "
    ".npy"
)
EXTENSIONS = frozenset(_EXTENSIONS.split())
SYSTEM = "#recycle $RECYCLE.BIN lost+found __pycache__ __MACOSX @eaDir .git .ipynb_checkpoints .thumbnails .cache"
OTHERS = frozenset({*SYSTEM.split(), ".Trash", ".Trashes", "System Volume Information"})
"""Folders of archivers, storage systems and other programs, which may contain images and are never meant."""


@files_named()
def image_folder(path: str) -> Data:
    """Images sorted into one sub-folder a class; the folders' names, sorted, are the classes.

    `path` contains either the class folders themselves (seeded parts are then held out) or a folder for each part, each
    with class folders: `train`, for validation `val`, `valid`, `validation` or `dev`, and `test`. Images may lie
    deeper, behind links, too; hidden files, files of other types and folders of zoo's own runs are passed over, and the
    notes say how many. Raises InputError naming every class folder without images, every empty file, and every class of
    another part that training lacks.
    """
    root = _folder(path)
    parts, notes = _part_folders(root)
    if not parts:
        classes = _class_folders(root, notes)
        _look_one_deeper(root, classes, notes)
        return Data(_samples(root, classes, notes, {}), classes=tuple(classes), notes=notes)
    folders = {part: _class_folders(folder, notes) for part, folder in parts.items()}
    known, message = tuple(folders["train"]), "{}: class {!r} does not occur in {}"
    if strange := [(part, name) for part in parts for name in folders[part] if name not in known]:
        raise InputError(
            Problem(message.format(parts[part], name, parts["train"]), None, did_you_mean(name, known))
            for part, name in strange
        )
    owners: dict[str, Path] = {}
    samples: dict[str, Any] = {
        part: _samples(folder, folders[part], notes, owners, known) for part, folder in parts.items()
    }
    return Data(**samples, classes=known, notes=notes)


def _folder(path: str) -> Path:
    root = Path(path).expanduser()
    if not root.is_dir():
        what = "is a file, not a folder" if root.is_file() else "does not exist"
        raise InputError(f"image folder {path} {what}", suggestion=similar(root))
    return root


def _folders_in(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not _is_hidden(entry.name))


def _hidden_in(root: Path) -> list[Path]:
    """Hidden folders, which may have been meant as classes, but for what archivers and other programs leave."""
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False))
    return [root / name for name in names if _is_hidden(name) and name not in OTHERS]


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in OTHERS


def _part_folders(root: Path) -> tuple[dict[str, Path], list[str]]:
    """The folder of each part, and what to say about them; none where the folders are the classes themselves.

    A folder is a part by its name, and by containing folders itself: a class may be called train.
    Raises InputError where two folders are one part, there is nothing to train on, or both readings are possible.
    """
    inside = _folders_in(root)
    called = [(part_called(entry.name), entry) for entry in inside]
    named = [(part, entry) for part, entry in called if part and _folders_in(entry)]
    parts = {part: entry for part, entry in reversed(named) if part}
    if not parts and len(inside) > 1 and all(part for part, _ in called):
        message = f"{root}: {listed([entry.name for entry in inside])} contain no class folders"
        raise InputError(message, suggestion=f"sort the images: {inside[0]}/CLASS/IMAGE.jpg")
    if not parts or ("train" not in parts and len(named) < len(inside)):
        return {}, []
    if len(parts) < len(named):
        raise InputError(f"{root}: {', '.join(entry.name for _, entry in named)} mean one part of the data twice")
    if "train" not in parts:
        found = " and ".join(entry.name for entry in parts.values())
        message, first = f"{root} contains {found}, and no train folder", next(iter(parts.values()))
        raise InputError(message, suggestion=f"name one by itself, {first}, or call the training images' folder train")
    notes = [f"{root}: {', '.join(f'{parts[part].name}/ is the {part} part' for part in PARTS if part in parts)}"]
    if bare := [entry.name for part, entry in called if part and part not in parts and not _search(entry).images]:
        notes.append(f"warning: {root}: {listed(bare)} beside {parts['train'].name}/ is empty")
    left = [entry for entry in inside if entry not in parts.values() and _search(entry).images]
    if left and len(parts) == 1:
        train, others = parts["train"], listed([f"{entry.name}/" for entry in left])
        message = f"{root}: {train.name}/ contains class folders, and {others} beside it images: which are the classes?"
        raise InputError(message, suggestion=f"name the training part by itself, {train}, or move {others} elsewhere")
    if left:
        notes.append(
            f"warning: {root}: {listed([entry.name for entry in left])} beside {parts['train'].name}/ is not used"
        )
    return {part: parts[part] for part in PARTS if part in parts}, notes


def _class_folders(root: Path, notes: list[str]) -> dict[str, Path]:
    """The folder of each class, sorted by name; a run of zoo's is none. What to say about them goes to `notes`.

    Names are compared and kept in one Unicode form (NFC): an archive made on another system may have the other.
    Raises InputError where there is none, a name is not UTF-8, or two differ in their Unicode form alone.
    """
    inside = _folders_in(root)
    if hidden := [entry.name for entry in _hidden_in(root) if _search(entry).images]:
        text = f"warning: {root}: {listed(hidden)} contains images, is hidden and so no class"
        notes.append(f"{text}; a class needs another name")
    if runs := [entry.name for entry in inside if _contains_run(entry)]:
        notes.append(f"{root}: {listed(runs)} contains runs of zoo's and is no class")
    named = [(unicodedata.normalize("NFC", entry.name), entry) for entry in inside if entry.name not in runs]
    if not named:
        raise InputError(f"{root} contains no class folders", suggestion=f"sort the images: {root}/CLASS/IMAGE.jpg")
    problems = [
        Problem(f"class folder {str(root / name)!r} has a name that is not UTF-8", None, "rename it")
        for name, _ in named
        if not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name)
    ]
    for name, count in collections.Counter(name for name, _ in named).items():
        if count > 1:
            message = f"{root}: {count} class folders called {name} differ only in how their letters are encoded"
            problems.append(Problem(message, None, "move the images into one of them"))
    if problems:
        raise InputError(problems)
    notes += [f"warning: {root}: {text}" for text in alike(name for name, _ in named)]
    return dict(sorted(named))


def _look_one_deeper(root: Path, classes: dict[str, Path], notes: list[str]) -> None:
    """Say where the folders of all classes contain the same folders: then those may be the classes, or parts.

    Raises InputError where they are parts by their names: training on the images kept aside would go unseen.
    """
    inside = [frozenset(entry.name for entry in _folders_in(folder)) for folder in classes.values()]
    if len(inside) < 2 or len(inside[0]) < 2 or len(set(inside)) > 1:
        return
    names, (first, *_) = sorted(inside[0]), classes.values()
    if all(map(part_called, names)):
        message = f"{root}: each class folder contains {listed(names)}, which are parts of the data"
        raise InputError(message, suggestion=f"put the parts first: {root / names[0] / first.name}")
    notes.append(
        f"warning: {root}: {listed(classes)} are taken for the classes, and each contains the folders {listed(names)}: "
        "are these the classes?"
    )


def _contains_run(folder: Path) -> bool:
    """Whether the folder is that of a run, or contains such folders, as `checkpoints/` does."""
    return any((place / name).exists() for place in (folder, *_folders_in(folder)) for name in RUN_FILES)


@dataclass
class Found:
    """What a search has found: image files, and the types of the files it passed over (by count)."""

    images: list[Path] = field(default_factory=list)
    passed_over: collections.Counter[str] = field(default_factory=collections.Counter)
    folders: dict[str, Path] = field(default_factory=dict)  # those with images, by where they really are


def _search(folder: Path) -> Found:
    """Image files in `folder` and below, sorted; hidden ones and a run's own are passed over. Links to folders are
    followed, each once, but for those that lead to a folder in which `folder` lies itself."""
    found, root = Found(), os.path.realpath(folder)
    seen = {root}
    for place, folders, files in os.walk(folder, followlinks=True):
        here, before = Path(place), len(found.images)
        visible = [name for name in folders if not _is_hidden(name)]
        if hidden := sum(name not in OTHERS for name in folders) - len(visible):
            found.passed_over["hidden folders"] += hidden
        folders[:] = []
        for name in visible:
            real = os.path.realpath(here / name)
            if root.startswith(os.path.join(real, "")):
                found.passed_over["links to the folder they lie in"] += 1
            elif real not in seen:
                seen.add(real)
                folders.append(name)
        for name in files:
            path = here / name
            if name == FIRST_BATCH and RUN_MARK in files:
                continue
            if name.startswith("."):
                if path.suffix.lower() in EXTENSIONS:
                    found.passed_over["hidden images"] += 1
            elif path.suffix.lower() not in EXTENSIONS:
                found.passed_over[path.suffix.lower() or "without a suffix"] += 1
            elif path.is_file():
                found.images.append(path)
            else:  # reading a pipe or a device may never end
                found.passed_over["pipes or devices" if path.exists() else "links that lead nowhere"] += 1
        if len(found.images) > before:
            found.folders[os.path.realpath(here)] = here
    found.images.sort()
    return found


def images_in(folder: Path) -> list[Path]:
    """Image files in `folder` and below, sorted; hidden ones and other types are passed over."""
    return _search(folder).images


def passed_over(folder: Path) -> str:
    """The files in `folder` and below that are not taken for images, counted by type: "3 .txt, 1 .heic"."""
    return _counted(_search(folder).passed_over)


def _counted(types: collections.Counter[str]) -> str:
    return listed([f"{count} {kind}" for kind, count in types.most_common()], 6)


def _samples(
    root: Path,
    folders: dict[str, Path],
    notes: list[str],
    owners: dict[str, Path],
    classes: Sequence[str] | None = None,
) -> ListedSamples:
    """The images of each class; what was passed over goes to `notes`. `owners` are the folders taken so far, by where
    they really are."""
    inputs: list[str] = []
    targets: list[int] = []
    problems: list[Problem] = []
    passed: collections.Counter[str] = collections.Counter()
    index = {name: number for number, name in enumerate(classes or folders)}
    for name, folder in folders.items():
        found = _search(folder)
        passed += found.passed_over
        for real, place in found.folders.items():
            if (other := owners.setdefault(real, place)) is not place:
                where = "two classes" if root in other.parents else "two parts of the data"
                notes.append(f"warning: {other} and {place} are one folder, by a link: its images are in {where}")
        if not found.images:
            there = f"; passed over: {_counted(found.passed_over)}" if found.passed_over else ""
            hint = f"remove it; images are {_EXTENSIONS}"
            problems.append(Problem(f"class folder {folder} contains no images{there}", None, hint))
        problems += [Problem(f"{image} is empty", None, "remove it") for image in found.images if not _size(image)]
        inputs += map(str, found.images)
        targets += [index[name]] * len(found.images)
    if problems:
        raise InputError(problems)
    if beside := sum(entry.suffix.lower() in EXTENSIONS for entry in root.iterdir() if entry.is_file()):
        passed["image files beside the class folders"] += beside
    if passed:
        notes.append(f"{root}: passed over: {_counted(passed)}")
    return ListedSamples(inputs, targets)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone since it was found: reading it names it
        return 1
