"""The folder of a checkpoint's data, as seen from the checkpoint: it moves with both."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.checkpoint.data_folder import as_loaded, as_stored, found_from


def test_there_and_back_after_a_move(tmp_path: Path) -> None:
    data = {"options": {}, "seed": 0, "folder": str(tmp_path / "project")}
    stored = as_stored(data, tmp_path / "project" / "runs" / "one" / "model.safetensors")
    assert stored == {"options": {}, "seed": 0, "folder": "../.."}
    assert as_loaded(stored, tmp_path / "project" / "runs" / "one" / "model.safetensors") == data
    moved = as_loaded(stored, tmp_path / "elsewhere" / "runs" / "one" / "model.safetensors")
    assert moved == data | {"folder": str(tmp_path / "elsewhere")}


@pytest.mark.parametrize("data", [None, {}, {"options": {}}, {"folder": 3}])
def test_data_without_a_folder_stays_as_it_is(data: dict | None) -> None:
    assert as_stored(data, "a.safetensors") == data
    assert as_loaded(data, "a.safetensors") == data


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
