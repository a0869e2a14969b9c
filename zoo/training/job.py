"""What a train step trains, and its progress."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from zoo.data.batches import Batches, Inputs
from zoo.errors import WorkError
from zoo.model.freezing import FrozenPart
from zoo.recipe.options import Named
from zoo.training.class_weights import WeightedLoss
from zoo.training.trunk.engine import EngineSettings

if TYPE_CHECKING:
    from zoo.steps.train import Train


@dataclass
class Job:
    """Model, batches and options of one train step.

    `network` is called on the inputs: the model itself where it is None; or, with a feature cache, the part of it after
    the frozen backbone, whose outputs the batches contain. `validation_network` takes its place in evaluation.
    `feature_cache` is the report's record of how the frozen backbone is run, `mixing` that of how samples are mixed
    (alpha by name, and `of` features where these are), `setting` says how precision and layout were chosen, `label`
    which train step it is. `moments` are the optimizer's state at the end of an earlier train step, by parameter, where
    this one goes on with it. `weighted` is its loss with class weights, `thresholds` are those that labels of a
    multilabel network are counted by, `classes` the names of the outputs. `larger` is how many times these samples the
    training has, where it is only tried out on a few.
    """

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
    feature_cache: dict[str, Any] = field(default_factory=dict)
    mixing: dict[str, Any] = field(default_factory=dict)
    setting: str = ""
    label: str = "train"
    larger: float = 1.0
    moments: Mapping[Tensor, dict[str, Any]] = field(default_factory=dict)
    weighted: WeightedLoss | None = None
    thresholds: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def loss(self) -> Named:
        """What is minimised, with its class weights."""
        return self.weighted.loss if self.weighted else self.options.loss

    @property
    def approximate(self) -> str:
        """How the epochs are measured where that is not exactly how the finished model is; empty where it is.

        The loop measures with what it trains with: in lower precision or another memory layout, on cached features of a
        backbone whose batch norms are fused.
        """
        ways = [approximation(self.feature_cache.get("engine", ""))]
        ways += [self.precision if self.precision != "float32" else ""]
        ways += ["channels-last" if self.memory_format == torch.channels_last else ""]
        return ", ".join(filter(None, ways))


def approximation(engine: str) -> str:
    """What is approximate in features that an engine of these settings computed; empty for the model's own."""
    return f"frozen backbone in {engine}" if engine not in ("", str(EngineSettings())) else ""


@dataclass
class Progress:
    """Complete epochs, batches of the current one, optimizer steps, seconds, a record an epoch, the best epoch.

    `digests` are those of the state as the train step began and after each epoch; `stopped` is why a callback ended the
    training early. A batch is trained in `parts` since memory ran out, and validated in `validation_parts`;
    `out_of_memory` says at which steps it did. `phases` are those of gradual unfreezing that are over, each with its
    proof; `carried` is how many tensors began with moments of an earlier train step.
    `plan` are the [optimizer step, steps in all] pairs of `zoo.training.time_budget`, `spent` the seconds of the time
    that the train step may take.
    """

    epoch: int = 0
    batch: int = 0
    steps: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None
    digests: list[str] = field(default_factory=list)
    stopped: str = ""
    parts: int = 1
    validation_parts: int = 1
    out_of_memory: list[dict[str, Any]] = field(default_factory=list)
    phases: list[dict[str, Any]] = field(default_factory=list)
    carried: int = 0
    plan: list[list[int]] = field(default_factory=list)
    spent: float = 0.0


def arranged(inputs: Inputs, job: Job) -> tuple[Tensor, ...]:
    """A batch's inputs as the network's arguments, in the job's memory layout.

    A frozen backbone may run in bfloat16; a network that trains on its features in float32 gets float32.
    """
    tensors = inputs if isinstance(inputs, tuple) else (inputs,)
    if job.precision == "float32":
        tensors = tuple(tensor.float() if tensor.is_floating_point() else tensor for tensor in tensors)
    return tuple(t.contiguous(memory_format=job.memory_format) if t.ndim == 4 else t for t in tensors)


def unfrozen_tensors(model: nn.Module, frozen: FrozenPart) -> dict[str, Tensor]:
    """The tensors of the state dict (not copies) that training may change: all but the frozen ones."""
    fixed = {*frozen.parameters, *frozen.buffers}
    return {name: tensor for name, tensor in model.state_dict().items() if name not in fixed}


@torch.no_grad()
def fill(live: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values into the live tensors of the same names. Raises WorkError where a name or shape does not match."""
    for name, value in values.items():
        if name not in live or live[name].shape != value.shape:
            raise WorkError(f"the resume state does not fit the model at {name}", suggestion="run without --resume")
        live[name].copy_(value)


@contextmanager
def put_in(live: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> Iterator[None]:
    """The live tensors have other values inside the block, and their own again afterwards."""
    own = {name: tensor.detach().clone() for name, tensor in live.items()}
    fill(live, values)
    try:
        yield
    finally:
        fill(live, own)
