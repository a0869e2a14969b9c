"""The state folder: always complete, frozen tensors written once, other recipes and damage refused."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from zoo.errors import InputError, WorkError
from zoo.steps.train import Train
from zoo.training import state as state_module
from zoo.training.devices import generator_states, restore_generators, seed_everything
from zoo.training.optimizers import make_optimizer
from zoo.training.state import StateFolder, pack, unpack

RECIPE = {"seed": 1, "data": {"batch_size": 8, "workers": 2}, "steps": [{"train": {"lr": 0.1}}]}
MODEL = {"a": torch.arange(4.0), "b": torch.ones(2)}


def folder(tmp_path, recipe=RECIPE) -> StateFolder:
    return StateFolder(tmp_path / "state", recipe)


def names(tmp_path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "state").iterdir())


def test_a_state_comes_back_as_it_was(tmp_path):
    state = folder(tmp_path)
    assert state.load() is None
    state.begin(3, {"stages": [1]}, {"progress": {"epoch": 0}, "momentum": (torch.zeros(2),)}, MODEL)
    saved = folder(tmp_path).load()
    assert (saved.step, saved.run, saved.training["progress"]) == (3, {"stages": [1]}, {"epoch": 0})
    state.save(
        {"progress": {"epoch": 1}, "momentum": (torch.full((2,), 5.0),)}, {"b": torch.zeros(2)}, steps=7, epoch_end=True
    )
    saved = folder(tmp_path).load()
    assert torch.equal(saved.model["a"], MODEL["a"])
    assert torch.equal(saved.model["b"], torch.zeros(2))
    assert torch.equal(saved.training["momentum"][0], torch.full((2,), 5.0))


def test_the_last_complete_epoch_is_kept_beside_the_latest_state(tmp_path):
    state = folder(tmp_path)
    state.begin(0, {}, {"n": 0}, MODEL)
    for steps, end in ((1, False), (2, True), (3, False), (4, False)):
        state.save({"n": steps}, {"b": torch.full((2,), float(steps))}, steps=steps, epoch_end=end)
    latest, last = folder(tmp_path).load(), folder(tmp_path).last_epoch()
    assert (latest.training["n"], last.training["n"]) == (4, 2)
    assert last.model["b"].tolist() == [2.0, 2.0]
    kept = [*(f"step-0-{steps}.safetensors" for steps in (2, 3, 4)), "base-0.safetensors", "before.json", "state.json"]
    assert names(tmp_path) == sorted(kept)
    state.begin(5, {}, {"n": 0}, MODEL)  # the state before is still complete
    kept = [name for name in kept if name != "step-0-3.safetensors"]
    assert names(tmp_path) == sorted([*kept, "base-5.safetensors"])
    for steps in (1, 2):
        state.save({"n": steps}, {"b": torch.zeros(2)}, steps=steps, epoch_end=True)
    kept = ["base-5.safetensors", "before.json", "state.json", "step-5-1.safetensors", "step-5-2.safetensors"]
    assert names(tmp_path) == kept


@pytest.mark.parametrize("at", ["save_tensors", "write_json"])
def test_a_crash_while_writing_leaves_the_state_before(tmp_path, monkeypatch, at):
    state = folder(tmp_path)
    state.begin(0, {}, {"n": 0}, MODEL)

    def crash(*arguments, **keywords):
        raise RuntimeError("power cut")

    monkeypatch.setattr(state_module, at, crash)
    with pytest.raises(RuntimeError):
        state.save({"n": 1}, {"b": torch.zeros(2)}, steps=1, epoch_end=True)
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
    state = folder(tmp_path)
    state.begin(0, {}, {"progress": {"epoch": 0, "steps": 0}}, MODEL)
    state.save({"progress": {"epoch": 1, "steps": 7}}, {"b": torch.zeros(2)}, steps=7, epoch_end=True)
    changed = {
        "seed": 1,
        "data": {"batch_size": 9, "workers": 0},
        "steps": [{"train": {"lr": 0.2, "optimizer": "SGD"}}, {"evaluate": {}}],
    }
    with pytest.raises(InputError) as caught:
        folder(tmp_path, changed).load()
    assert [str(problem) for problem in caught.value.problems] == [
        "data.batch_size was 8 when this run began and is 9 (change it back: --set data.batch_size=8)",
        "train: optimizer was not set when this run began and is 'SGD' "
        "(change it back: remove steps[0].train.optimizer)",
        "this could change: train: lr 0.1 -> 0.2",
        "this could change: step 2 not set -> {evaluate: {}}",
        "what is already done stays as it is: change these back, or start a new run with another --output",
    ]


def steps(lr: float, *more) -> dict:
    return {**RECIPE, "steps": [{"train": {"lr": lr}}, *more]}


def test_a_change_in_the_step_itself_goes_back_to_its_last_epoch(tmp_path):
    state = folder(tmp_path)
    state.begin(0, {}, {"progress": {"epoch": 0, "steps": 0}}, MODEL)
    for count, end in ((2, True), (3, False)):
        progress = {"progress": {"epoch": 1, "steps": count}}
        state.save(progress, {"b": torch.full((2,), float(count))}, steps=count, epoch_end=end)
    later = folder(tmp_path, steps(0.1, {"evaluate": {}})).load()
    assert (later.training["progress"]["steps"], later.options, later.restarts) == (3, None, False)
    own = folder(tmp_path, steps(0.2)).load()
    assert (own.training["progress"]["steps"], own.options, own.restarts) == (2, {"lr": 0.1}, False)
    assert [str(change) for change in own.taken] == ["train: lr 0.1 -> 0.2"]


def test_a_step_that_begins_anew_keeps_what_it_began_with_until_then(tmp_path, monkeypatch):
    folder(tmp_path).begin(0, {}, {"progress": {"epoch": 0, "steps": 0}}, MODEL)
    state = folder(tmp_path, steps(0.2))
    assert state.load().restarts

    def crash(*arguments, **keywords):
        raise RuntimeError("power cut")

    monkeypatch.setattr(state_module, "write_json", crash)
    with pytest.raises(RuntimeError):
        state.begin(0, {}, {"progress": {"epoch": 0, "steps": 0}}, {**MODEL, "a": torch.zeros(4)})
    monkeypatch.undo()
    assert torch.equal(folder(tmp_path).load().model["a"], MODEL["a"])
    state.begin(0, {}, {"progress": {"epoch": 0, "steps": 0}}, MODEL)
    assert folder(tmp_path, steps(0.2)).load().options is None
    assert names(tmp_path) == ["base-0-1.safetensors", "base-0.safetensors", "before.json", "state.json"]


def test_a_failure_is_remembered_until_something_changes(tmp_path):
    state = folder(tmp_path)
    state.begin(0, {}, {"progress": {"epoch": 0, "steps": 0}}, MODEL)
    state.fail("it broke", {"device": "cpu"})
    failed = folder(tmp_path).load().failed
    assert (failed["message"], failed["conditions"]) == ("it broke", {"device": "cpu"})
    assert folder(tmp_path, steps(0.1, {"evaluate": {}})).load().failed == failed  # a later step changes nothing here
    other = folder(tmp_path, steps(0.2))
    assert other.load().failed is None
    other.fail("it broke again", {"device": "cpu"})
    assert folder(tmp_path, steps(0.2)).load().failed["message"] == "it broke again"
    state.begin(0, {}, {"progress": {"epoch": 0, "steps": 0}}, MODEL)
    assert folder(tmp_path).load().failed is None


def test_files_of_the_user_s_in_the_state_folder_stay(tmp_path):
    state = folder(tmp_path)
    state.begin(0, {}, {}, MODEL)
    (tmp_path / "state" / "notes.txt").write_text("mine")
    (tmp_path / "state" / "model.safetensors").write_text("mine")
    state.begin(1, {}, {}, MODEL)
    state.finish()
    left = sorted(path.name for path in (tmp_path / "state").iterdir())
    assert left == ["model.safetensors", "notes.txt", "state.json"]


def test_a_finished_run_has_no_state_to_go_on_from(tmp_path):
    state = folder(tmp_path)
    state.begin(0, {}, {}, MODEL)
    assert not state.finished()
    state.finish()
    assert state.finished()
    assert folder(tmp_path).load() is None
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["state.json"]


def epochs(tmp_path, *, complete: bool) -> None:
    """A state after two epochs, the second perhaps in the middle of the third."""
    state = folder(tmp_path)
    state.begin(0, {"frozen": {}}, {"progress": {"epoch": 0, "steps": 0}}, MODEL)
    for epoch in (1, 2):
        changed = {name: tensor + epoch for name, tensor in MODEL.items() if complete or name == "b"}
        state.save({"progress": {"epoch": epoch, "steps": epoch}}, changed, steps=epoch, epoch_end=True)


def flip(path) -> None:
    """One kilobyte in the middle."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1024] = bytes(value ^ 16 for value in content[middle : middle + 1024])
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [flip, lambda path: path.write_bytes(path.read_bytes()[:-5]), lambda path: path.unlink()]
)
@pytest.mark.parametrize("name", ["step-0-2.safetensors", "state.json"])
def test_a_damaged_state_falls_back_to_the_one_before(tmp_path, name, damage):
    epochs(tmp_path, complete=False)
    damage(tmp_path / "state" / name)
    saved = folder(tmp_path).load()
    assert saved.training["progress"]["epoch"] == 1
    assert saved.model["b"].tolist() == [2.0, 2.0]
    assert [name in text for text in saved.damage] == [True]
    assert folder(tmp_path).last_epoch().training["progress"]["epoch"] == 1


def test_a_run_that_fell_back_keeps_the_sound_state_until_there_are_two(tmp_path):
    epochs(tmp_path, complete=False)
    flip(tmp_path / "state" / "step-0-2.safetensors")
    state = folder(tmp_path)
    state.load()
    state.save({"progress": {"epoch": 2, "steps": 2}}, {"b": torch.zeros(2)}, steps=2, epoch_end=True)
    assert folder(tmp_path).load().damage == []
    flip(tmp_path / "state" / "step-0-2.safetensors")
    assert folder(tmp_path).load().training["progress"]["epoch"] == 1


def test_a_damaged_base_matters_only_where_something_is_frozen(tmp_path):
    epochs(tmp_path, complete=True)
    flip(tmp_path / "state" / "base-0.safetensors")
    saved = folder(tmp_path).load()
    assert (saved.training["progress"]["epoch"], saved.damage, saved.model["a"].tolist()) == (2, [], [2, 3, 4, 5])
    epochs(tmp_path, complete=False)
    flip(tmp_path / "state" / "base-0.safetensors")
    with pytest.raises(WorkError, match=r"base-0.safetensors is damaged: its bytes .*\(begin anew.* --overwrite"):
        folder(tmp_path).load()


def test_damage_is_said(tmp_path):
    folder(tmp_path).begin(0, {}, {}, MODEL)
    path = tmp_path / "state" / "state.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "step": 1}))
    with pytest.raises(WorkError, match=r"state.json is damaged: its bytes are not those"):
        folder(tmp_path).load()
    path.write_text(json.dumps({**document, "format": 99}))
    with pytest.raises(InputError, match="another version of zoo"):
        folder(tmp_path).load()
    for text in ("{", "[]", "[" * 100_000, ""):
        path.write_text(text)
        with pytest.raises(WorkError, match=r"state.json is damaged"):
            folder(tmp_path).load()
    outside = {**document["latest"], "file": "../../etc/passwd"}  # names lie in the folder, whatever they say
    state_module._write_document(path, {**document, "latest": outside, "epoch_end": outside})
    with pytest.raises(WorkError, match=r"cannot be read: .* names no file there: it contains '/'"):
        folder(tmp_path).load()


OPTIMIZERS = [
    {"SGD": {"momentum": 0.9}},
    "AdamW",
    {"Adam": {"amsgrad": True}},
    {"AdamW": {"foreach": True}},
    {"RMSprop": {"momentum": 0.5, "centered": True}},
    "Adagrad",
    "NAdam",
    "lamb",
    "lion",
    "adopt",
]


def through_json(value):
    tensors: dict[str, torch.Tensor] = {}
    packed = json.loads(json.dumps(pack(value, "state", tensors)))
    return unpack(packed, {name: tensor.clone() for name, tensor in tensors.items()})


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, "x"], "b": {"c": (1, (2, [3]))}, 3: {"d": 1e-300}},
        {"$tensor": 1, "$x": {"y": 2}},
        [float("inf"), 0.1 + 0.2],
        {},
    ],
)
def test_plain_values_come_back_as_they_were(value):
    assert through_json(value) == value
    assert type(through_json((1, [2]))) is tuple


def test_tensors_come_back_by_name():
    tensors: dict[str, torch.Tensor] = {}
    value = {"a": [torch.arange(3), {"b": torch.eye(2, dtype=torch.bfloat16)}]}
    packed = pack(value, "state", tensors)
    assert list(tensors) == ["state.a.0", "state.a.1.b"]
    assert torch.equal(unpack(packed, tensors)["a"][1]["b"], torch.eye(2, dtype=torch.bfloat16))
    with pytest.raises(WorkError, match=r"lacks the tensor state\.a\.0"):
        unpack(packed, {})


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(WorkError, match=r"state\.x is a function"):
        pack({"x": max.__class__ and (lambda: 0)}, "state", {})


def train_steps(model: nn.Module, optimizer, count: int) -> None:
    for index in range(count):
        optimizer.zero_grad()
        model(torch.full((5, 4), float(index + 1))).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("given", OPTIMIZERS, ids=str)
def test_a_restored_optimizer_goes_on_bit_for_bit(given):
    def fresh():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
        return model, make_optimizer(model, Train(optimizer=given, lr=0.01))

    model, optimizer = fresh()
    train_steps(model, optimizer, 3)
    kept = through_json(optimizer.state_dict())
    again, other = fresh()
    again.load_state_dict(model.state_dict())
    other.load_state_dict(kept)
    train_steps(model, optimizer, 4)
    train_steps(again, other, 4)
    for mine, theirs in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_generators_go_on_where_they_were():
    import random

    import numpy as np

    seed_everything(3)
    random.gauss(0, 1), np.random.randn(), torch.randn(3)
    kept = through_json(generator_states())
    expected = [random.random(), random.gauss(0, 1), np.random.randn(), torch.randn(2).tolist()]
    seed_everything(4)
    restore_generators(kept)
    assert [random.random(), random.gauss(0, 1), np.random.randn(), torch.randn(2).tolist()] == expected
    seed_everything(3)
    first = random.random(), np.random.rand(), torch.rand(1).item()
    seed_everything(3)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == first
