"""The data of a model is found from the folder in which its run was started."""

from __future__ import annotations

from pathlib import Path

from zoo.data.stored import found_from

ARGUMENTS = {"path": "data/a.csv", "separator": ";", "validation": "b.csv"}
STORED = {"options": {"source": "zoo/csv", "arguments": ARGUMENTS}}


def test_paths_count_from_the_folder_where_something_is_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").touch()
    found = found_from(STORED | {"folder": str(tmp_path)}).arguments
    assert found == {"path": str(tmp_path / "data" / "a.csv"), "separator": ";", "validation": "b.csv"}


def test_without_a_folder_they_stay_as_written() -> None:
    for stored in (STORED, STORED | {"folder": 3}):
        assert found_from(stored).arguments == ARGUMENTS
