"""One network of several epochs' weights: stochastic weight averaging, and soups of a run's epochs.

- `last`: the mean of the last epochs (a uniform soup, Wortsman et al., "Model soups", 2022).
- `greedy`: of the epochs that were best in validation, from the best one down, those that the mean gets no worse with
  (a greedy soup, ibid.).
- `swa`: the mean of all epochs from one on (Izmailov et al., "Averaging weights leads to wider optima", 2018), as
  torch.optim.swa_utils has it.

Statistics of batch norms that train are no weights: those of the mean are estimated anew in a pass over the training
data (torch's `update_bn`). With `greedy` they are averaged as weights are, so that what was compared is what is kept.
Frozen tensors are no members' and stay as they are. Members are kept in the CPU's memory and in the resume state, and
means are made in double precision in the order of the epochs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.model.averaging import averaging_statistics
from zoo.model.undisturbed import undisturbed
from zoo.training.choosing import Criterion
from zoo.training.job import arranged, fill

if TYPE_CHECKING:
    from zoo.recipe.options import Average
    from zoo.training.trainer import Trainer

Tensors = Mapping[str, Tensor]


class EpochAverage:
    """Collects epochs, and puts their average into the model when training is over.

    `members` are the epochs that are kept: number, validation value, tensors; of `swa` their sum alone.
    """

    def __init__(self, rule: Average, epochs: int, criterion: Criterion) -> None:
        self.rule, self.criterion = rule, criterion
        self.members: list[dict[str, Any]] = []
        self.sum: dict[str, Tensor] = {}
        self.counted: list[int] = []
        self.over(epochs)

    def over(self, epochs: int) -> None:
        """Training will have so many epochs. What `swa` has counted is let go where all of it is before the first
        one that counts then."""
        self.first = self.rule.first(epochs)
        if self.counted and self.counted[-1] < self.first:
            self.counted, self.sum = [], {}

    def add(self, epoch: int, value: float, tensors: Tensors) -> None:
        """An epoch (from 1) is over: take a copy of its tensors, and let go what is no longer needed."""
        if self.rule.swa is not None:
            if epoch >= self.first:
                self.counted.append(epoch)
                self.sum = {name: _added(self.sum.get(name), tensor) for name, tensor in tensors.items()}
            return
        copies = {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        self.members.append({"epoch": epoch, "value": value, "tensors": copies})
        if self.rule.last is not None:
            self.members = self.members[-self.rule.last :]
        elif self.rule.greedy is not None:
            self.members = sorted(self._ranked()[: self.rule.greedy], key=lambda member: member["epoch"])

    def _ranked(self) -> list[dict[str, Any]]:
        """From the best down, the earlier of two equal ones first; those whose value is undefined behind all others."""
        sign = -1 if self.criterion.higher_is_better else 1
        undefined = [member for member in self.members if member["value"] != member["value"]]
        defined = [member for member in self.members if member["value"] == member["value"]]
        return sorted(defined, key=lambda member: (sign * member["value"], member["epoch"])) + undefined

    def conclude(self, trainer: Trainer) -> dict[str, Any] | None:
        """Fill the model with the average; the report's record of it. None, and nothing done, before the first member.

        `members` says of each epoch its value by `metric` and its `weight`, `metrics` is what the average is measured
        to be, `batch_norms` how many had their statistics estimated.
        """
        if self.rule.greedy is not None:
            chosen = self._greedy(trainer)
        else:
            chosen = self.counted or [member["epoch"] for member in self.members]
            if chosen:
                fill(trainer.unfrozen, self._mean(chosen))
        if not chosen:
            return None
        estimated = 0 if self.rule.greedy is not None or len(chosen) == 1 else estimate_batch_norms(trainer)
        return {
            **self.rule.model_dump(exclude_none=True),
            "metric": self.criterion.metric,
            "members": [
                {
                    "epoch": record["epoch"],
                    "value": self.criterion.value(record),
                    "weight": 1 / len(chosen) if record["epoch"] in chosen else 0.0,
                }
                for record in trainer.progress.history
                if record["epoch"] in chosen or record["epoch"] in [member["epoch"] for member in self.members]
            ],
            "batch_norms": estimated,
            "metrics": trainer.measure_exactly(),
        }

    def _greedy(self, trainer: Trainer) -> list[int]:
        chosen: list[int] = []
        best: float | None = None
        for member in self._ranked():
            tried = [*chosen, member["epoch"]]
            fill(trainer.unfrozen, self._mean(tried))
            value = self.criterion.value({"validation": trainer.measure_exactly()})
            if not chosen or value == best or self.criterion.better(value, best):
                chosen, best = tried, value
        if chosen:
            fill(trainer.unfrozen, self._mean(chosen))
        return chosen

    def _mean(self, epochs: Sequence[int]) -> dict[str, Tensor]:
        if self.rule.swa is not None:
            return {name: _divided(total, len(epochs)) for name, total in self.sum.items()}
        return mean_of([member["tensors"] for member in self.members if member["epoch"] in epochs])

    def state_dict(self) -> dict[str, Any]:
        return {"members": self.members, "sum": self.sum, "counted": self.counted}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.members, self.sum, self.counted = list(state["members"]), dict(state["sum"]), list(state["counted"])


def mean_of(members: Sequence[Tensors]) -> dict[str, Tensor]:
    """The mean of each floating-point tensor in double precision, in its own dtype; of others the last member's."""
    total: dict[str, Tensor] = {}
    for tensors in members:
        total = {name: _added(total.get(name), tensor) for name, tensor in tensors.items()}
    return {name: _divided(value, len(members)).to(members[0][name].dtype) for name, value in total.items()}


def _added(total: Tensor | None, tensor: Tensor) -> Tensor:
    value = tensor.detach().to("cpu", copy=True)
    if not value.is_floating_point():
        return value
    return value.double() if total is None else total + value.double()


def _divided(total: Tensor, count: int) -> Tensor:
    return total / count if total.is_floating_point() else total


def estimate_batch_norms(trainer: Trainer) -> int:
    """Estimate the statistics of the batch norms that train in one pass over the training data, all else in evaluation
    mode; how many they are. What is drawn at random there changes nothing behind it."""
    job = trainer.job
    network = job.network or job.model
    unfrozen = {tensor.data_ptr() for tensor in trainer.unfrozen.values()}
    norms = [
        one for one in network.modules()
        if isinstance(one, _BatchNorm) and one.running_mean is not None and one.running_mean.data_ptr() in unfrozen
    ]  # fmt: skip
    if norms:
        with (
            undisturbed(network, training=False),
            averaging_statistics(norms),
            torch.no_grad(),
            trainer.accelerator.autocast(),
        ):
            for batch in job.train.epoch(trainer.progress.epoch):
                with trainer.synchronised():
                    network(*arranged(batch.inputs, job))
    return len(norms)
