"""The folder of a checkpoint's data, as seen from the checkpoint: it moves with both."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.checkpoint.data_folder import as_loaded, as_stored


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
