"""`batch_size: auto`: by trial, or by counting, with everything as before."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import yaml
from torch import nn

import zoo
from listeners import Killed, Killing, Notes
from zoo.data.batches import Batch
from zoo.training import batch_size as module
from zoo.training.batch_size import choose_batch_size, counted, kept_for_backward, largest, repeated, tried
from zoo.training.callbacks import Listener


class Limited(nn.Module):
    def __init__(self, most: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        self.most = most

    def forward(self, inputs):
        answer = self.body(inputs)
        if len(inputs) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return answer


@pytest.mark.parametrize(
    ("fits", "most", "found"), [(37, 256, 32), (64, 256, 64), (999, 100, 64), (1, 50, 2), (9, 1, 1)]
)
def test_the_largest_power_of_two(fits, most, found):
    asked = []
    assert largest(lambda size: asked.append(size) or size <= fits, most) == found
    assert max(asked, default=0) <= most


def test_trials_leave_everything_as_it_was(make_trainer):
    job = make_trainer(Limited(40), optimizer="AdamW").job
    batch = next(job.train.epoch(0))
    job.model.body[0].weight.grad = torch.ones_like(job.model.body[0].weight)
    before = {name: tensor.clone() for name, tensor in job.model.state_dict().items()}
    torch.manual_seed(3)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert largest(tried(job, batch), 256) == 32
    assert torch.equal(torch.rand(1), drawn)
    assert all(torch.equal(tensor, before[name]) for name, tensor in job.model.state_dict().items())
    assert torch.equal(job.model.body[0].weight.grad, torch.ones(16, 6))


def test_another_error_is_no_lack_of_memory(make_trainer):
    job = make_trainer(nn.Linear(5, 3)).job
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        tried(job, next(job.train.epoch(0)))(4)


def test_on_the_cpu_memory_is_counted(make_trainer, monkeypatch):
    job = make_trainer(Limited(4)).job  # larger ones are not run
    batch = next(job.train.epoch(0))
    # input, batch norm's input and two statistics, ReLU's and dropout's output and mask, log-softmax and targets
    each = kept_for_backward(job.model, lambda: module._backward(job, *repeated(batch, 4))) / 4
    assert 4 * (6 + 16 + 16 + 3) <= each <= 4 * (6 + 5 * 16 + 3 * 3 + 8)
    for free, found in ((4 * each * 70, 64), (4 * each * 63, 32), (0, 2)):
        monkeypatch.setattr(module.psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        assert largest(counted(job, batch), 256) == found


@pytest.mark.parametrize(
    ("free", "samples", "found", "why"),
    [
        (10**9, 60, 32, "the training part has 60 samples"),
        (10**9, 9999, 256, "no larger one is tried on a CPU"),
        (10**4, 9999, None, "needs too much memory"),
    ],
)
def test_it_says_why_not_more(make_trainer, monkeypatch, free, samples, found, why):
    monkeypatch.setattr(module.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    chosen = choose_batch_size(make_trainer().job, samples)
    assert why in str(chosen)
    assert chosen.samples == (found or chosen.samples)


def test_samples_are_repeated():
    inputs, targets = repeated(Batch((torch.arange(3), torch.arange(3) * 2), torch.arange(3), torch.arange(3)), 5)
    assert [tensor.tolist() for tensor in (*inputs, targets)] == [[0, 1, 2, 0, 1], [0, 2, 4, 0, 2], [0, 1, 2, 0, 1]]


def test_it_is_written_down_and_resumed_as_it_was(tmp_path, monkeypatch):
    """A machine with less memory goes on with the batch size that the run began with."""
    recipe = {
        "model": "tutorial/small_mlp",
        "data": "tutorial/rows",
        "steps": [{"train": {"epochs": 2, "batch_size": "auto"}}],
        "precision": "float32",
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    listener = Notes()
    whole = zoo.finetune(tmp_path / "recipe.yaml", output=tmp_path / "whole", progress=listener)
    size = whole.report["stages"][0]["batch_size"]
    assert any(f"batch_size: {size} (auto:" in note and "lr is as it was" in note for note in listener.notes)
    left = yaml.safe_load((tmp_path / "whole/recipe.yaml").read_text())
    assert left["steps"][0]["train"]["batch_size"] == size
    with pytest.raises(Killed):
        zoo.finetune(tmp_path / "recipe.yaml", output=tmp_path / "run", progress=Killing(epoch=1))
    monkeypatch.setattr(module, "MOST_ON_CPU", 2)
    run = zoo.finetune(tmp_path / "recipe.yaml", output=tmp_path / "run", resume=True, progress=Listener())
    assert run.report["stages"][0]["batch_size"] == size
    assert run.checkpoint.read_bytes()[-1000:] == whole.checkpoint.read_bytes()[-1000:]
