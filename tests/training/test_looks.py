"""Looks at a test part are counted: over runs, over folders, for the same data only."""

from __future__ import annotations

import json

import pytest

from zoo.data.open_data import open_data
from zoo.recipe.options import DataOptions
from zoo.training.looks import look, said, tell_report


@pytest.fixture(autouse=True)
def own_ledger(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def digits(seed: int = 0, **changes):
    return open_data(DataOptions(source="sklearn/digits", test_fraction=0.1, **changes), seed=seed)


def test_looks_add_up():
    first = look(digits(), "zoo finetune, runs/one")
    second = look(digits(batch_size=7), "zoo evaluate m.safetensors")
    assert [row["by"] for row in second] == ["zoo finetune, runs/one", "zoo evaluate m.safetensors"]
    assert second[0] == first[0]
    assert said(first) == ""
    assert said(second).startswith("test: look number 2 on this machine (before: zoo finetune, runs/one, 20")


def test_other_samples_are_another_test_part():
    look(digits(), "one")
    assert len(look(digits(seed=1), "two")) == 1
    assert len(look(digits(limit=50), "three")) == 1


def test_without_a_cache_it_is_the_first(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file"))
    assert len(look(digits(), "one")) == len(look(digits(), "two")) == 1


def test_the_report_of_the_run_says_it_too(tmp_path):
    report = {"checkpoint": "model.safetensors", "evaluation": {"parts": {"test": {}}, "test_looks": []}}
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    tell_report(tmp_path / "other.safetensors", [{"by": "a"}])
    assert json.loads(path.read_text()) == report
    tell_report(tmp_path / "model.safetensors", [{"by": "a"}])
    assert json.loads(path.read_text())["evaluation"]["test_looks"] == [{"by": "a"}]
    path.write_text("{")
    tell_report(tmp_path / "model.safetensors", [])
    assert path.read_text() == "{"
