"""A file is there whole or not at all, whatever goes wrong on the way."""

import os
import re
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zoo.errors import InputError, WorkError
from zoo.formats import files
from zoo.formats.files import atomic_file, check_free, write_all


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_file_appears_at_the_end_and_nothing_else(tmp_path):
    with atomic_file(tmp_path / "out") as descriptor:
        write_all(descriptor, b"new", 0)
        (name,) = os.listdir(tmp_path)
        assert name.startswith(".out.")
        assert len(name) > 20
    assert contents(tmp_path) == {"out": b"new"}


def without_positions(monkeypatch):
    """As on Windows: no reading and writing at a place, and no folder that can be opened."""
    real = os.open

    def no_folder(path, flags, *mode):
        if os.path.isdir(path):
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *mode)

    monkeypatch.setattr(files, "_write_at", files._seek_and_write)
    monkeypatch.setattr(os, "open", no_folder)


def test_places_without_pread_and_pwrite(tmp_path, monkeypatch):
    without_positions(monkeypatch)
    with atomic_file(tmp_path / "out") as descriptor:
        with ThreadPoolExecutor(4) as pool:
            parts = [bytes([part]) * 1000 for part in range(64)]
            done = [pool.submit(write_all, descriptor, part, 1000 * place) for place, part in enumerate(parts)]
        assert [one.result() for one in done] == [None] * 64
        read = [files._seek_and_read(descriptor, 1000, 1000 * place) for place in range(64)]
        assert read == parts
        assert files._seek_and_read(descriptor, 1000, 64_000) == b""
    assert contents(tmp_path) == {"out": b"".join(parts)}


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_mode_is_the_umask_s(umask, tmp_path):
    before = os.umask(umask)
    try:
        with atomic_file(tmp_path / "out"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError, InputError, OSError])
@pytest.mark.parametrize("old", [None, b"old"])
def test_failure_leaves_what_was_there(error, old, tmp_path):
    if old is not None:
        (tmp_path / "out").write_bytes(old)
    expected = WorkError if error is OSError else error
    with pytest.raises(expected), atomic_file(tmp_path / "out") as descriptor:  # noqa: PT012
        write_all(descriptor, b"half of", 0)
        raise error("stop")
    assert contents(tmp_path) == ({} if old is None else {"out": old})


def test_a_link_is_followed(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "out").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real/out")
    with atomic_file(tmp_path / "link") as descriptor:
        write_all(descriptor, b"new", 0)
    assert (tmp_path / "link").is_symlink()
    assert contents(tmp_path / "real") == {"out": b"new"}


@pytest.mark.parametrize("kind", ["itself", "symlink", "hardlink", "dotted", "dangling loop"])
def test_the_source_is_never_the_destination(kind, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"precious")
    other = tmp_path / "other"
    if kind == "symlink":
        other.symlink_to(source)
    elif kind == "hardlink":
        other.hardlink_to(source)
    elif kind == "dangling loop":
        other.symlink_to(other)
    destination = {"itself": source, "dotted": tmp_path / "." / "x" / ".." / "source"}.get(kind, other)
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError), atomic_file(destination, sources=[source]):
        pytest.fail("it was opened")
    assert source.read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("name", "message"), [("", "is a folder"), ("none/out", "no folder .*mkdir -p"), ("n" * 300, "cannot write")]
)
def test_places_that_cannot_be_written(name, message, tmp_path):
    with pytest.raises(InputError, match=message), atomic_file(tmp_path / name):
        pytest.fail("it was opened")
    assert not contents(tmp_path)


def test_devices_are_not_replaced():
    with pytest.raises(InputError, match="not a regular file"), atomic_file(Path("/dev/full")):
        pytest.fail("it was opened")


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    tmp_path.chmod(0o555)
    if os.geteuid() == 0:  # root may write anywhere: let the system call say what it says to others

        def refuse(*_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(InputError, match=r"into the folder .*Permission denied"), atomic_file(tmp_path / "out"):
        pytest.fail("it was opened")
    monkeypatch.undo()
    tmp_path.chmod(0o755)
    assert not contents(tmp_path)


def test_a_full_disk(tmp_path):
    (tmp_path / "out").write_bytes(b"old")
    code = (
        "import sys; from pathlib import Path\n"
        "from zoo.formats.files import atomic_file, write_all\n"
        "from zoo.errors import WorkError\n"
        "try:\n"
        "    with atomic_file(Path(sys.argv[1])) as descriptor: write_all(descriptor, bytes(1 << 20), 0)\n"
        "except WorkError as error: print(error, error.exit_code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "out"],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
    )
    assert "File too large" in done.stdout
    assert done.stdout.rstrip().endswith("1")
    assert contents(tmp_path) == {"out": b"old"}


def test_what_would_be_replaced_is_said_before_any_work(tmp_path):
    there, run = tmp_path / "there.csv", tmp_path / "run"
    there.write_text("mine")
    run.mkdir()
    (run / "model.safetensors").write_text("mine")
    check_free(tmp_path / "new.csv", overwrite=False, sources=[there, "hf://org/name", run])
    check_free(there, overwrite=True, sources=[run])
    for path, sources, said in (
        (there, [], "is there already (replace it: --overwrite, or name another file)"),
        (run, [], "is a folder"),
        (tmp_path / "none" / "new.csv", [], f"there is no folder {tmp_path / 'none'}"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            check_free(path, overwrite=False, sources=sources)
    for path, sources in ((there, [there]), (run / "model.safetensors", [run])):
        with pytest.raises(InputError, match="is the source itself"):
            check_free(path, overwrite=True, sources=sources)
    assert there.read_text() == "mine"
