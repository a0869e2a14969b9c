"""Choosing a setting by timing: nothing is left changed, what is too far off is out, a choice is cached."""

import itertools

import pytest
import timm
import torch
from torch import nn

from zoo.training import autotune as module_under_test
from zoo.training.autotune import Setting, candidates, choose_setting
from zoo.training.devices import bfloat16_is_native

CPU = torch.device("cpu")
needs_bfloat16 = pytest.mark.skipif(not bfloat16_is_native(CPU), reason="this processor has no bfloat16 of its own")


@pytest.fixture
def model():
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=10).train()


def run(model, root, **arguments):
    inputs = arguments.pop("inputs", (torch.randn(20, 3, 32, 32),))
    targets = torch.arange(20) % 10
    arguments = {"samples": 10**6, "root": root} | arguments
    return choose_setting(model, inputs, targets, nn.functional.cross_entropy, **arguments)


def test_chooses_the_fastest_timed_setting(model, tmp_path):
    found = run(model, tmp_path)
    assert found.timings[str(found.setting)] <= module_under_test.TIE * min(found.timings.values())
    assert len(found.timings) == len(candidates(model, CPU, "auto"))
    layout = torch.channels_last if found.setting.channels_last else torch.contiguous_format
    assert next(p for p in model.parameters() if p.ndim == 4 and p.shape[1] > 1).is_contiguous(memory_format=layout)


def test_a_transformers_patches_do_not_ask_for_a_layout():
    layouts = {setting.channels_last for setting in candidates(timm.create_model("test_vit"), CPU, "auto")}
    assert layouts == {False}


def test_model_and_generator_are_as_before(model, tmp_path):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    inputs = (torch.randn(4, 3, 32, 32),)
    state = torch.get_rng_state()
    choose_setting(model, inputs, torch.arange(4), nn.functional.cross_entropy, samples=10**6, root=tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.fixture
def calm(monkeypatch):
    """Timings that agree, however busy the machine is: a choice is then cached."""
    monkeypatch.setattr(module_under_test, "SAME", 100.0)


@pytest.mark.usefixtures("calm")
def test_choice_is_cached_for_the_same_model_only(model, tmp_path):
    first = run(model, tmp_path)
    again = run(model, tmp_path)
    assert again.cached
    assert again.setting == first.setting
    assert not run(timm.create_model("test_resnet", num_classes=11).train(), tmp_path).cached


@pytest.mark.usefixtures("calm")
def test_damaged_cache_is_ignored(model, tmp_path):
    run(model, tmp_path)
    next((tmp_path / "timings").iterdir()).write_text('{"precision": 7')
    assert not run(model, tmp_path).cached


def test_fixed_precision_leaves_only_the_layout_open(model, tmp_path):
    found = run(model, tmp_path, precision="float32")
    assert set(found.timings) == {"float32", "float32 channels-last"}


@needs_bfloat16
def test_setting_beyond_the_tolerance_is_out(tmp_path, monkeypatch):
    monkeypatch.setattr(module_under_test, "OUTPUT_TOLERANCE", 1e-7)
    found = run(nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), tmp_path)
    assert found.setting == Setting("float32")
    assert list(found.timings) == ["float32"]


@needs_bfloat16
def test_a_busy_moment_does_not_decide(model, tmp_path, monkeypatch):
    """Every candidate is slowed for one round or less: the one that is fastest when left alone wins."""
    seconds = {"float32": 4.0, "float32 channels-last": 3.0, "bfloat16": 2.0, "bfloat16 channels-last": 1.0}
    slowed, steps = {3, 5, 8}, []  # a first step of each, then rounds of those that are left
    step = module_under_test._step

    def timed(*arguments):
        *_, setting = arguments
        steps.append(setting)
        return step(*arguments)[0], seconds[str(setting)] * (2.5 if len(steps) - 1 in slowed else 1)

    monkeypatch.setattr(module_under_test, "_step", timed)
    found = run(model, tmp_path)
    assert str(found.setting) == "bfloat16 channels-last"
    assert found.timings["bfloat16 channels-last"] == 1.0


@needs_bfloat16
def test_a_busy_machine_is_timed_until_steps_repeat(model, tmp_path, monkeypatch):
    """Other programs slow every step but a few, each by something else; on a quiet machine the same ends sooner."""
    quiet = {"float32": 4.0, "float32 channels-last": 1.0, "bfloat16": 1.2, "bfloat16 channels-last": 4.0}
    slowed = itertools.cycle([1.6, 1.8, 1.3, 1.5, 1.7, 1.0, 1.4])
    steps = []
    _pretend(monkeypatch, lambda count, setting: steps.append(setting) or quiet[str(setting)] * next(slowed))
    assert str(run(model, tmp_path / "busy").setting) == "float32 channels-last"
    busy = len(steps)
    steps.clear()
    slowed = itertools.cycle(1 + 0.1 * step for step in range(50))
    wild = run(model, tmp_path / "wild")
    assert not wild.settled
    assert "on a busy machine, not kept for later runs" in str(wild)
    assert not run(model, tmp_path / "wild").cached
    steps.clear()
    slowed = itertools.repeat(1.0)
    assert str(run(model, tmp_path / "quiet").setting) == "float32 channels-last"
    assert len(steps) < busy


@needs_bfloat16
def test_of_two_as_fast_as_each_other_the_plainer_wins(model, tmp_path, monkeypatch):
    seconds = {"float32": 1.02, "float32 channels-last": 1.5, "bfloat16": 1.01, "bfloat16 channels-last": 1.0}
    _pretend(monkeypatch, lambda count, setting: seconds[str(setting)])
    assert run(model, tmp_path).setting == Setting("float32")


@needs_bfloat16
def test_what_is_fixed_a_step_does_not_decide(model, tmp_path, monkeypatch):
    """bfloat16's casts of the weights cost the same for 8 samples and 20: a short step gets more samples."""
    per_sample = {"float32": 0.005, "bfloat16": 0.001}
    fixed = {"float32": 0.0, "bfloat16": 0.06}
    counts = []

    def seconds(count, setting):
        counts.append(count)
        return fixed[setting.precision] + count * per_sample[setting.precision] + 0.02 * setting.channels_last

    _pretend(monkeypatch, seconds)
    assert run(model, tmp_path).setting == Setting("bfloat16")
    assert counts[0] == 8
    assert counts[-1] == 20  # the entire batch: 30 would take `LONG_ENOUGH`


def _pretend(monkeypatch, seconds):
    """Each setting takes its first step for the outputs, and what `seconds` says each time."""
    step, outputs = module_under_test._step, {}

    def timed(*arguments):
        *_, count, setting = arguments
        if (count, setting) not in outputs:
            outputs[count, setting] = step(*arguments)[0]
        return outputs[count, setting], seconds(count, setting)

    monkeypatch.setattr(module_under_test, "_step", timed)


def test_a_short_stage_is_not_worth_timing(model, tmp_path):
    assert run(model, tmp_path, samples=20) is None
    assert not (tmp_path / "timings").exists()
    assert run(model, tmp_path, samples=10**6).timings


def test_few_samples_are_not_worth_timing_however_slow_they_are(model, tmp_path, monkeypatch):
    """A search of 12 steps of 8 samples in front of a training on 100 would take about as long as all of it."""
    _pretend(monkeypatch, lambda count, setting: 60.0)
    searched = len(candidates(model, CPU, "auto")) * 3 * 8
    assert run(model, tmp_path, samples=2 * searched - 1) is None
    assert run(model, tmp_path, samples=2 * searched).timings


def test_features_in_bfloat16_are_timed_in_a_float32_network_too(model, tmp_path):
    found = run(model, tmp_path, inputs=(torch.randn(20, 3, 32, 32).bfloat16(),))
    assert found.setting.precision in {"float32", "bfloat16"}
