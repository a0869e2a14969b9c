"""The state folder: always whole, frozen tensors written once, other recipes and damage refused."""

from __future__ import annotations

import json

import pytest
import torch

from zoo.errors import InputError, WorkError
from zoo.training import state as state_module
from zoo.training.state import StateFolder

RECIPE = {"seed": 1, "data": {"batch_size": 8, "workers": 2}, "steps": [{"train": {"lr": 0.1}}]}
MODEL = {"a": torch.arange(4.0), "b": torch.ones(2)}


def folder(tmp_path, recipe=RECIPE) -> StateFolder:
    return StateFolder(tmp_path / "state", recipe)


def test_a_state_comes_back_as_it_was(tmp_path):
    state = folder(tmp_path)
    assert state.load() is None
    state.begin(3, {"stages": [1]}, {"progress": {"epoch": 0}, "momentum": (torch.zeros(2),)}, MODEL)
    saved = folder(tmp_path).load()
    assert (saved.step, saved.run, saved.training["progress"]) == (3, {"stages": [1]}, {"epoch": 0})
    state.save(
        {"progress": {"epoch": 1}, "momentum": (torch.full((2,), 5.0),)}, {"b": torch.zeros(2)}, steps=7, whole=True
    )
    saved = folder(tmp_path).load()
    assert torch.equal(saved.model["a"], MODEL["a"])
    assert torch.equal(saved.model["b"], torch.zeros(2))
    assert torch.equal(saved.training["momentum"][0], torch.full((2,), 5.0))


def test_the_last_whole_epoch_is_kept_beside_the_latest_state(tmp_path):
    state = folder(tmp_path)
    state.begin(0, {}, {"n": 0}, MODEL)
    for steps, whole in ((1, False), (2, True), (3, False), (4, False)):
        state.save({"n": steps}, {"b": torch.full((2,), float(steps))}, steps=steps, whole=whole)
    latest, last = folder(tmp_path).load(), folder(tmp_path).load(whole=True)
    assert (latest.training["n"], last.training["n"]) == (4, 2)
    assert last.model["b"].tolist() == [2.0, 2.0]
    kept = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert kept == ["base-0.safetensors", "state.json", "step-0-2.safetensors", "step-0-4.safetensors"]
    state.begin(5, {}, {"n": 0}, MODEL)
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == ["base-5.safetensors", "state.json"]


@pytest.mark.parametrize("at", ["save_tensors", "write_json"])
def test_a_crash_while_writing_leaves_the_state_before(tmp_path, monkeypatch, at):
    state = folder(tmp_path)
    state.begin(0, {}, {"n": 0}, MODEL)

    def crash(*arguments, **keywords):
        raise RuntimeError("power cut")

    monkeypatch.setattr(state_module, at, crash)
    with pytest.raises(RuntimeError):
        state.save({"n": 1}, {"b": torch.zeros(2)}, steps=1, whole=True)
    monkeypatch.undo()
    assert folder(tmp_path).load().training["n"] == 0


def test_shared_tensors_come_back_under_one_name_and_copies_under_both(tmp_path):
    shared = torch.ones(3)
    state = folder(tmp_path)
    state.begin(0, {}, {"one": shared, "two": shared}, {"x": shared, "y": shared})
    saved = folder(tmp_path).load()
    assert list(saved.model) == ["x"]
    assert torch.equal(saved.training["one"], saved.training["two"])


def test_every_change_of_the_recipe_is_named(tmp_path):
    folder(tmp_path).begin(0, {}, {}, MODEL)
    changed = {"seed": 1, "data": {"batch_size": 9, "workers": 0}, "steps": [{"train": {"lr": 0.2}}, "evaluate"]}
    with pytest.raises(InputError) as caught:
        folder(tmp_path, changed).load()
    assert [problem.message for problem in caught.value.problems] == [
        "data.batch_size was 8 when this run began and is 9",
        "steps.0.train.lr was 0.1 when this run began and is 0.2",
        "steps.1 was 'not set' when this run began and is 'evaluate'",
        "a changed recipe cannot be resumed: change it back, run without --resume, or into another --output",
    ]


def test_a_finished_run_has_no_state_to_go_on_from(tmp_path):
    state = folder(tmp_path)
    state.begin(0, {}, {}, MODEL)
    assert not state.finished()
    state.finish()
    assert state.finished()
    assert folder(tmp_path).load() is None
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["state.json"]


def test_damage_is_said(tmp_path):
    folder(tmp_path).begin(0, {}, {}, MODEL)
    path = tmp_path / "state" / "state.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "format": 99}))
    with pytest.raises(InputError, match="another version of zoo"):
        folder(tmp_path).load()
    path.write_text(json.dumps({**document, "base": "../../etc/passwd"}))  # names lie in the folder, whatever they say
    with pytest.raises(WorkError, match="cannot be read"):
        folder(tmp_path).load()
