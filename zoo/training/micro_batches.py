"""Batches that are too large for memory are trained in parts: the same samples in an optimizer step, less memory.

Where memory runs out in a forward or backward pass, the optimizer step begins anew as it began: gradients, the loss so
far, running statistics and torch's random generators are put back, and each batch is trained in twice as many parts,
whose gradients add up, as those of accumulated batches do. Order, augmentation and number of steps stay as they are.
How many parts there are is part of the resume state, which is written at that moment.

Of several processes each would run out by itself, while the others wait for it inside a collective operation. So they
try one step each, without the others, before the first one, and take the smallest parts that any of them needs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor

from zoo.data.batches import Batch, Inputs
from zoo.errors import is_out_of_memory
from zoo.model.prediction import prediction
from zoo.model.undisturbed import undisturbed
from zoo.training.job import arranged
from zoo.training.sync_batch_norm import trained_norms

if TYPE_CHECKING:
    from zoo.training.trainer import Trainer


def halves(inputs: Any, count: int) -> list[Any]:
    """A tensor, or a tuple of tensors, in `count` parts along dimension 0, whose sizes differ by at most one."""
    if isinstance(inputs, tuple):
        return list(zip(*(tensor.tensor_split(count) for tensor in inputs), strict=True))
    return list(inputs.tensor_split(count))


class MicroBatches:
    """The parts that each batch of a train step is trained in, and the way back to where an optimizer step began.

    `parts` is 1 until memory has run out.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._world = trainer.accelerator.num_processes
        own = dict(trainer.job.model.named_parameters())
        self._buffers = [(torch.empty_like(b), b) for name, b in trainer.unfrozen.items() if name not in own]
        self._begun: dict[str, Any] = {}

    @property
    def parts(self) -> int:
        return self.trainer.progress.parts

    def samples(self, parts: int | None = None) -> int:
        """The most samples that a process trains on at once."""
        batch: int = -(-self.trainer.job.train.size(0) // self._world)
        return -(-batch // (parts or self.parts))

    def train(self, index: int, batch: Batch, last: bool) -> bool:
        """The gradients of a batch, part by part; False where memory ran out, and smaller parts are left to try.

        The error is gone when this returns, and with it what its frames kept in memory.
        """
        *parts, final = self.of(index, batch)
        try:
            for part in parts:
                self.trainer.backward(index, part, last=False)
            self.trainer.backward(index, final, last=last)
        except Exception as error:
            if is_out_of_memory(error) and self.can_halve():
                return False
            raise
        return True

    def validating(self, forward: Callable[[Any], Any]) -> InParts:
        """A forward pass over validation batches, in the parts that memory leaves room for."""

        def halved(parts: int) -> None:
            self.trainer.progress.validation_parts = parts
            said = f"{self.trainer.job.label}: out of memory in validation: its batches are in {parts} parts now"
            self.trainer.listener.note(said)

        return InParts(forward, self.trainer.progress.validation_parts, halved)

    def of(self, index: int, batch: Batch) -> list[Batch]:
        """The parts of this process's share of the epoch's batch `index`: as many in every process."""
        size = self.trainer.job.train.size(index)
        count = max(min(-(-size // self._world // self.samples()), size // self._world), 1) if self.parts > 1 else 1
        if count == 1:
            return [batch]
        columns = (halves(column, count) for column in batch)
        return [Batch(*part) for part in zip(*columns, strict=True)]

    def _norms(self) -> int:
        return len(trained_norms(self.trainer.job.network or self.trainer.job.model))

    def begin_step(self) -> None:
        """Remember what an optimizer step changes before its end. Waits for no device."""
        trainer, device = self.trainer, self.trainer.device
        cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self._begun = {
            "batch": trainer.progress.batch,
            "sums": (trainer.loss_sum.clone(), trainer.broken_at.clone()),
            "generators": (torch.get_rng_state(), cuda),
        }
        for kept, live in self._buffers:
            kept.copy_(live)

    def can_halve(self) -> bool:
        """Whether there are smaller parts to try: of one sample each, or of two where batch norms are trained, which
        cannot normalise by a single one. One process alone may change them."""
        least = 2 if self._norms() else 1
        return self._world == 1 and least <= self.samples(2 * self.parts) < self.samples()

    def halve(self, *, on_trial: bool = False) -> None:
        """After memory ran out: from the beginning of the optimizer step on, in twice as many parts."""
        trainer, begun = self.trainer, self._begun
        trainer.optimizer.zero_grad()
        clear_device_cache(garbage_collection=True)
        trainer.progress.batch = begun["batch"]
        trainer.loss_sum, trainer.broken_at = begun["sums"]
        cpu, cuda = begun["generators"]
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state(cuda, trainer.device)
        with torch.no_grad():
            for kept, live in self._buffers:
                live.copy_(kept)
        self._set(2 * self.parts, on_trial)

    def agree(self, batch: Batch, *, on_trial: bool = False) -> None:
        """Before the first of several processes' steps: parts that all of them have the memory for."""
        begun = self.trainer.progress.steps or self.trainer.progress.batch
        if self._world == 1 or self.parts > 1 or (begun and not on_trial):
            return
        parts, least = 1, 2 if self._norms() else 1
        while not self._fits(halves(batch.inputs, parts)[0], halves(batch.targets, parts)[0]):
            clear_device_cache(garbage_collection=True)
            if self.samples(2 * parts) < least or self.samples(2 * parts) == self.samples(parts):
                break  # the step itself fails, and says so
            parts *= 2
        most = int(self.trainer.accelerator.gather(torch.tensor([parts], device=self.trainer.device)).max())
        if most > 1:
            self._set(most, on_trial)

    def _fits(self, inputs: Inputs, targets: Tensor) -> bool:
        """Whether forward and backward go through, without the other processes."""
        trainer = self.trainer
        network = trainer.accelerator.unwrap_model(trainer.network, keep_fp32_wrapper=True)
        own, trainer.synchronises = trainer.synchronises, False
        try:
            with undisturbed(trainer.job.model, buffers=True), trainer.accelerator.no_sync(trainer.network):
                loss = trainer.loss(prediction(network(*arranged(inputs, trainer.job))), targets)
                trainer.accelerator.backward(loss)
        except Exception as error:
            if is_out_of_memory(error):
                return False
            raise
        finally:
            trainer.synchronises = own
        return True

    def _set(self, parts: int, on_trial: bool) -> None:
        """Go on with so many parts. A trial's progress is thrown away, so training itself says and saves them again."""
        trainer, progress, each = self.trainer, self.trainer.progress, self.samples(parts)
        progress.parts = parts
        progress.out_of_memory.append({"step": progress.steps + 1, "parts": parts, "samples": each * self._world})
        said = (
            f"{trainer.job.label}: out of memory in step {progress.steps + 1}: a batch of {trainer.job.train.size(0)}"
            f" is trained in {parts} parts of {each * self._world} from here on, whose gradients add up"
            " (half the batch, twice the accumulation: the same samples in an optimizer step)"
        )
        if norms := self._norms():
            said += f"; {norms} batch norms normalise by {each * self._world} samples at a time"
        trainer.listener.note(said)
        if not on_trial:
            trainer.save()


class InParts:
    """A forward pass without gradients over entire batches, each in as many parts as memory asks for.

    `parts` doubles whenever memory runs out, down to a single sample, where the error is raised; `halved` is called
    with it.
    """

    def __init__(
        self, forward: Callable[[Any], Any], parts: int = 1, halved: Callable[[int], None] = lambda parts: None
    ) -> None:
        self.forward, self.parts, self.halved = forward, parts, halved

    def __call__(self, inputs: Inputs) -> Any:
        samples = len(inputs[0] if isinstance(inputs, tuple) else inputs)
        while True:
            try:
                return self._answer(inputs, min(self.parts, samples))
            except Exception as error:
                if not is_out_of_memory(error) or self.parts >= samples:
                    raise
            clear_device_cache(garbage_collection=True)  # the error is gone here, and what its frames kept with it
            self.parts *= 2
            self.halved(self.parts)

    def _answer(self, inputs: Inputs, parts: int) -> Any:
        if parts == 1:
            return self.forward(inputs)
        return torch.cat([prediction(self.forward(part)) for part in halves(inputs, parts)])
