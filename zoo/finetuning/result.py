"""What `zoo.finetune` gives back: the trained model, the numbers of every epoch, and where the files are."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zoo.checkpoint.load import load
from zoo.finetuning.tables import history
from zoo.model.assembly import Assembly
from zoo.model.info import attach
from zoo.training.devices import to_layout


@dataclass(frozen=True)
class Run:
    """A run of a recipe that has ended well.

    `report` is the document that `report.json` holds and `zoo finetune --json` prints; `folder` is the run's folder.
    """

    report: dict[str, Any]
    folder: Path
    device: torch.device = field(repr=False)
    assembly: Assembly | None = field(default=None, repr=False)

    @functools.cached_property
    def model(self) -> nn.Module:
        """The trained model in evaluation mode, on the device it was trained on; `model.zoo` says what it is.

        It is the one in memory, or, where a finished run was resumed, the checkpoint's.
        """
        assembly = self.assembly or load(self.checkpoint, device=self.device)
        model = attach(assembly)
        # training may have left the layout that was fastest: sums in another order, so not the checkpoint's bits
        to_layout(model.to(self.device), torch.contiguous_format)
        return model.eval()

    @property
    def checkpoint(self) -> Path:
        """The file that `zoo.load` rebuilds the model from."""
        return Path(self.report["checkpoint"])

    @property
    def metrics(self) -> dict[str, float | None]:
        """What `zoo.evaluate` gives of the checkpoint on its held-out data; None for what the data does not define."""
        metrics: dict[str, float | None] = self.report["metrics"]
        return metrics

    @property
    def history(self) -> list[dict[str, Any]]:
        """One flat row an epoch, over all train steps: a table for `pandas.DataFrame`.

        `step` is the number of the train step and `epoch` counts within it, both from 1; `loss` is the training
        loss, what was measured on the validation data begins with `validation_`, and `lr_1`, `lr_2`, … are the
        learning rates of the parameter groups. `metrics.csv` has the same rows.
        """
        return history(self.report["stages"])
