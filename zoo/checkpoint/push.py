"""A checkpoint to the Hugging Face hub, with its model card: what `hf://ORG/NAME` loads back.

Two files go, whatever else lies in the folder: recipes and reports name places of the machine that they were made on.
Nothing on the hub is deleted, and what is there under these names is replaced where that is asked for alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, cast

from zoo.checkpoint.model_card import NAME as CARD
from zoo.checkpoint.model_card import card_beside, minimal_card
from zoo.errors import InputError, WorkError, listed
from zoo.formats.checkpoint_metadata import CheckpointMetadata, check_unedited, edited_parts, own_entries, read_metadata
from zoo.formats.open_source import open_source
from zoo.formats.remote import PREFIX, hub_refusal, is_address, unreachable
from zoo.formats.source import sha256_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MODEL = "model.safetensors"


@dataclass(frozen=True)
class PushedFile:
    """One file of a push. `state` is what it does to the repository: `new`, `replaced`, `unchanged`; None in a dry run,
    which asks nobody."""

    name: str
    size: int
    state: str | None = None


@dataclass(frozen=True)
class Pushed:
    """What went to the hub, or would go (`commit` is None: in a dry run, and where all was there already).

    `created` is whether the repository is new; `private` is what a new one is made.
    """

    repository: str
    files: tuple[PushedFile, ...]
    card: str
    private: bool
    created: bool = False
    commit: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """What `zoo.load` and recipes call it."""
        return f"{PREFIX}{self.repository}"

    def as_dict(self) -> dict[str, Any]:
        files = [{"name": file.name, "bytes": file.size, "state": file.state} for file in self.files]
        own = {"repository": self.repository, "address": self.address, "private": self.private}
        return {**own, "created": self.created, "commit": self.commit, "files": files, "notes": list(self.notes)}


def push(
    checkpoint: str | os.PathLike[str],
    repository: str,
    *,
    public: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> Pushed:
    """Put a checkpoint and its model card into a repository of the Hugging Face hub, which is made where there is none.

    Args:
        checkpoint: a file that zoo wrote, or the folder of a run.
        repository: `ORG/NAME`. Its other files stay as they are.
        public: make a new repository public; one that is there stays as visible as it is.
        overwrite: replace files of these names that differ; the repository's history keeps the old ones.
        dry_run: only say what would go. Nothing is asked of the hub.

    The card is the README.md beside the checkpoint where that is one (it begins with the hub's YAML front matter), else
    made of what the file says of itself. Raises InputError where the file is no zoo checkpoint or was edited, where the
    user is not logged in or may not write there, and for files in the way; WorkError where the hub fails.
    """
    name = _repository(repository)
    path = _file(checkpoint)
    record = _record(path)
    own_card = card_beside(path)
    card = own_card if own_card is not None else minimal_card(name, record)
    contents: dict[str, Path | bytes] = {MODEL: path, CARD: card.encode()}
    files = tuple(PushedFile(file, _size(content)) for file, content in contents.items())
    planned = Pushed(name, files, card, private=not public, notes=tuple(_notes(record, own_card is not None, path)))
    return planned if dry_run else _push(planned, contents, overwrite)


def _repository(name: str) -> str:
    from huggingface_hub import utils
    from huggingface_hub.errors import HFValidationError

    bare, client = name.removeprefix(PREFIX), cast(Any, utils)
    try:
        client.validate_repo_id(bare)
        if bare.count("/") != 1:
            raise HFValidationError("it has no organisation or user in front")
    except HFValidationError as error:
        raise InputError(f"{name!r} cannot be a repository: {error}", suggestion="write ORG/NAME") from error
    return bare


def _file(checkpoint: str | os.PathLike[str]) -> Path:
    if is_address(os.fspath(checkpoint)):
        raise InputError(f"{checkpoint} is an address already", suggestion="push a file of this machine")
    path = Path(checkpoint)
    return path / MODEL if path.is_dir() else path


def _record(path: Path) -> CheckpointMetadata:
    """What the checkpoint says of itself. Raises InputError where it is none, or says what is no longer so."""
    with open_source(path) as source:
        record = read_metadata(source.metadata, path)
        check_unedited(edited_parts(record, own_entries(source)), path)
    return record


def _size(content: Path | bytes) -> int:
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def _notes(record: CheckpointMetadata, has_card: bool, path: Path) -> Iterator[str]:
    if not has_card:
        yield f"there is no model card beside {path}: a short one is made of what the file says of itself"
    if record.only == "trainable" and record.base_weights is not None:
        yield f"it is thin: who loads it needs the base weights {record.base_weights.name} as well"
    base = record.base_weights
    places = [*_places(record.data), *([base.location] if base is not None and base.location else [])]
    if absolute := [place for place in dict.fromkeys(places) if _is_absolute(place)]:
        yield f"it names places of this machine, for everyone to read: {listed(absolute)}"


def _places(value: Any) -> Iterator[str]:
    """Every text in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _places(inner)


def _is_absolute(place: str) -> bool:
    return PurePosixPath(place).is_absolute() or PureWindowsPath(place).is_absolute()


def _push(planned: Pushed, contents: dict[str, Path | bytes], overwrite: bool) -> Pushed:
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token

    if constants.HF_HUB_OFFLINE:
        raise InputError("HF_HUB_OFFLINE is set: nothing goes to the hub", suggestion="unset it, or add --dry-run")
    if get_token() is None:
        hint = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"
        raise InputError(f"there is no token to write into {planned.repository} with", suggestion=hint)
    if (reason := unreachable()) is not None:
        hint = "check the network; --dry-run shows what would go"
        raise WorkError(f"the Hugging Face hub cannot be reached: {reason}", suggestion=hint) from reason
    api, repository = HfApi(), planned.repository
    with _explained(repository):
        there = _there(api, repository)
        states = {file: _state(content, (there or {}).get(file)) for file, content in contents.items()}
        files = tuple(replace(file, state=states[file.name]) for file in planned.files)
        changed = [file for file, state in states.items() if state == "replaced"]
        if changed and not overwrite:
            hint = "another name, or --overwrite: the repository's history keeps what is there"
            raise InputError(f"{repository} has another {' and another '.join(changed)} already", suggestion=hint)
        if set(states.values()) == {"unchanged"}:
            return replace(planned, files=files)
        if there is None:
            api.create_repo(repository, private=planned.private)
    operations = [CommitOperationAdd(file, contents[file]) for file, state in states.items() if state != "unchanged"]
    with _explained(repository, f"; {repository} is made, and empty" if there is None else ""), _without_bars():
        commit = api.create_commit(repository, operations, commit_message="Upload a checkpoint of zoo's")
    return replace(planned, files=files, created=there is None, commit=commit.commit_url)


def _there(api: HfApi, repository: str) -> dict[str, Any] | None:
    """The files of a repository by name; None where there is no such repository."""
    from huggingface_hub.errors import RepositoryNotFoundError
    from huggingface_hub.hf_api import RepoFile

    try:
        found = list(api.list_repo_tree(repository))
    except RepositoryNotFoundError as error:
        if error.response.status_code == 401:  # the token is none, which the hub says in these words
            raise
        return None
    return {file.path: file for file in found if isinstance(file, RepoFile)}


def _state(content: Path | bytes, there: Any) -> str:
    """What putting a file does to one of that name: `new`, `replaced` or `unchanged`, which its digest decides."""
    if there is None:
        return "new"
    if there.lfs is not None:
        own = sha256_of(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()
        return "unchanged" if there.lfs.sha256 == own else "replaced"
    if there.size != _size(content):
        return "replaced"
    data = content.read_bytes() if isinstance(content, Path) else content
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()  # git's name of it
    return "unchanged" if there.blob_id == blob else "replaced"


@contextlib.contextmanager
def _explained(repository: str, left: str = "") -> Iterator[None]:
    """What the hub's client raises, in words; `left` is what stays behind where it fails here."""
    try:
        yield
    except (InputError, WorkError):
        raise
    except Exception as error:  # of its HTTP library, of the operating system, of its own
        raise hub_refusal(repository, error, left) from error


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Without the client's progress bars where standard error is no terminal."""
    import sys

    from huggingface_hub import utils

    bars = cast(Any, utils)
    if sys.stderr.isatty() or bars.are_progress_bars_disabled():
        yield
        return
    bars.disable_progress_bars()
    try:
        yield
    finally:
        bars.enable_progress_bars()
