"""Checks of numbers: computed again from the stored predictions, and by running the model on its data again."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from zoo.checkpoint.data_folder import FOLDER
from zoo.checkpoint.load import load
from zoo.data.open_data import OpenData, Part
from zoo.errors import InputError, ZooError
from zoo.given import is_given
from zoo.model.assembly import Assembly
from zoo.training.devices import choose_device
from zoo.training.evaluate import asked, measured_of, open_for
from zoo.training.losses import make_loss
from zoo.training.predictions import (
    MOST_COLUMNS,
    Predictions,
    predict_parts,
    read_predictions,
    write_predictions,
    written_name,
)
from zoo.verification.rows import Rows
from zoo.verification.subject import Subject

METRICS, PREDICTIONS, AGAIN, LOADS = "metrics", "predictions.csv", "model run again", "model"
ROUNDING = 1e-6  # other processors add in another order
OUTPUTS = {"cpu": 1e-3, "cuda": 1e-2, "mps": 1e-2}  # of the largest output: other kernels, TF32


def check_metrics(subject: Subject, rows: Rows) -> None:
    """Report and checkpoint say the same numbers, and they are those of the stored predictions."""
    report, metadata = subject.finished, subject.metadata
    if report is None:
        return
    evaluation = report["evaluation"]
    if evaluation is None:
        rows.skip(METRICS, "this run measured nothing of its checkpoint")
        return
    part = evaluation["part"]
    stated = {"metrics": metadata.metrics, **_stated(metadata.evaluation or {})}
    measured = {key: value for key, value in evaluation["parts"][part].items() if key != "per_class"}
    expected = {"part": part, **measured, "metrics": report["metrics"]}
    same = f"report and checkpoint say the same: {_numbers(report['metrics'])}"
    different = {key: value for key, value in expected.items() if stated.get(key) != value}
    if measured["metrics"] != report["metrics"]:
        rows.fail(METRICS, "the report contradicts itself", measured["metrics"], report["metrics"])
    elif different:
        found = {key: stated.get(key) for key in different}
        rows.fail(METRICS, "report and checkpoint say other things", different, found)
    else:
        rows.confirm(METRICS, same)
    _check_predictions(subject, evaluation, rows)


def _stated(evaluation: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in evaluation.items() if key in ("part", "intervals", "samples", "absent")}


def _check_predictions(subject: Subject, evaluation: dict[str, Any], rows: Rows) -> None:
    if not subject.predictions.is_file():
        rows.skip(PREDICTIONS, "it is not there any more")
        return
    try:
        stored = stored_predictions(subject)
    except InputError as error:
        rows.fail(PREDICTIONS, str(error))
        return
    if stored is None:
        rows.skip(PREDICTIONS, f"with more than {MOST_COLUMNS} classes it has no outputs to compute metrics from")
        return
    spec = subject.metadata.evaluation or {}
    for part, said in evaluation["parts"].items():
        own = stored.of(part)
        if not len(own):
            rows.fail(PREDICTIONS, f"it has no rows of the {part} part")
            return
        found = measured_of(own, spec.get("metrics"), evaluation["loss"]).as_dict()
        if not _same(found, said):
            wrong = {key: found[key] for key in found if not _same(found[key], said.get(key))}
            text = f"the {part} part's numbers are others than those of its rows"
            rows.fail(PREDICTIONS, text, {key: said.get(key) for key in wrong}, wrong)
            return
    if not _agrees_with_itself(subject, stored, evaluation["loss"]):
        rows.fail(
            PREDICTIONS, "its columns contradict one another: what is predicted, and how well, is not what is output"
        )
        return
    rows.confirm(PREDICTIONS, f"its {len(stored):,} rows give the numbers that are reported")


def stored_predictions(subject: Subject) -> Predictions | None:
    """What predictions.csv contains; None where it has no outputs. Raises InputError where it cannot be read."""
    metadata = subject.metadata
    if metadata.task == "classification" and len(metadata.classes) > MOST_COLUMNS:
        return None
    return read_predictions(subject.predictions, metadata.classes, metadata.task).judged(metadata.thresholds)


def _agrees_with_itself(subject: Subject, stored: Predictions, loss: Any) -> bool:
    """Whether writing what was read gives the file again, but for the last digits of what is computed."""
    import csv

    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder) / "again.csv"
        write_predictions(again, stored, make_loss(loss, stored.task))
        with (
            open(again, encoding="utf-8", newline="") as mine,
            open(subject.predictions, encoding="utf-8", newline="") as its,
        ):
            return _same([*csv.reader(mine)], [*csv.reader(its)])


def _same(first: Any, second: Any) -> bool:
    """Equal, numbers (written or not) but for their last digits."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    if first == second:
        return True
    try:
        return math.isclose(float(first), float(second), rel_tol=ROUNDING, abs_tol=ROUNDING)
    except (TypeError, ValueError):
        return False


def check_again(subject: Subject, rows: Rows, *, quick: bool, device: str | None) -> None:
    """The file loads, and gives the predictions and numbers that are said."""
    if is_given(subject.metadata.architecture):
        rows.skip(LOADS, f"{subject.metadata.architecture} has to be handed over to be built")
        return
    where = _device(subject, device)
    try:
        assembly = load(subject.path, device=where)
    except ZooError as error:
        rows.fail(LOADS, str(error))
        return
    rows.confirm(LOADS, "it is rebuilt from the file")
    parts = _parts(subject)
    if not parts:
        rows.skip(AGAIN, "nothing is said of what it gives")
    elif quick:
        rows.skip(AGAIN, "left out by --quick")
    else:
        _run_again(subject, assembly, parts, where, rows)


def _device(subject: Subject, device: str | None) -> torch.device:
    """The one asked for, else the one that was measured on where this machine has it."""
    try:
        return choose_device(device or (subject.report or {}).get("device") or "auto")
    except InputError:
        if device is not None:
            raise
        return choose_device("auto")


def _parts(subject: Subject) -> tuple[Part, ...]:
    if subject.finished is not None and subject.finished["evaluation"] is not None:
        return tuple(subject.finished["evaluation"]["parts"])
    part = (subject.metadata.evaluation or {}).get("part")
    return (part,) if part and subject.metadata.metrics else ()


def _run_again(subject: Subject, assembly: Assembly, parts: tuple[Part, ...], device: torch.device, rows: Rows) -> None:
    try:
        data, _ = open_for(str(subject.path), assembly, None)
        lacking = [part for part in parts if part not in data.parts]
        if lacking:
            rows.skip(AGAIN, f"the data has no {lacking[0]} part any more")
            return
        found = predict_parts(assembly.model, data, parts, device, alone=True)
    except ZooError as error:
        rows.skip(AGAIN, f"the data cannot be read here: {'; '.join(problem.message for problem in error.problems)}")
        return
    stored = None
    if subject.finished is not None and subject.predictions.is_file():
        try:
            stored = stored_predictions(subject)
        except InputError:
            stored = None
    folder = (assembly.data or {}).get(FOLDER)
    if stored is not None and (_places(stored, folder), stored.parts) != (_places(found, folder), found.parts):
        rows.skip(AGAIN, f"the data has other images than were measured: {len(found):,}, and {len(stored):,} then")
    elif stored is not None:
        _compare_outputs(stored, found, device, rows)
    else:
        _compare_numbers(subject, assembly, found.of(parts[-1]), data, device, rows)


def _places(predictions: Predictions, folder: str | None) -> list[str]:
    """What the images are called, as predictions.csv has it; relative paths count from the folder of the data."""
    return [os.path.normpath(os.path.join(folder or "", written_name(name))) for name in predictions.names]


def _compare_outputs(stored: Predictions, found: Predictions, device: torch.device, rows: Rows) -> None:
    if not torch.equal(stored.targets, found.targets):
        wrong = int((stored.targets != found.targets).reshape(len(found), -1).any(1).sum())
        rows.fail(
            AGAIN, f"the data gives other classes or values for {wrong:,} of {len(found):,} images than are stored"
        )
        return
    distance = float((stored.outputs - found.outputs).abs().max())
    if distance > OUTPUTS.get(device.type, 1e-2) * max(1.0, float(found.outputs.abs().max())):
        text = f"it gives other outputs than are stored, up to {distance:.3g} apart"
        row = int((stored.outputs - found.outputs).abs().amax(-1).argmax())
        rows.fail(AGAIN, text, _outputs(stored, row), _outputs(found, row))
    else:
        how = "to the last bit" if distance == 0 else f"within {distance:.1g}"
        rows.confirm(AGAIN, f"it gives the stored outputs of {len(found):,} images, {how}")


def _outputs(predictions: Predictions, row: int) -> str:
    values = ", ".join(f"{value:.4g}" for value in predictions.outputs[row].flatten()[:4].tolist())
    return f"{predictions.names[row]}: {values}, …"


def _compare_numbers(
    subject: Subject, assembly: Assembly, found: Predictions, data: OpenData, device: torch.device, rows: Rows
) -> None:
    """Where no outputs are stored: the metrics, which may differ by the images whose two likeliest answers are near."""
    metrics, loss = asked(assembly)
    measured = measured_of(found.judged(assembly.thresholds), metrics, loss)
    said, near = subject.metadata.metrics, _near(found, device)
    samples = (subject.metadata.evaluation or {}).get("samples")
    if samples != measured.samples:
        rows.fail(AGAIN, "the data has another number of images than is said", samples, measured.samples)
    elif said == measured.metrics:
        rows.confirm(AGAIN, f"it gives {_numbers(said)} on {measured.samples:,} images, to the last digit")
    elif _close(said, measured.metrics, near, OUTPUTS.get(device.type, 1e-2)):
        rows.confirm(AGAIN, f"it gives {_numbers(measured.metrics)}, as is said but for rounding")
    else:
        rows.fail(AGAIN, "it gives other numbers than are said", _numbers(said), _numbers(measured.metrics))


def _near(found: Predictions, device: torch.device) -> float:
    """The share of the images whose answer rounding may change."""
    if found.task != "classification" or found.outputs.shape[-1] < 2:
        return 0.0
    best = found.outputs.topk(2).values
    limit = 2 * OUTPUTS.get(device.type, 1e-2) * max(1.0, float(found.outputs.abs().max()))
    return float((best[:, 0] - best[:, 1] < limit).float().mean())


def _close(said: dict[str, Any], found: dict[str, float | None], near: float, rounding: float) -> bool:
    if said.keys() != found.keys():
        return False
    pairs = [(said[name], found[name]) for name in found]
    return all(
        a is not None and b is not None and abs(a - b) <= near + rounding * max(1.0, abs(b))
        for a, b in pairs
        if (a is None) != (b is None) or a != b
    )


def _numbers(metrics: dict[str, Any]) -> str:
    return ", ".join(f"{name} {'undefined' if value is None else f'{value:.4f}'}" for name, value in metrics.items())
