"""Small nets and small data for the loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from zoo.data.batches import Batch, Order
from zoo.steps.train import Train
from zoo.training.callbacks import Listener
from zoo.training.job import Job
from zoo.training.state import StateFolder
from zoo.training.trainer import Trainer

CPU = torch.device("cpu")


class TensorBatches:
    """Rows of two tensors as batches, in the order that zoo's own batches have."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor, batch_size: int, *, shuffle: bool) -> None:
        self.inputs, self.targets = inputs, targets
        self.order = Order(len(inputs), batch_size, seed=0, shuffle=shuffle, rank=0, world=1)

    def __len__(self) -> int:
        return len(self.order)

    def size(self, index: int) -> int:
        return self.order.size(index)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for positions in self.order.epoch(epoch, start):
            chosen = torch.as_tensor(positions)
            yield Batch(self.inputs[chosen], self.targets[chosen], chosen)

    def close(self) -> None:
        self.closed = True


def net() -> nn.Module:
    """Batch norm and dropout: whatever has a state of its own."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def blobs(samples: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    """Three classes that a line parts."""
    generator = torch.Generator().manual_seed(2)
    targets = torch.arange(samples) % 3
    centres = torch.randn(3, 6, generator=generator) * 2
    return centres[targets] + torch.randn(samples, 6, generator=generator), targets


@pytest.fixture
def make_trainer(tmp_path: Path):
    def make(model: nn.Module | None = None, *, batch_size=16, listener=None, values=None, **options) -> Trainer:
        chosen = Train(**{"epochs": 2, "lr": 0.05, "optimizer": "SGD", "scheduler": None} | options)
        inputs, targets = blobs()
        job = Job(
            model=model or net(),
            train=TensorBatches(inputs, targets, batch_size, shuffle=True),
            validation=TensorBatches(inputs[:20], targets[:20], 7, shuffle=False),
            options=chosen,
            task="classification",
            outputs=3,
            device=CPU,
            **(values or {}),
        )
        return Trainer(
            job, StateFolder(tmp_path / "state", {"steps": [{"train": chosen.model_dump()}]}), listener or Listener()
        )

    return make
