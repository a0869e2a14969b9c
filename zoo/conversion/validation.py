"""Networks of one structure measured on the same data, and their batch norms' statistics estimated on it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.model.assembly import Assembly
from zoo.model.undisturbed import undisturbed
from zoo.recipe.options import DataOptions
from zoo.training.devices import choose_device
from zoo.training.evaluate import data_for, measure_parts

ENOUGH = 200  # batches for a batch norm's statistics


class Validation:
    """Measures a network with other tensors each time, on the samples that `zoo evaluate` takes of the same `data`.

    The first metric decides, or the loss where there is none; `score` is higher for a better one.
    """

    def __init__(self, assembly: Assembly, data: str | DataOptions, device: str, batch_size: int | None) -> None:
        self.model, self.device = assembly.model, choose_device(device)
        self.data, self.parts = data_for(assembly, data)
        self.batch_size = batch_size
        self.samples = 0
        self.model.to(self.device).eval()

    def measure(self) -> dict[str, float]:
        """Loss and metrics of the network as it is."""
        values, self.samples = measure_parts(self.model, self.data, self.parts, self.device, batch_size=self.batch_size)
        return values

    def score(self, values: Mapping[str, float]) -> float:
        """What decides between networks: accuracy or average precision, else the loss."""
        name = next((name for name in ("accuracy", "average_precision") if name in values), None)
        return values[name] if name else -values["loss"]

    def clearly_worse(self, one: float, other: float) -> bool:
        """Whether a score is below another by more than chance and rounding explain: three standard errors, and a
        hundredth."""
        if self.data.task == "regression":
            return one < other - 0.1 * abs(other)
        deviation = math.sqrt(max(other * (1 - other), 0.25 / max(self.samples, 1)) / max(self.samples, 1))
        return one < other - max(3 * deviation, 0.01)

    def estimate(self, names: Iterable[str]) -> None:
        """Estimate the running statistics of these batch norms on the training part, all else in evaluation mode."""
        modules = dict(self.model.named_modules())
        norms = [module for name in names if isinstance(module := modules[name], _BatchNorm)]
        if not norms:
            return
        batches = self.data.batches("train", device=self.device, shuffle=True, augment=False, once=True)
        with undisturbed(self.model, training=False), _averaging(norms), torch.no_grad():
            for number, batch in enumerate(batches.epoch(0)):
                if number == ENOUGH:
                    break
                self.model(batch.inputs)
        batches.close()


@contextmanager
def _averaging(norms: Iterable[Any]) -> Iterator[None]:
    """Inside, batch norms take the plain average over all batches as their statistics."""
    before = [(norm, norm.momentum) for norm in norms]
    for norm, _ in before:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    try:
        yield
    finally:
        for norm, momentum in before:
            norm.momentum = momentum
            norm.eval()


def batch_norms(model: nn.Module) -> list[str]:
    """Names of the batch norms that keep statistics."""
    return [
        name for name, module in model.named_modules() if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
