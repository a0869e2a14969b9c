"""Features kept in memory and on disk: what comes out is what went in, and nothing stale or broken comes out."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from zoo.errors import WorkError
from zoo.training.trunk import store
from zoo.training.trunk.store import FeatureCache


@pytest.fixture
def batches():
    torch.manual_seed(0)
    sizes = [7, 7, 7, 4]
    return [((torch.randn(n, 3, 2).bfloat16(), torch.randn(n, 5)), torch.arange(n)) for n in sizes]


def write(cache, batches, budget, key="k"):
    writer = cache.writer(budget)
    for tensors, targets in batches:
        writer.add(tensors, targets)
    features = writer.finish()
    cache.keep(key, writer)
    return features


@pytest.mark.parametrize("budget", [10**9, 0], ids=["memory", "disk"])
@pytest.mark.parametrize("shard_bytes", [10**9, 200], ids=["one shard", "many shards"])
def test_take_gives_the_rows_that_were_added(tmp_path, monkeypatch, batches, budget, shard_bytes):
    monkeypatch.setattr(store, "SHARD_BYTES", shard_bytes)
    features = write(FeatureCache(tmp_path), batches, budget)
    assert len(features) == 25
    assert features.on_disk == (budget == 0)
    assert (len(features.shards) > 1) == (shard_bytes == 200)
    order = np.random.default_rng(0).permutation(25)
    (first, second), targets = features.take(order)
    assert torch.equal(first, torch.cat([tensors[0] for tensors, _ in batches])[order])
    assert torch.equal(second, torch.cat([tensors[1] for tensors, _ in batches])[order])
    assert torch.equal(targets, torch.cat([targets for _, targets in batches])[order])


def test_any_memory_layout_can_be_kept(tmp_path):
    features = torch.randn(4, 3, 5, 6).contiguous(memory_format=torch.channels_last)
    kept = write(FeatureCache(tmp_path), [((features,), torch.arange(4))], 0)
    assert torch.equal(kept.everything()[0][0], features)


def test_later_run_finds_them_under_the_same_key_only(tmp_path, batches):
    write(FeatureCache(tmp_path), batches, 10**9, key="one")
    found = FeatureCache(tmp_path).find("one", 10**9)
    assert found is not None
    assert torch.equal(found.take(np.array([3]))[0][1][0], batches[0][0][1][3])
    assert FeatureCache(tmp_path).find("two", 10**9) is None


def test_unfinished_or_damaged_features_are_not_found(tmp_path, batches):
    cache = FeatureCache(tmp_path)
    writer = cache.writer(10**9)
    writer.add(*batches[0])
    assert cache.find("k", 10**9) is None
    write(cache, batches, 10**9)
    shard = next((tmp_path / "features" / "k").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-10])
    assert cache.find("k", 10**9) is None


def test_flipped_bytes_are_not_found(tmp_path, batches):
    cache = FeatureCache(tmp_path)
    write(cache, batches, 10**9)
    shard = next((tmp_path / "features" / "k").glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-7] ^= 0x20
    shard.write_bytes(content)
    assert cache.find("k", 10**9) is None
    write(cache, batches, 10**9)
    assert cache.find("k", 10**9) is not None


@pytest.mark.parametrize("what", ["a file in its place", "no room for a shard", "no room for the manifest"])
def test_a_cache_that_cannot_be_written_costs_nothing_that_fits_into_memory(tmp_path, monkeypatch, batches, what):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    def serialize_full(*_, **__):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(store, "SHARD_BYTES", 200)
    if what == "a file in its place":
        (tmp_path / "features").write_text("")
    elif what == "no room for a shard":
        monkeypatch.setattr(store, "save_file", serialize_full)
    else:
        monkeypatch.setattr(Path, "write_text", full)
    cache = FeatureCache(tmp_path)
    features = write(cache, batches, 10**9)
    order = np.random.default_rng(0).permutation(25)
    assert torch.equal(features.take(order)[0][0], torch.cat([tensors[0] for tensors, _ in batches])[order])
    assert cache.find("k", 10**9) is None
    assert not list((tmp_path / "features").glob(".partial-*")) if what != "a file in its place" else True
    if what != "no room for the manifest":
        with pytest.raises(
            WorkError, match=r"features take more than .* cannot be written .*ZOO_CACHE, or write feature_cache: off"
        ):
            write(cache, batches, 0)


def test_cache_forgets_what_was_used_longest_ago(tmp_path, batches, monkeypatch):
    import os

    cache = FeatureCache(tmp_path)
    for age, key in [(300, "old"), (200, "middle")]:
        write(cache, batches, 10**9, key=key)
        manifest = tmp_path / "features" / key / "manifest.json"
        stamp = manifest.stat().st_mtime - age
        os.utime(manifest, (stamp, stamp))
    size = sum(path.stat().st_size for path in (tmp_path / "features" / "old").iterdir())
    monkeypatch.setenv("ZOO_CACHE_LIMIT", str(2.5 * size / 1e9))
    write(cache, batches, 10**9, key="new")
    assert cache.find("old", 10**9) is None
    assert cache.find("middle", 10**9) is not None
    assert cache.find("new", 10**9) is not None


KILLED = """
import os, sys
from filelock import FileLock
lock = FileLock(sys.argv[1] + ".lock")
lock.acquire()
os.mkdir(sys.argv[1])
open(sys.argv[1] + "/features-00000.safetensors", "wb").close()
os.kill(os.getpid(), 9)
"""


def test_the_folder_of_a_killed_run_is_removed_by_the_next_and_that_of_a_running_one_is_not(tmp_path, batches):
    cache = FeatureCache(tmp_path)
    running = cache.writer(0)
    killed = cache.root / ".partial-0123456789abcdef"
    subprocess.run([sys.executable, "-c", KILLED, str(killed)], check=False)
    lock, young = (cache.root / f".partial-{name}.lock" for name in ("old", "young"))
    for path in (lock, young):
        path.touch()
    os.utime(lock, (0, 0))
    assert killed.exists()
    write(cache, batches, 0)
    left = {path.name for path in cache.root.iterdir()}
    assert left == {"k", running.folder.name, f"{running.folder.name}.lock", young.name}
    running.discard()
    assert {path.name for path in cache.root.iterdir()} == {"k", young.name}
