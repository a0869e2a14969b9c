"""Zip files from strangers: where entries lie, and what is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from zoo.errors import InputError
from zoo.formats.zip_file import ZipDirectory


def written(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def test_bytes_lie_where_the_directory_says(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", {"one": b"first", "two/inside": b"second"})
    with ZipDirectory(path) as archive:
        assert list(archive.entries) == ["one", "two/inside"]
        for name, content in (("one", b"first"), ("two/inside", b"second")):
            span = archive.byte_range(name)
            assert path.read_bytes()[span.offset : span.offset + span.nbytes] == content
            assert archive.read(name, 100) == content


def test_a_limit_on_what_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", {"one": b"first"})
    with ZipDirectory(path) as archive, pytest.raises(InputError, match="larger than 4 bytes"):
        archive.read("one", 4)


@pytest.mark.parametrize("name", ["../evil", "/evil", "a\\..\\evil"])
def test_names_that_lead_out(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / "a.zip", {"inside": b"", name: b"x"})
    with pytest.raises(InputError, match="leads out of the archive"):
        ZipDirectory(path)


def test_compressed_entries_have_no_range(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", {"one": b"first" * 100}, zipfile.ZIP_DEFLATED)
    with ZipDirectory(path) as archive, pytest.raises(InputError, match="is compressed"):
        archive.byte_range("one")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one", b"1")
        archive.writestr("one", b"2")
    with pytest.raises(InputError, match="share a name or a place"):
        ZipDirectory(tmp_path / "a.zip")


def test_what_was_cut_short(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", {"one": b"first" * 100})
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="damaged zip file, or was cut short"):
        ZipDirectory(path)


def test_a_changed_byte_is_found_by_its_checksum(tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", {"one": b"first"})
    path.write_bytes(path.read_bytes().replace(b"first", b"fires", 1))
    with ZipDirectory(path) as archive, pytest.raises(InputError, match="damaged zip file"):
        archive.read("one", 100)
