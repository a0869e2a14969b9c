"""What a train step works on and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.data.batches import Batches, Inputs
from zoo.errors import WorkError
from zoo.model.freezing import FrozenPart

if TYPE_CHECKING:
    from zoo.steps.train import Train


@dataclass
class Job:
    """One train step. `network` is what is called on the inputs: the model itself where it is None, or the part of it
    behind a trunk whose outputs the batches hold, with `validation_network` in its place for measuring. `trunk` says
    how that trunk is run, `setting` how precision and layout came about, `label` which train step it is."""

    model: nn.Module
    train: Batches
    validation: Batches
    options: Train
    task: str
    outputs: int
    device: torch.device
    precision: str = "float32"
    memory_format: torch.memory_format = torch.contiguous_format
    frozen: FrozenPart = field(default_factory=FrozenPart)
    network: nn.Module | None = None
    validation_network: nn.Module | None = None
    trunk: dict[str, Any] = field(default_factory=dict)
    setting: str = ""
    label: str = "train"


@dataclass
class Progress:
    """Whole epochs, batches of the present one, optimizer steps, seconds, a record an epoch, and the best epoch."""

    epoch: int = 0
    batch: int = 0
    steps: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None


def arranged(inputs: Inputs, job: Job) -> tuple[Tensor, ...]:
    """A batch's inputs as the network's arguments, in the job's memory layout.

    A trunk may run in bfloat16; what trains behind it in float32 gets float32.
    """
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    if job.precision == "float32":
        tensors = tuple(tensor.float() if tensor.is_floating_point() else tensor for tensor in tensors)
    return tuple(t.contiguous(memory_format=job.memory_format) if t.ndim == 4 else t for t in tensors)


def moving_tensors(model: nn.Module, frozen: FrozenPart) -> dict[str, Tensor]:
    """The live tensors of the state dict that may change in training: all but the frozen ones."""
    still = {*frozen.parameters, *frozen.buffers}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in still}


@torch.no_grad()
def fill(live: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copies values into live tensors of the same names. Raises WorkError for names and shapes that are not there."""
    for name, value in values.items():
        if name not in live or live[name].shape != value.shape:
            raise WorkError(f"training state does not fit the model at {name}", suggestion="run without --resume")
        live[name].copy_(value)
