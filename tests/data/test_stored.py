"""The data of a checkpoint is found from its own folder, wherever that is."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.data.stored import folder_beside, found_from

STORED = {
    "options": {"source": "zoo/csv", "arguments": {"path": "data/a.csv", "separator": ";", "validation": "b.csv"}}
}


def test_paths_count_from_where_the_run_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, run = tmp_path / "project", tmp_path / "project" / "runs" / "one"
    (start / "data").mkdir(parents=True)
    run.mkdir(parents=True)
    for file in (start / "data" / "a.csv", run / "model.safetensors"):
        file.touch()
    monkeypatch.chdir(start)
    stored = STORED | folder_beside("runs/one")
    assert stored["folder"] == "../.."
    monkeypatch.chdir("/")
    found = found_from(run / "model.safetensors", stored).arguments
    assert found == {"path": str(start / "data" / "a.csv"), "separator": ";", "validation": "b.csv"}
    start.rename(tmp_path / "moved")
    moved = found_from(tmp_path / "moved/runs/one/model.safetensors", stored).arguments
    assert moved["path"] == str(tmp_path / "moved" / "data" / "a.csv")


def test_without_a_folder_they_stay_as_written(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    for stored in (STORED, STORED | {"folder": 3}):
        assert found_from(tmp_path / "model.safetensors", stored).arguments == STORED["options"]["arguments"]
    assert found_from("no file", STORED | {"folder": ".."}).arguments == STORED["options"]["arguments"]
