"""The feature cache: a frozen backbone's outputs, in memory up to a budget, beyond it in memory-mapped files.

Each set of features is also written to disk, for later runs: a folder of safetensors shards, named by the features' key
(weights, data, transform, engine), in the cache folder (zoo.cache). What was used least recently is removed when
the folder exceeds `$ZOO_CACHE_LIMIT` gigabytes (10). A file whose bytes are not those that were written is not used.

A run that is killed while it writes leaves a `.partial-…` folder without a manifest, which nothing reads; the next one
that writes removes it: a writer holds a lock beside its folder, and the system takes that away from a killed process. A
finished folder is renamed into place, so that two runs which compute the same features never see each other's half.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zoo.cache import cache_folder
from zoo.errors import WorkError

SHARD_BYTES = 256 * 2**20
BUDGET_SHARE = 0.25  # of the memory that is free when features are first stored
CACHE_LIMIT_GIGABYTES = 10.0
PARTIAL = ".partial-"
ORPHANED = 5.0  # seconds after which a lock without a folder is nobody's: its writer had it for a moment


@dataclass
class Features:
    """Features and targets by position. Each of `shards` has up to `rows` samples, in order. `seconds` were spent on
    computing them; 0 where an earlier run did."""

    shards: list[dict[str, Tensor]] = field(default_factory=list)
    rows: int = 1
    on_disk: bool = False
    seconds: float = 0.0

    def __len__(self) -> int:
        return sum(len(shard["targets"]) for shard in self.shards)

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for shard in self.shards for tensor in shard.values())

    def take(self, positions: np.ndarray) -> tuple[tuple[Tensor, ...], Tensor]:
        """The features and targets at `positions`, copied out, in that order."""
        if len(self.shards) == 1:
            chosen = torch.as_tensor(positions)
            taken = {name: tensor[chosen] for name, tensor in self.shards[0].items()}
        else:
            taken = self._gather(positions)
        return tuple(taken[name] for name in sorted(taken) if name != "targets"), taken["targets"]

    def everything(self) -> tuple[tuple[Tensor, ...], Tensor]:
        """All features and targets, in order, as one tensor each."""
        return self.take(np.arange(len(self)))

    def _gather(self, positions: np.ndarray) -> dict[str, Tensor]:
        first = self.shards[0]
        taken = {name: tensor.new_empty(len(positions), *tensor.shape[1:]) for name, tensor in first.items()}
        owner = positions // self.rows
        for number in np.unique(owner):
            wanted = torch.as_tensor(np.flatnonzero(owner == number))
            local = torch.as_tensor(positions[owner == number] - number * self.rows)
            for name, tensor in self.shards[number].items():
                taken[name][wanted] = tensor[local]
        return taken


class FeatureWriter:
    """Writes batches, in order, as shards in `folder`, which also stay in memory while they fit the budget.

    Without a folder, or where it takes no more, features that fit into memory stay there alone: a cache that cannot be
    written costs a later run time, this one nothing.
    """

    def __init__(self, folder: Path | None, budget: int, lock: FileLock | None = None) -> None:
        self.folder, self.budget, self.lock = folder, budget, lock
        self.features = Features()
        self.digests: list[str] = []  # of the shards written, the sha256 of each
        self._pending: list[dict[str, Tensor]] = []
        self._count = 0

    @property
    def complete(self) -> bool:
        """Whether every shard is on disk, so that a later run can use them."""
        return self.folder is not None and len(self.digests) == len(self.features.shards)

    def add(self, tensors: tuple[Tensor, ...], targets: Tensor) -> None:
        batch = {f"feature_{index:02d}": tensor.to("cpu") for index, tensor in enumerate(tensors)}
        batch["targets"] = targets.to("cpu")
        if not self.features.shards and not self._pending:
            sample = sum(tensor[0].nbytes for tensor in batch.values())
            self.features.rows = max(SHARD_BYTES // max(sample, 1), 1)
        self._pending.append(batch)
        self._count += len(targets)
        while self._count >= self.features.rows:
            self._flush(self.features.rows)

    def finish(self) -> Features:
        if self._count:
            self._flush(self._count)
        return self.features

    def discard(self) -> None:
        """Remove what an unfinished pass has written."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder = None
        self.release()

    def release(self) -> None:
        """Give the folder up: from here on another run may remove it."""
        if self.lock is not None:
            _remove_lock(self.lock)

    def _flush(self, rows: int) -> None:
        joined = {name: torch.cat([batch[name] for batch in self._pending]) for name in self._pending[0]}
        shard = {name: tensor[:rows].clone(memory_format=torch.contiguous_format) for name, tensor in joined.items()}
        left = {name: tensor[rows:] for name, tensor in joined.items()}
        self._pending = [left] if len(left["targets"]) else []
        self._count -= rows
        path = self._write(shard)
        if self.features.bytes + sum(tensor.nbytes for tensor in shard.values()) > self.budget:
            if path is None:
                raise WorkError(
                    f"features take more than the {self.budget / 1e9:.1f} GB of memory there is for them, and "
                    f"{cache_folder()} cannot be written",
                    suggestion="name a folder with room in the environment, ZOO_CACHE, or write feature_cache: off",
                )
            shard, self.features.on_disk = load_file(path), True  # mapped, not read
        self.features.shards.append(shard)

    def _write(self, shard: dict[str, Tensor]) -> Path | None:
        """The shard's file; None where it, or one before it, could not be written."""
        if self.folder is None or len(self.digests) < len(self.features.shards):
            return None
        path = _shard(self.folder, len(self.digests))
        try:
            save_file(shard, path)
            self.digests.append(_digest(path))
        except (OSError, SafetensorError):
            with suppress(OSError):
                path.unlink(missing_ok=True)
            if not self.features.on_disk:
                self.discard()
            return None
        return path


class FeatureCache:
    """Features of this and earlier runs on disk, by key."""

    def __init__(self, root: Path | None = None) -> None:
        self.root = (root or cache_folder()) / "features"

    def find(self, key: str, budget: int) -> Features | None:
        """The features stored under `key`, or None where they are missing, incomplete or damaged."""
        folder = self.root / key
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
            digests = manifest["digests"]
            if [_digest(_shard(folder, number)) for number in range(len(digests))] != digests:
                return None
            features = Features(_shards(folder, len(digests)), manifest["rows"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError):
            return None
        if manifest.get("key") != key or len(features) != manifest["samples"]:
            return None
        (folder / "manifest.json").touch()  # marks it as used now
        features.on_disk = features.bytes > budget
        if not features.on_disk:
            features.shards = [{name: t.clone() for name, t in shard.items()} for shard in features.shards]
        return features

    def writer(self, budget: int) -> FeatureWriter:
        """A writer into a new folder of its own; without one where the cache folder cannot be written."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            return self._writer(budget)
        except OSError:
            return FeatureWriter(None, budget)

    def _writer(self, budget: int) -> FeatureWriter:
        self._remove_leftovers()
        folder = self.root / f"{PARTIAL}{secrets.token_hex(8)}"
        lock = _lock_of(folder)
        held = _acquired(lock)  # before there is a folder: one whose lock can be had is nobody's
        try:
            folder.mkdir(mode=0o700)
        except BaseException:
            _remove_lock(lock)
            raise
        return FeatureWriter(folder, budget, lock if held else None)

    def _remove_leftovers(self) -> None:
        """Remove the folders that killed runs were writing."""
        for path in list(self.root.glob(f"{PARTIAL}*")):
            with suppress(OSError):
                folder = path.with_name(path.name.removesuffix(".lock"))
                young = not folder.exists() and time.time() - path.stat().st_mtime < ORPHANED
                lock = _lock_of(folder)
                if not young and _acquired(lock):
                    shutil.rmtree(folder, ignore_errors=True)
                    _remove_lock(lock)

    def keep(self, key: str, writer: FeatureWriter) -> None:
        """Move a finished writer's folder to its place under `key`, and remove old ones beyond the limit."""
        features, folder = writer.features, writer.folder
        if folder is None or not writer.complete:
            return
        count = len(features.shards)
        manifest = {"key": key, "digests": writer.digests, "rows": features.rows, "samples": len(features)}
        try:
            (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        except OSError:
            if not features.on_disk:
                writer.discard()
            return
        target = self.root / key
        with suppress(OSError):
            shutil.rmtree(target)
        features.shards = [] if features.on_disk else features.shards  # Windows moves no folder with a mapped file
        with suppress(OSError):  # another run stored the same features first: they are as good
            folder = folder.rename(target)
            writer.release()
        features.shards = features.shards or _shards(folder, count)
        self._make_room(target)

    def _make_room(self, newest: Path) -> None:
        limit = float(os.environ.get("ZOO_CACHE_LIMIT", CACHE_LIMIT_GIGABYTES)) * 1e9
        folders = sorted(self._folders(), key=lambda folder: _age(folder, newest))
        used = 0
        for folder in folders:
            used += sum(path.stat().st_size for path in folder.iterdir())
            if used > limit and folder != newest:
                shutil.rmtree(folder, ignore_errors=True)

    def _folders(self) -> Iterator[Path]:
        return (folder for folder in self.root.iterdir() if (folder / "manifest.json").exists())


def _lock_of(folder: Path) -> FileLock:
    return FileLock(f"{folder}.lock", blocking=False)


def _acquired(lock: FileLock) -> bool:
    """False where another process has it, and on a file system without locks."""
    try:
        lock.acquire()
    except (OSError, NotImplementedError):
        return False
    return True


def _remove_lock(lock: FileLock) -> None:
    lock.release()
    with suppress(OSError):
        Path(lock.lock_file).unlink(missing_ok=True)


def _shards(folder: Path, count: int) -> list[dict[str, Tensor]]:
    """The files of a set of features, mapped."""
    return [load_file(_shard(folder, number)) for number in range(count)]


def _shard(folder: Path, number: int) -> Path:
    return folder / f"features-{number:05d}.safetensors"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _age(folder: Path, newest: Path) -> float:
    return float("-inf") if folder == newest else -(folder / "manifest.json").stat().st_mtime


def memory_budget() -> int:
    """How many bytes of features may stay in memory: a quarter of what is free now."""
    import psutil

    return int(psutil.virtual_memory().available * BUDGET_SHARE)
