"""Batches in parts: what memory that runs out changes, and what it leaves as it is."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from listeners import Killing, Notes
from zoo.errors import WorkError
from zoo.training import pace
from zoo.training import trainer as trainer_module
from zoo.training.micro_batches import InParts


class Small(nn.Module):
    """A network that runs out of memory above so many samples, in training, in validation, or after so many calls."""

    def __init__(self, most: int = 4, *, validation: int = 1000, after: int = 0, norm: bool = True) -> None:
        super().__init__()
        torch.manual_seed(1)
        between = nn.BatchNorm1d(16) if norm else nn.Identity()
        self.body = nn.Sequential(nn.Linear(6, 16), between, nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(16, 3)
        self.most, self.validation, self.after, self.calls = most, validation, after, 0

    def forward(self, inputs):
        features = self.body(inputs)  # running statistics and random numbers are used before memory runs out
        self.calls += self.training
        most = self.most if self.training else self.validation
        if len(inputs) > most and (not self.training or self.calls > self.after):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        return self.head(features)


class Counting(Small):
    """Remembers how many samples each training pass that went through had."""

    def __init__(self, most: int = 4) -> None:
        super().__init__(most)
        self.sizes: list[int] = []

    def forward(self, inputs):
        answer = super().forward(inputs)
        self.sizes += [len(inputs)] if self.training else []
        return answer


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def equal(first, second) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(first, second, strict=True))


def run(trainer) -> nn.Module:
    torch.manual_seed(7)
    trainer.begin(0, {})
    trainer.run()
    return trainer.job.model


def history(trainer):
    varying = {"seconds": 0, "images_per_second": 0, "peak_memory": 0}
    return [record | varying for record in trainer.progress.history]


def test_the_same_samples_in_each_step_and_the_same_learning(make_trainer):
    """Without what depends on the batch (dropout, batch norm) the weights are those of entire batches."""
    notes = Notes()
    halved = make_trainer(Small(norm=False).eval(), listener=notes)
    plain = make_trainer(Small(1000, norm=False))
    for trainer in (halved, plain):
        trainer.job.model.body[3].p = 0.0
    mine, theirs = weights(run(halved)), weights(run(plain))
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(mine, theirs, strict=True))
    assert halved.progress.steps == plain.progress.steps == 8
    assert halved.progress.out_of_memory == [
        {"step": 1, "parts": 2, "samples": 8},
        {"step": 1, "parts": 4, "samples": 4},
    ]
    assert [note.partition(" is trained")[2].partition(" from")[0] for note in notes.notes] == [
        " in 2 parts of 8",
        " in 4 parts of 4",
    ]
    assert halved.progress.history[-1]["loss"] == pytest.approx(plain.progress.history[-1]["loss"], rel=1e-5)


def test_what_failed_leaves_no_trace(make_trainer):
    """Running statistics, random numbers and sums are those of a run that knew the parts from its beginning."""
    found = make_trainer(Small())
    known = make_trainer(Small())
    known.progress.parts = 4
    assert equal(weights(run(found)), weights(run(known)))
    assert history(found) == history(known)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_step_in_the_middle_begins_anew(make_trainer, accumulate):
    """Also where some of its accumulated batches had been through."""
    late = Small(after=5)
    trainer = make_trainer(late, accumulate=accumulate, epochs=3)
    run(trainer)
    (first, _) = trainer.progress.out_of_memory
    assert first["step"] == {1: 6, 3: 3}[accumulate]
    assert [record["steps"] for record in trainer.progress.history] == [4, 8, 12] if accumulate == 1 else [2, 4, 6]
    # 60 samples an epoch, all of them in the loss, once
    assert all(record["loss"] < 2 for record in trainer.progress.history)


@pytest.mark.parametrize("step", [3, 5, 6, 9])
@pytest.mark.parametrize("every", [0.0, 600.0])
def test_resumed_bit_for_bit(make_trainer, monkeypatch, step, every):
    """Also a run that is killed right after memory ran out, at the beginning of an epoch: its state remembers."""
    monkeypatch.setattr(trainer_module, "SAVE_SECONDS", every)
    options = {"epochs": 3, "optimizer": {"SGD": {"momentum": 0.9}}}
    uninterrupted = make_trainer(Small(after=4), **options)
    expected = weights(run(uninterrupted))
    with pytest.raises(KeyboardInterrupt):
        run(make_trainer(Small(after=4), **options, listener=Killing(step, error=KeyboardInterrupt())))
    torch.manual_seed(99)
    resumed = make_trainer(Small(after=4), **options)
    resumed.restore(resumed.state.load())
    assert resumed.progress.parts == (4 if step >= 5 else 1)
    resumed.job.model.calls = resumed.progress.steps
    resumed.run()
    assert equal(weights(resumed.job.model), expected)
    assert history(resumed) == history(uninterrupted)
    assert resumed.progress.out_of_memory == uninterrupted.progress.out_of_memory


def test_memory_that_runs_out_while_speed_is_measured_is_halved_too(make_trainer):
    """And leaves no trace: training finds its parts itself, says and saves them."""
    network = Counting()
    trainer = make_trainer(network)
    before = weights(network)
    pace.measure_pace(trainer, seconds=0.0)
    assert set(network.sizes) == {4}
    assert (trainer.progress.parts, trainer.progress.out_of_memory) == (1, [])
    assert equal(weights(network), before)
    limited = run(make_trainer(Small()))
    assert equal(weights(run(trainer)), weights(limited))


def test_the_speed_of_a_run_that_goes_on_is_measured_in_its_parts(make_trainer):
    network = Counting(2)
    trainer = make_trainer(network)
    trainer.progress.parts = 8
    pace.measure_pace(trainer, seconds=0.0)
    assert set(network.sizes) == {2}
    assert network.calls == len(network.sizes)  # none ran out
    assert trainer.progress.parts == 8


@pytest.mark.parametrize(("norm", "parts"), [(False, 16), (True, 8)])
def test_it_ends_where_nothing_is_left_to_halve(make_trainer, norm, parts):
    """At one sample; at two where batch norm needs them."""
    trainer = make_trainer(Small(0, norm=norm))
    with pytest.raises(WorkError, match=r"out of memory while train, step 1, on inputs \[16, 6\].*smaller batch_size"):
        run(trainer)
    assert trainer.progress.parts == parts


def test_no_part_is_a_single_sample_where_two_are_needed(make_trainer):
    """60 samples in batches of 14: the last one has 4, and 14 in parts of at most 4 are 4, 4, 3 and 3."""
    model, sizes = Small(4), []
    model.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])) if module.training else None)
    run(make_trainer(model, batch_size=14, epochs=1))
    assert sizes == [14, 7, *([4, 4, 3, 3] * 4), 4]


def test_memory_that_runs_out_in_the_optimizer_is_not_the_batch(make_trainer):
    trainer = make_trainer(Small(1000))

    def full():
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.optimizer.step = full
    with pytest.raises(WorkError, match="out of memory while train, step 1"):
        run(trainer)
    assert trainer.progress.parts == 1


def test_validation_in_parts_measures_the_same(make_trainer):
    notes = Notes()
    small, plain = make_trainer(Small(1000, validation=2), listener=notes), make_trainer(Small(1000))
    run(small)
    run(plain)
    for mine, theirs in zip(small.progress.history, plain.progress.history, strict=True):
        assert mine["validation"] == pytest.approx(theirs["validation"], rel=1e-6)
    assert small.progress.validation_parts == 4  # batches of 7
    assert [note for note in notes.notes if "validation" in note] == [
        "train: out of memory in validation: its batches are in 2 parts now",
        "train: out of memory in validation: its batches are in 4 parts now",
    ]
    with pytest.raises(WorkError, match="out of memory while measuring"):
        run(make_trainer(Small(1000, validation=0)))


def test_memory_is_released_in_between(make_trainer):
    """What the failed pass kept is gone when the smaller one begins."""
    import weakref

    alive = []

    class Keeping(Small):
        def forward(self, inputs):
            kept = torch.ones(10)
            assert not any(reference() is not None for reference in alive)
            alive.append(weakref.ref(kept))
            answer = super().forward(inputs)
            del kept
            return answer

    run(make_trainer(Keeping(), epochs=1))
    assert len(alive) > 4


def test_a_forward_pass_in_parts():
    calls = []

    def forward(inputs):
        first, second = inputs
        calls.append(len(first))
        if len(first) > 3:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes")
        return first + second

    halved = []
    parts = InParts(forward, halved=halved.append)
    inputs = (torch.arange(10), torch.arange(10) * 2)
    assert torch.equal(parts(inputs), torch.arange(10) * 3)
    assert (halved, calls) == ([2, 4], [10, 5, 3, 3, 2, 2])
    with pytest.raises(RuntimeError, match="something else"):
        InParts(lambda inputs: (_ for _ in ()).throw(RuntimeError("something else")))(torch.ones(4))
    assert list(itertools.chain(halved)) == [2, 4]
