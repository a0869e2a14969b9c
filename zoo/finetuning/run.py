"""A run: the model, the data and the records that the steps of a recipe work on."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor

from zoo.checkpoint.versions import versions
from zoo.contracts import Context, Preprocessing
from zoo.data.fingerprint import Fingerprint
from zoo.data.open_data import OpenData
from zoo.finetuning.environment import environment
from zoo.finetuning.ladder import Rung, model_digest
from zoo.finetuning.tables import train_stages
from zoo.model.assembly import Assembly
from zoo.preflight.verdict import FoundWeights
from zoo.recipe import Recipe, Step
from zoo.recipe.options import Precision
from zoo.training.callbacks import Listener
from zoo.training.evaluate import finite
from zoo.training.folder import MODEL
from zoo.training.state import Saved, StateFolder

if TYPE_CHECKING:
    from zoo.finetuning.trial import Trial, Within


@dataclass
class ActiveRun:
    """A recipe at work: the model and the data as they are now, and the records of the steps that are done.

    `saved` is the state an interrupted run left, until the step it belongs to has taken it up. `trained` says whether
    there is a complete epoch worth keeping, `kept` which one, where a train step failed; `pins` are the options that
    choose again what was chosen by timing or tolerance, by the step's index, `asked` what goes before the recipe;
    `loads` are the weights of the `load` steps, by the step's index. `data_changes` says what of the data is not as it
    was when the run began, `ladder` has a digest of the model after each step and epoch;
    `moments` are the optimizer's state, by parameter, that the last train step left for the next one;
    `evaluation` is what was measured of the finished checkpoint, where anything was; `within` is the time that all of
    it may take, `trial` what times a run that is only tried out; `written` is the recipe's file as the run began.
    """

    recipe: Recipe
    folder: Path
    state: StateFolder
    listener: Listener
    assembly: Assembly
    device: torch.device
    precision: Precision
    saved: Saved | None = None
    data: OpenData | None = None
    fingerprint: Fingerprint | None = None
    data_changes: list[str] = field(default_factory=list)
    context: Context = field(default_factory=Context)
    began: float = field(default_factory=time.monotonic)
    loaded: dict[str, Any] | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    trained: bool = False
    kept: str = "the model as the steps before left it"
    pins: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: dict[str, str] = field(default_factory=dict)
    loads: dict[int, FoundWeights] = field(default_factory=dict)
    ladder: list[Rung] = field(default_factory=list)
    moments: dict[Tensor, dict[str, Any]] = field(default_factory=dict)
    evaluation: dict[str, Any] | None = None
    within: Within | None = None
    trial: Trial | None = None
    written: str | None = field(init=False)

    def __post_init__(self) -> None:
        self.written = _text(self.recipe.path)

    @property
    def checkpoint(self) -> Path:
        return self.folder / MODEL

    @property
    def metrics(self) -> dict[str, float | None]:
        """What was measured of the checkpoint; without that, what a step measured last."""
        if self.evaluation is not None:
            metrics: dict[str, float | None] = self.evaluation["parts"][self.evaluation["part"]]["metrics"]
            return metrics
        return next((stage["metrics"] for stage in reversed(self.stages) if stage.get("metrics")), {})

    @property
    def optimizer_steps(self) -> int:
        """Those of all train steps so far: the axis of curves and pictures."""
        rows = (row["epochs"] for row in train_stages(self.stages) if row["epochs"])
        return sum(epochs[-1]["steps"] for epochs in rows)

    @property
    def conditions(self) -> dict[str, str]:
        """What beside the recipe decides how training goes."""
        return {"device": str(self.device), "precision": self.precision}

    def share_of(self, step: Step) -> float | None:
        """The seconds that a train step may take where the run has a time for all of it; None without one."""
        if self.within is None:
            return None
        left = self.within.seconds - (time.monotonic() - self.began)
        return self.within.share(step.place.index, left)

    def memory(self) -> dict[str, Any]:
        """What a resumed run cannot work out again, as plain data."""
        return {
            "stages": self.stages,
            "loaded": self.loaded,
            "base_weights": self.assembly.base_weights,
            "preprocessing": self.assembly.preprocessing.as_dict(),
            "thresholds": self.assembly.thresholds,
            "pins": self.pins,
            "ladder": self.ladder,
            "environment": self.environment(),
            "trained": self.trained,
            "data": self.data_found(),
            "seconds": time.monotonic() - self.began,
        }

    def remember(self, memory: dict[str, Any]) -> None:
        self.stages, self.loaded, self.pins = memory["stages"], memory["loaded"], memory["pins"]
        self.assembly.base_weights = memory["base_weights"]
        self.assembly.preprocessing = Preprocessing.from_dict(memory["preprocessing"])
        self.assembly.thresholds = memory.get("thresholds", {})
        self.began -= memory["seconds"]
        self.trained, self.ladder = memory["trained"], memory["ladder"]

    def data_found(self) -> dict[str, Any] | None:
        """What a resumed run has to find again."""
        if self.data is None:
            return None
        read = self.fingerprint.as_dict() if self.fingerprint else None
        return self.data.summary() | {"classes": list(self.data.classes), "fingerprint": read}

    def report(self) -> dict[str, Any]:
        """The document that `finetune --json` prints and `report.json` contains: JSON, in which NaN is null."""
        document = {
            "name": self.recipe.name,
            "recipe": {"path": self.recipe.path, "written": self.written},
            "checkpoint": str(self.checkpoint),
            "metrics": self.metrics,
            "evaluation": self.evaluation,
            "seconds": time.monotonic() - self.began,
            "stages": self.stages,
            "architecture": self.assembly.architecture,
            "components": [
                {"name": row.name, "kind": row.kind, "distribution": row.distribution, "version": row.version}
                for row in self.recipe.components
            ],
            "weights": self.loaded,
            "data": self._data(),
            "device": str(self.device),
            "environment": self.environment(),
            "ladder": self.ladder,
        }
        cleaned: dict[str, Any] = finite(document)
        return cleaned

    def _data(self) -> dict[str, Any] | None:
        if self.data is None:
            return None
        known = {"fingerprint": self.fingerprint.as_dict()} if self.fingerprint else {}
        return self.data.summary() | known | ({"changes": self.data_changes} if self.data_changes else {})

    def environment(self) -> dict[str, Any]:
        """Versions, device, threads: what else the last digits depend on."""
        return environment(self.device, versions(self.assembly))

    def climb(self, step: int, action: str, digests: Sequence[str] = ()) -> None:
        """Add rungs to the ladder: the state's digest as a train step began and after each epoch, then the model's."""
        self.ladder += [{"step": step, "action": action, "epoch": n, "digest": one} for n, one in enumerate(digests)]
        self.ladder.append({"step": step, "action": action, "epoch": None, "digest": model_digest(self.assembly.model)})

    def record(self, step: Step, /, **values: Any) -> None:
        """Keep what a step did, as plain data: an entry under `stages` in the report."""
        self.stages.append({"step": step.place.index + 1, "action": step.place.name, **values})

    def example(self) -> Tensor | None:
        """A small batch of validation inputs, as the model gets them."""
        if self.data is None:
            return None
        batches = self.data.batches("validation", batch_size=2, once=True)
        return cast(Tensor, next(batches.epoch(0)).inputs)


def _text(path: str) -> str | None:
    """What a recipe's file says; None of a recipe that is no file."""
    with suppress(OSError, ValueError):
        return Path(path).read_text(encoding="utf-8")
    return None
