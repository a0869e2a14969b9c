"""`latest` beside the runs: a pointer that takes nobody's place."""

import os
from pathlib import Path

import pytest

from zoo.file_name import RUN_MARK
from zoo.finetuning.latest import point_latest


@pytest.fixture
def runs(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / RUN_MARK).write_text("{}")
    return tmp_path


def test_it_is_a_link_to_the_run_that_was_begun_last(runs, monkeypatch):
    assert point_latest(runs / "one")
    monkeypatch.chdir(runs / "two")
    assert point_latest(Path())  # `--output .`
    assert os.readlink(runs / "latest") == "two"
    assert (runs / "latest" / RUN_MARK).exists()


def test_a_link_to_a_run_that_is_gone_is_replaced(runs):
    (runs / "latest").symlink_to("three")
    assert point_latest(runs / "one")
    assert os.readlink(runs / "latest") == "one"


def test_without_links_it_is_a_small_file(runs, monkeypatch):
    def refuse(*_, **__):
        raise OSError("a privilege is not held")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    for name in ("one", "two"):
        assert point_latest(runs / name)
        assert (runs / "latest").read_text() == f"{name}\n"
    assert sorted(path.name for path in runs.iterdir()) == ["latest", "one", "two"]


@pytest.mark.parametrize("kind", ["file", "folder", "link out", "link to a folder"])
def test_nothing_of_the_users_is_replaced(runs, kind):
    mine = runs / "latest"
    if kind == "file":
        mine.write_text("my notes")
    elif kind == "folder":
        mine.mkdir()
    elif kind == "link out":
        mine.symlink_to("/usr")
    else:
        (runs / "photos").mkdir()
        mine.symlink_to("photos")
    before = os.lstat(mine)
    assert not point_latest(runs / "one")
    assert os.lstat(mine) == before


def test_a_run_called_latest_needs_no_pointer(runs):
    (runs / "one").rename(runs / "latest")
    assert not point_latest(runs / "latest")


def test_a_folder_that_cannot_be_written_is_no_matter(runs, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    assert not point_latest(runs / "one")
    assert sorted(path.name for path in runs.iterdir()) == ["one", "two"]
