"""What is kept of a batch whose loss was not finite, so that it can be looked at and computed again.

The loop reads losses twice a second at most, since reading makes a GPU wait, and has gone on by then. But a batch is a
function of seed, epoch and position, and a state from in front of it is on the disk: the loop goes back to that state
and forward again to the batch. So nothing is kept, and nothing costs anything, while all is well.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from filelock import FileLock
from torch import Tensor, nn

from zoo.checkpoint.save import save_checkpoint
from zoo.data.batches import Batch
from zoo.errors import ZooError
from zoo.formats.save import save_tensors
from zoo.model.assembly import Assembly
from zoo.model.prediction import prediction
from zoo.training.devices import generator_states
from zoo.training.hooks import Callbacks
from zoo.training.job import arranged
from zoo.training.state import write_json

if TYPE_CHECKING:
    from zoo.training.trainer import Trainer

MOST_BYTES = 256 << 20  # of a batch's tensors; of a larger one the samples are named
MOST_SECONDS = 60.0  # of training again, from the state to the batch


RECORD, BATCH, WEIGHTS = "batch.json", "batch.safetensors", "model.safetensors"
LOCK = ".lock"  # of several processes one writes at a time


def keep_batch(folder: Path, trainer: Trainer, index: int, assembly: Assembly, names: list[str]) -> dict[str, Any]:
    """Write the batch `index` of the present epoch into the folder; the record of it that `batch.json` has.

    `names` are what the training samples are called, by position. Where the record has `weights`, `assembly` was saved
    as it was in front of the batch, and the model now is so; otherwise it is as the loop left it.
    """
    step = trainer.steps_before() + index // trainer.job.options.accumulate + 1
    folder.mkdir(exist_ok=True)
    with FileLock(folder / LOCK) if PartialState().num_processes > 1 else nullcontext():
        if _known(folder) <= step:  # of several processes the one whose batch came first keeps it
            return {"optimizer_step": _known(folder)}
        return _keep(folder, trainer, index, step, assembly, names)


def _keep(
    folder: Path, trainer: Trainer, index: int, step: int, assembly: Assembly, names: list[str]
) -> dict[str, Any]:
    job, progress, process = trainer.job, trainer.progress, PartialState()
    there = _go_to(trainer, index)
    if there:
        save_checkpoint(assembly, folder / WEIGHTS)
    generators = _generators() if there else {}
    batch = next(iter(job.train.epoch(progress.epoch, index)))
    found = _computed(trainer, batch) if there else {}
    inputs = batch.inputs if isinstance(batch.inputs, tuple) else (batch.inputs,)
    tensors = {"inputs" if len(inputs) == 1 else f"inputs.{n}": tensor for n, tensor in enumerate(inputs)}
    tensors |= {"targets": batch.targets, "positions": batch.positions, **generators}
    fits = sum(tensor.nbytes for tensor in tensors.values()) <= MOST_BYTES
    if fits:
        save_tensors({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / BATCH)
    document = {
        "label": job.label,
        "epoch": progress.epoch + 1,
        "batch": index + 1,
        "optimizer_step": step,
        "process": process.process_index,
        "processes": process.num_processes,
        "precision": job.precision,
        "inputs": "images" if job.network is None else "features of the frozen backbone",
        "tensors": BATCH if fits else None,
        "samples": [names[position] for position in batch.positions.tolist()],
        "weights": WEIGHTS if there else None,
        **found,
    }
    write_json(folder / RECORD, document)
    return document


def forget(folder: Path) -> None:
    """Remove what an earlier attempt has left there."""
    for name in (RECORD, BATCH, WEIGHTS, LOCK):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # not there, or something of the user's is in it
        folder.rmdir()


def _known(folder: Path) -> float:
    """The optimizer step of the batch that another process has kept."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        return int(json.loads((folder / RECORD).read_text(encoding="utf-8"))["optimizer_step"])
    return math.inf


def _generators() -> dict[str, Any]:
    states = generator_states()
    cuda = {f"generator.cuda.{n}": state for n, state in enumerate(states.get("cuda", ()))}
    return {"generator": states["torch"], **cuda}


def _go_to(trainer: Trainer, index: int) -> bool:
    """Train again from the last state up to the batch; False where that cannot be done, or would take long."""
    if PartialState().num_processes > 1:  # the others may be elsewhere by now
        return False
    with suppress(ZooError):
        saved, epoch = trainer.state.load(), trainer.progress.epoch
        reached = saved.training["progress"] if saved is not None else {"epoch": -1, "batch": 0}
        samples = sum(trainer.job.train.size(number) for number in range(reached["batch"], index))
        quick = samples <= MOST_SECONDS * max(trainer.rate, 1.0)
        if saved is None or saved.restarts or reached["epoch"] != epoch or reached["batch"] > index or not quick:
            return False
        trainer.callbacks = Callbacks([])  # they have seen these steps
        trainer.restore(saved)
        trainer.job.model.train()
        for number, batch in enumerate(trainer.job.train.epoch(epoch, reached["batch"]), reached["batch"]):
            if number == index:
                return True
            trainer.train_on(number, batch)
    return False


def _computed(trainer: Trainer, batch: Batch) -> dict[str, Any]:
    """The loss of the batch, and the first module that made something not finite of finite inputs."""
    job = trainer.job
    network = job.network or job.model
    with torch.no_grad(), trainer.accelerator.autocast(), _first_broken(network) as broken:
        loss = float(trainer.loss(prediction(network(*arranged(batch.inputs, job))).float(), batch.targets))
    return {"loss": str(loss) if not math.isfinite(loss) else loss, "first": broken[0] if broken else None}


@contextmanager
def _first_broken(network: nn.Module) -> Iterator[list[str]]:
    found: list[str] = []

    def looking(name: str) -> Any:
        def look(_module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and _finite(inputs) and not _finite(output):
                found.append(name)

        return look

    leaves = [(name, one) for name, one in network.named_modules() if not list(one.children())]
    handles = [one.register_forward_hook(looking(name)) for name, one in leaves]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _finite(value: Any) -> bool:
    values = value if isinstance(value, tuple | list) else (value,)
    tensors = [one for one in values if isinstance(one, Tensor) and one.is_floating_point()]
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
