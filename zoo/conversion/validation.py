"""Networks of one structure measured on the same data, and their batch norms' statistics estimated on it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.model.assembly import Assembly
from zoo.model.averaging import averaging_statistics
from zoo.model.undisturbed import undisturbed
from zoo.recipe.options import DataOptions
from zoo.training.devices import choose_device
from zoo.training.evaluate import Measured, asked, measured_of, open_for
from zoo.training.predictions import predict_parts

ENOUGH = 200  # batches for a batch norm's statistics


class Validation:
    """Measures a network with other tensors each time: on the validation part of a recipe's `data`, or on all that a
    source has but its test part.

    `score` is what decides between networks, higher for a better one.
    """

    def __init__(self, assembly: Assembly, data: str | DataOptions, device: str, batch_size: int | None) -> None:
        self.model, self.device = assembly.model, choose_device(device)
        part = None if isinstance(data, str) else "validation"
        self.data, parts = open_for("the average", assembly, data, part)
        self.parts = tuple(part for part in parts if part != "test") or parts
        self.batch_size = batch_size
        self.asked, self.thresholds = asked(assembly), assembly.thresholds
        self.model.to(self.device).eval()

    def measure(self) -> Measured:
        """Loss and metrics of the network as it is."""
        found = predict_parts(self.model, self.data, self.parts, self.device, batch_size=self.batch_size)
        return measured_of(found.judged(self.thresholds), *self.asked)

    def score(self, measured: Measured) -> float:
        """Accuracy or average precision, else the loss."""
        name = next((name for name in ("accuracy", "average_precision") if name in measured.metrics), "loss")
        value = measured.metrics[name]
        if value is None:
            return -math.inf
        return -value if name == "loss" else value

    def clearly_worse(self, one: Measured, other: Measured) -> bool:
        """Whether a network is worse by more than chance explains: by three standard errors of a share, a hundredth at
        least; where the loss decides by a tenth of it."""
        mine, its = self.score(one), self.score(other)
        if its < 0:
            return mine < its * 1.1
        samples = max(other.samples, 1)
        return mine < its - max(3 * math.sqrt(its * (1 - its) / samples), 0.01)

    def estimate(self, names: Iterable[str]) -> None:
        """Estimate the running statistics of these batch norms on the training part, all else in evaluation mode."""
        modules = dict(self.model.named_modules())
        norms = [module for name in names if isinstance(module := modules[name], _BatchNorm)]
        if not norms:
            return
        part = "train" if "train" in self.data.parts else self.parts[0]
        batches = self.data.batches(part, device=self.device, shuffle=True, augment=False, once=True)
        with undisturbed(self.model, training=False), averaging_statistics(norms), torch.no_grad():
            for number, batch in enumerate(batches.epoch(0)):
                if number == ENOUGH:
                    break
                self.model(batch.inputs)
        batches.close()


def batch_norms(model: nn.Module) -> list[str]:
    """Names of the batch norms that keep statistics."""
    return [
        name for name, module in model.named_modules() if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
