"""What a run says of the model that it leaves: measured from the checkpoint's file, by the code of `zoo evaluate`."""

from __future__ import annotations

import time
from typing import Any

from zoo.checkpoint.load import load
from zoo.checkpoint.save import write_metrics
from zoo.data.open_data import Part
from zoo.finetuning.run import ActiveRun
from zoo.finetuning.tables import write_confusion
from zoo.model.assembly import Assembly
from zoo.recipe.step import shown
from zoo.training import looks
from zoo.training.evaluate import asked, measured_of
from zoo.training.folder import CONFUSION, PREDICTIONS
from zoo.training.losses import label_of, make_loss
from zoo.training.predictions import formula_warning, predict_parts, write_predictions


def measure_checkpoint(run: ActiveRun, *, finished: bool) -> Assembly | None:
    """Measure the run's checkpoint on its held-out data and let file and run say it; what it was loaded as.

    The validation part is measured, and, of a `finished` run, the test part, where there is one: its numbers are then
    those of the run. One pass over these images in float32 is all it costs. None where there is nothing to measure: no
    data, or no step that trained or measured on it. The predictions and the confusion matrix are left beside the
    checkpoint.
    """
    if run.data is None or run.assembly.evaluation is None:
        return None
    began = time.monotonic()
    loaded = load(run.checkpoint, device=run.device)
    parts: tuple[Part, ...] = ("validation", "test") if finished and "test" in run.data.parts else ("validation",)
    passing = time.monotonic()
    predictions = predict_parts(loaded.model, run.data, parts, run.device, alone=True).judged(loaded.thresholds)
    passing = time.monotonic() - passing
    metrics, loss = asked(run.assembly)
    measured = {part: measured_of(predictions.of(part), metrics, loss).as_dict() for part in parts}
    part = parts[-1]
    stated = {key: value for key, value in measured[part].items() if key not in ("metrics", "per_class")}
    write_metrics(run.checkpoint, measured[part]["metrics"], {"part": part, **stated})
    write_predictions(run.folder / PREDICTIONS, predictions, make_loss(loss, predictions.task))
    write_confusion(run.folder / CONFUSION, predictions.of(part))
    if warning := formula_warning(PREDICTIONS, (*predictions.class_names, *predictions.names)):
        run.listener.note(f"warning: {warning}")
    run.evaluation = {
        "part": part,
        "loss": loss,
        "parts": measured,
        "chose": _chose(run),
        "seconds": time.monotonic() - began,
        "pass": passing,
    }
    if part == "test":
        run.evaluation["test_looks"] = looks.look(run.data, f"zoo finetune, {run.folder.resolve()}")
    return loaded


def _chose(run: ActiveRun) -> list[str]:
    """What the validation data decided in this run: where it also reports, its numbers are better than new images'."""
    return [f"step {step.place.index + 1}: {step.chooses}" for step in run.recipe.steps if step.chooses]


def evaluation_lines(evaluation: dict[str, Any]) -> list[str]:
    """What was measured of the checkpoint, in lines for a terminal."""
    lines, called = [], {"loss": label_of(evaluation["loss"])}
    for part, measured in evaluation["parts"].items():
        told = ", ".join(
            f"{called.get(name, name)} {shown(value)}{_between(measured['intervals'][name])}"
            for name, value in measured["metrics"].items()
        )
        lines.append(f"{part}, {measured['samples']:,} samples: {told}")
        if measured["absent"]:
            lines.append(f"{part} has no sample of {', '.join(measured['absent'])}")
    if evaluation["part"] == "validation" and evaluation["chose"]:
        chosen = "; ".join(evaluation["chose"])
        lines.append(f"validation also chose ({chosen}), so new images do worse: data.test_fraction keeps some aside")
    if further := looks.said(evaluation.get("test_looks") or []):
        lines.append(further)
    return lines


def _between(interval: list[float] | None) -> str:
    return f" ({interval[0]:.4f} to {interval[1]:.4f})" if interval else ""
