"""Finds out what a location is, by the bytes a file starts with rather than by its name, and opens it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from zoo.errors import InputError, WorkError, any_of, did_you_mean, listed
from zoo.formats.foreign import foreign_folder, foreign_name, foreign_start, foreign_zip
from zoo.formats.part import part_of
from zoo.formats.remote import fetch, is_address
from zoo.formats.safetensors_file import open_safetensors
from zoo.formats.sharded import INDEX_SUFFIX, WEIGHT_FILES, open_sharded
from zoo.formats.source import Source
from zoo.formats.zip_file import ZipDirectory

WRAPPERS = ("module.", "_orig_mod.", "_forward_module.", "model.")
"""What DistributedDataParallel, torch.compile, Lightning Fabric and Lightning modules put before every name."""

METADATA_FILE = ".metadata"
"""What a torch.distributed.checkpoint folder has in it, and by which it is known."""


def open_source(
    location: str | Path, *, trust_pickle: bool = False, key: str | None = None, sha256: str | None = None
) -> Source:
    """The checkpoint at `location`: a file, a folder, `hf://org/repo[/file][@revision]` or an https address.

    Args:
        trust_pickle: run the code in a pickled model; the only way to read one.
        key: which state dict of several to take, or which network of several in one, as the dotted path in front of
            its names (`state_dict`, `teacher`, `module.encoder_q`; `.` takes everything). It comes off the names.
        sha256: the digest the file must have, or at least its first 8 characters.

    Raises InputError where it is missing, damaged, of an unknown kind, or would need code to be run; WorkError where
    it cannot be fetched, or is not the file that `sha256` promises.
    """
    try:
        source = _open_file(locate(location, sha256), str(location), trust_pickle, key)
    except OSError as error:
        raise InputError(f"cannot read {location}: {error.strerror or error}") from error
    source.wrappers = find_wrappers(source.entries)
    if sha256 and not (actual := source.sha256()).startswith(sha256.lower()):
        source.close()
        raise WorkError(f"{location} has the sha256 {actual}, but {sha256} was expected")
    return source


def locate(location: str | Path, sha256: str | None = None) -> Path:
    """The file on this machine that `location` means, fetched where it must be."""
    text = str(location)
    if is_address(text):
        return fetch(text, sha256)
    path = Path(location)
    if path.is_dir():
        return _in_folder(path)
    if not path.exists():
        near = did_you_mean(path.name, (file.name for file in path.parent.iterdir())) if path.parent.is_dir() else None
        raise InputError(f"there is no file {location}", suggestion=near)
    if not path.is_file():
        raise InputError(f"{location} is neither a file nor a folder")
    return path


def _in_folder(folder: Path) -> Path:
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    if (folder / METADATA_FILE).is_file():
        return folder / METADATA_FILE
    files = sorted(file for file in folder.iterdir() if file.suffix in (".safetensors", ".pth", ".pt", ".bin", ".ckpt"))
    if len(files) == 1:
        return files[0]
    if not files and (foreign := foreign_folder(folder)):
        raise foreign.refusal(f"the folder {folder}")
    choice = f"; name one of {listed((file.name for file in files), 10)}" if files else ""
    raise InputError(f"the folder {folder} contains no {any_of(WEIGHT_FILES)}{choice}")


def _open_file(path: Path, location: str, trust_pickle: bool, key: str | None) -> Source:
    with open(path, "rb") as file:
        start = file.read(512)
    if not start:
        raise InputError(f"{location} is empty")
    if foreign := foreign_start(start):
        raise foreign.refusal(location)
    if path.name == METADATA_FILE:
        from zoo.formats.distributed import open_distributed

        return open_distributed(path, location, key)
    if path.name.endswith(INDEX_SUFFIX):
        whole = open_sharded(path, location, lambda shard, name: _open_file(shard, name, trust_pickle, None))
        return part_of(whole, key)
    if start[8:9] != b"{" and (
        start.startswith((b"PK\x03\x04", b"\x93NUMPY", b"\x80")) or path.suffix in (".pkl", ".pickle")
    ):
        return _open_foreign(path, location, start, trust_pickle, key)
    if path.suffix == ".safetensors" or start[8:9] == b"{":
        return part_of(open_safetensors(path, location), key)
    if foreign := foreign_name(path):
        raise foreign.refusal(location)
    raise InputError(
        f"{location} is of no kind that zoo reads",
        suggestion="it reads .safetensors, what torch.save writes (.pth, .pt, .bin, .ckpt), .npz, .npy, *.index.json",
    )


def _open_foreign(path: Path, location: str, start: bytes, trust_pickle: bool, key: str | None) -> Source:
    """NumPy's and torch's files; their readers are imported when there is such a file."""
    from zoo.formats.numpy_file import open_npy, open_npz
    from zoo.formats.torch_file import UnsafePickleError, open_torch

    if start.startswith(b"\x93NUMPY"):
        return part_of(open_npy(path, location), key)
    if start.startswith(b"PK\x03\x04"):
        with ZipDirectory(path) as archive:
            entries = list(archive.entries)
        if foreign := foreign_zip(entries):
            raise foreign.refusal(location)
        if any(name.endswith(".npy") for name in entries):
            return part_of(open_npz(path, location), key)
    try:
        return open_torch(path, location, key)
    except UnsafePickleError:
        if not trust_pickle:
            raise
    from zoo.formats.trusted_pickle import open_trusted

    return open_trusted(path, location, key)


def find_wrappers(names: Iterable[str]) -> tuple[str, ...]:
    """The prefixes of `WRAPPERS` that all names carry, outermost first."""
    rest = list(names)
    found: list[str] = []
    while rest:
        shared = next((prefix for prefix in WRAPPERS if all(name.startswith(prefix) for name in rest)), None)
        if shared is None:
            break
        found.append(shared)
        rest = [name.removeprefix(shared) for name in rest]
    return tuple(found)
