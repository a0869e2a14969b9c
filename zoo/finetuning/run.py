"""What each kind of step does, and the run it does it to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from torch import Tensor

from zoo import registry
from zoo.checkpoint.save import save_checkpoint
from zoo.contracts import Context, Preprocessing
from zoo.data.open_data import OpenData
from zoo.model.assembly import Assembly
from zoo.model.freezing import freeze
from zoo.model.initializers import initialize
from zoo.model.load_into import LoadReport, load_into
from zoo.model.operations import operate
from zoo.model.pretrained import find_weights
from zoo.recipe import Recipe, Step
from zoo.recipe.options import Evaluate, Init, Load, Precision, Save
from zoo.remap.remaps import items
from zoo.training.callbacks import Listener
from zoo.training.evaluate import HELD_OUT, WHOLE, measure_parts, other_data
from zoo.training.folder import MODEL
from zoo.training.state import Saved, StateFolder


@dataclass
class Run:
    """A recipe at work: the model and the data as they are now, and the records of the steps that are done.

    `saved` is the state an interrupted run left, until the step it belongs to has taken it up. `trained` says whether
    there is a whole epoch worth keeping, `kept` which one, where a train step came to no good end; `settings` are the
    precision and layout chosen by timing, by step.
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
    context: Context = field(default_factory=Context)
    began: float = field(default_factory=time.monotonic)
    loaded: dict[str, Any] | None = None
    stages: list[dict[str, Any]] = field(default_factory=list)
    trained: bool = False
    kept: str = "the model as the steps before left it"
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def checkpoint(self) -> Path:
        return self.folder / MODEL

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured last."""
        return next((stage["metrics"] for stage in reversed(self.stages) if stage.get("metrics")), {})

    @property
    def conditions(self) -> dict[str, str]:
        """What beside the recipe decides how training goes."""
        return {"device": str(self.device), "precision": self.precision}

    def memory(self) -> dict[str, Any]:
        """What a resumed run cannot work out again, as plain data."""
        return {
            "stages": self.stages,
            "loaded": self.loaded,
            "base_weights": self.assembly.base_weights,
            "preprocessing": self.assembly.preprocessing.as_dict(),
            "settings": self.settings,
            "data": self.data_found(),
            "seconds": time.monotonic() - self.began,
        }

    def remember(self, memory: dict[str, Any]) -> None:
        self.stages, self.loaded, self.settings = memory["stages"], memory["loaded"], memory["settings"]
        self.assembly.base_weights = memory["base_weights"]
        self.assembly.preprocessing = Preprocessing.from_dict(memory["preprocessing"])
        self.began -= memory["seconds"]
        self.trained = any(stage["action"] == "train" for stage in self.stages)

    def data_found(self) -> dict[str, Any] | None:
        """What a resumed run has to find again."""
        return None if self.data is None else self.data.summary() | {"classes": list(self.data.classes)}

    def report(self) -> dict[str, Any]:
        """The document that `finetune --json` prints and `report.json` holds."""
        return {
            "name": self.recipe.name,
            "checkpoint": str(self.checkpoint),
            "metrics": self.metrics,
            "seconds": time.monotonic() - self.began,
            "stages": self.stages,
            "architecture": self.assembly.architecture,
            "weights": self.loaded,
            "data": self.data.summary() if self.data else None,
            "device": str(self.device),
        }

    def example(self) -> Tensor | None:
        """A small batch of validation inputs, as the model gets them."""
        if self.data is None:
            return None
        batches = self.data.batches("validation", batch_size=2, once=True)
        return cast(Tensor, next(batches.epoch(0)).inputs)


def _operate(run: Run, step: Step) -> None:
    operate(run.assembly, cast(str, step.component), step.arguments, run.context)


def _freeze(run: Run, step: Step) -> None:
    policy = registry.load(cast(str, step.component), "freezing")
    run.assembly.frozen = freeze(run.assembly.model, policy(run.assembly.model, **step.arguments))


def _initialize(run: Run, step: Step) -> None:
    touched = initialize(run.assembly.model, cast(Init, step.options))
    run.stages.append({"step": step.index + 1, "action": "init", "parameters": touched})


def _load(run: Run, step: Step) -> None:
    options = cast(Load, step.options)
    weights = find_weights(options.weights, run.assembly.architecture)
    report = load_into(
        run.assembly.model,
        weights.location,
        items(weights.remap, options.remap),
        min_coverage=options.min_coverage,
        strict_shapes=options.strict_shapes,
        classes=run.context.classes,
        sha256=weights.sha256,
        convert=weights.convert,
    )
    run.stages.append({"step": step.index + 1, "action": "load", **coverage(options.weights, report)})


def _train(run: Run, step: Step) -> None:
    from zoo.steps.train import train

    train(run, step)


def _probe(run: Run, step: Step) -> None:
    from zoo.steps.probe import probe

    probe(run, step)


def _evaluate(run: Run, step: Step) -> None:
    options, model = cast(Evaluate, step.options), run.assembly.model
    model.to(run.device)
    own = options.data is None
    data = cast(OpenData, run.data) if options.data is None else other_data(options.data, run.assembly, run.recipe.seed)
    metrics, samples = measure_parts(model, data, HELD_OUT if own else WHOLE, run.device, options.metrics)
    run.stages.append({"step": step.index + 1, "action": "evaluate", "metrics": metrics, "samples": samples})
    run.listener.note(f"evaluate: {', '.join(f'{name} {value:.4f}' for name, value in metrics.items())}")


def _look(run: Run, step: Step) -> None:
    from zoo.steps.look import look

    look(run, step)


def _save(run: Run, step: Step) -> None:
    options = cast(Save, step.options)
    path = run.folder / options.file
    if PartialState().is_main_process:
        saved = save_checkpoint(run.assembly, path, metrics=run.metrics, only=options.only, dtype=options.dtype)
        run.stages.append({"step": step.index + 1, "action": "save", **saved})


def coverage(weights: str, report: LoadReport) -> dict[str, Any]:
    """A load's row of the report."""
    return {"weights": weights, "coverage": report.coverage, "missing": list(report.missing)}


STRUCTURAL = ("surgery", "freeze")  # done again on resume; what the other steps did is in the state
CHANGING = (*STRUCTURAL, "init", "load")  # one that fails may leave half of its work in the model
ACTIONS: dict[str, Callable[[Run, Step], None]] = {
    "surgery": _operate,
    "freeze": _freeze,
    "init": _initialize,
    "load": _load,
    "train": _train,
    "probe": _probe,
    "evaluate": _evaluate,
    "look": _look,
    "save": _save,
}
