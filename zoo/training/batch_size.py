"""`batch_size: auto`: the largest power of two whose training step fits into memory, and no more than is of use.

On a GPU each size is tried, from the smallest on: forward, backward and a step of the optimizer, on copies of real
samples. On a CPU such a trial would take minutes, and a process that takes too much memory is ended, not told: there
what a pass over a few samples keeps for its backward pass is counted, and compared with the memory that is free.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from accelerate.utils.memory import clear_device_cache
from torch import Tensor, nn

from zoo.data.batches import Batch, Inputs
from zoo.errors import is_out_of_memory
from zoo.model.gradient_checkpointing import checkpointed
from zoo.model.prediction import prediction
from zoo.model.undisturbed import undisturbed
from zoo.training.devices import generator_states, restore_generators
from zoo.training.job import fill
from zoo.training.losses import make_loss
from zoo.training.optimizers import make_optimizer

if TYPE_CHECKING:
    from zoo.training.job import Job

MOST, MOST_ON_CPU = 1024, 256  # samples of all processes: more do not train faster
EXAMPLE = 4  # samples that a pass on the CPU takes
GPU_SHARE = 0.9  # of its memory: averages, validation and fragments need some
CPU_SHARE = 0.5  # of what is free
WORKING_SPACE = 2.0  # times what is kept: gradients of activations, and what layers work in


@dataclass(frozen=True)
class BatchSize:
    """The samples of all processes together, and why not more."""

    samples: int
    reason: str

    def __str__(self) -> str:
        return f"batch_size: {self.samples} (auto: {self.reason})"


def choose_batch_size(job: Job, samples: int) -> BatchSize:
    """The batch size for a job whose batches are of any size; `samples` are those of the training part.

    Parameters, buffers, gradients and random generators are as before. All processes take the same: what fits into the
    memory of each.
    """
    processes = PartialState()
    world, on_cpu = processes.num_processes, job.device.type == "cpu"
    most, why = min(
        (MOST_ON_CPU if on_cpu else MOST, "no larger one is tried on a CPU" if on_cpu else "no larger one is tried"),
        (samples, f"the training part has {samples} samples"),
    )
    batch = next(job.train.epoch(0))
    job.train.close()
    fits = counted(job, batch) if on_cpu else tried(job, batch)
    own = largest(fits, most // world)
    size = min(gather_object([own])) if world > 1 else own
    found = BatchSize(size * world, why)
    return found if 2 * size * world > most else BatchSize(size * world, f"{2 * size * world} needs too much memory")


def largest(fits: Callable[[int], bool], most: int) -> int:
    """The largest power of two up to `most` that fits, as all smaller ones do; 2 (or 1) where none does."""
    size = 2 if most >= 2 else 1
    while 2 * size <= most and fits(2 * size):
        size *= 2
    return size


def tried(job: Job, batch: Batch) -> Callable[[int], bool]:
    """Whether a training step on so many samples goes through, and leaves room."""

    def fits(size: int) -> bool:
        before = {name: tensor.detach().cpu().clone() for name, tensor in job.model.state_dict().items()}
        generators = generator_states()
        if job.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(job.device)
        try:
            with undisturbed(job.model, training=True, buffers=True):
                _backward(job, *repeated(batch, size))
                make_optimizer(job.model, job.options).step()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return False
        finally:
            fill(job.model.state_dict(), before)
            restore_generators(generators)
            clear_device_cache(garbage_collection=True)
        if job.device.type != "cuda":
            return True
        total = torch.cuda.get_device_properties(job.device).total_memory
        return torch.cuda.max_memory_allocated(job.device) <= GPU_SHARE * total

    return fits


def counted(job: Job, batch: Batch) -> Callable[[int], bool]:
    """Whether what a step on so many samples keeps would fit into the memory that is free."""
    inputs, targets = repeated(batch, EXAMPLE)
    with undisturbed(job.model, training=True, buffers=True, attributes=True):
        each = kept_for_backward(job.model, lambda: _backward(job, inputs, targets)) / EXAMPLE
    free = psutil.virtual_memory().available / PartialState().num_processes
    return lambda size: WORKING_SPACE * each * size <= CPU_SHARE * free


def kept_for_backward(model: nn.Module, work: Callable[[], object]) -> int:
    """The bytes of all tensors that autograd keeps during `work` for the backward pass, other than parameters."""
    own = {tensor.untyped_storage().data_ptr() for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        work()
    return sum(kept.values())


def repeated(batch: Batch, size: int) -> tuple[Inputs, Tensor]:
    """Inputs and targets of so many samples: those of the batch, again and again."""
    places = torch.arange(size, device=batch.targets.device) % len(batch.targets)
    inputs = batch.inputs
    chosen: Any = tuple(t[places] for t in inputs) if isinstance(inputs, tuple) else inputs[places]
    return chosen, batch.targets[places]


def _backward(job: Job, inputs: Inputs, targets: Tensor) -> None:
    half = None if job.precision == "float32" else getattr(torch, job.precision)
    loss = make_loss(job.loss, job.task, device=job.device)
    with checkpointed(job.model) if job.options.gradient_checkpointing else nullcontext():
        with torch.autocast(job.device.type, dtype=half) if half else nullcontext():
            outputs = job.model(inputs)
            value = loss(prediction(outputs).float(), targets)
        value.backward()  # type: ignore[no-untyped-call]
