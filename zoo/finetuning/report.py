"""The report of a run: read from its report.json, and summed up for a terminal."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import InputError
from zoo.finetuning.measuring import evaluation_lines
from zoo.formats.names import grouped
from zoo.recipe import Step
from zoo.recipe.chain import step_class
from zoo.recipe.step import shown
from zoo.training.folder import PAGE

Report = dict[str, Any]


def read_report(run: str | os.PathLike[str]) -> Report:
    """The report of the run in a folder (or the `report.json` itself). Raises InputError where there is none."""
    path = Path(run)
    if path.is_dir():
        path = path / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist", suggestion="name the folder of a finished run") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read as a report: {error}") from error
    stages = report.get("stages") if isinstance(report, dict) else None
    if not isinstance(stages, list) or not all(isinstance(stage, dict) and "action" in stage for stage in stages):
        raise InputError(f"{path} is not the report of a run")
    return dict(report)


COLUMNS = ("step", "action", "epochs", "loss", "metrics", "trainable", "frozen", "images/s", "seconds")


def summary(report: Report) -> str:
    """A run in a few lines: a row for each step, the weights loaded, the proof of freezing, metrics and checkpoint."""
    rows = [(step_class(stage["action"]) or Step).row(stage) for stage in report["stages"]]
    lines = [*_table(rows), *_costs(report), *_loaded(report), *_proof(report)]
    if evaluation := report.get("evaluation"):
        lines += evaluation_lines(evaluation)
        took = f", {evaluation['seconds']:.1f} s of it to measure the checkpoint"
        lines.append(f"{report['seconds']:.1f} s on {report['device']}{took}")
    else:
        reached = ", ".join(f"{name} {shown(value)}" for name, value in report["metrics"].items())
        lines.append(f"{reached or 'nothing was measured'} after {report['seconds']:.1f} s on {report['device']}")
    if report.get("interrupted"):
        lines.append("interrupted: this is the last complete epoch")
    if report.get("failed"):
        lines.append(f"failed ({report['failed'].splitlines()[0]}): this is the last complete epoch")
    page = Path(report["checkpoint"]).with_name(PAGE)
    lines += [f"report: {page}"] if page.is_file() else []
    lines += [f"checkpoint: {report['checkpoint']}", f"next: zoo predict {report['checkpoint']} IMAGE…"]
    return "\n".join(lines)


def _table(rows: Sequence[dict[str, str]]) -> list[str]:
    """The rows as text: columns that are not empty, numbers aligned to the right."""
    used = [name for name in COLUMNS if any(row.get(name) for row in rows)]
    width = {name: max(len(name), *(len(row.get(name, "")) for row in rows)) for name in used}
    left = ("action", "metrics")

    def line(cells: dict[str, str]) -> str:
        aligned = (f"{cells.get(name, ''):{'<' if name in left else '>'}{width[name]}}" for name in used)
        return "  ".join(aligned).rstrip()

    return [line({name: name for name in used}), *map(line, rows)] if rows else []


def cost(stage: Mapping[str, Any]) -> str:
    """What a step did to fit into memory, and what compiling took; empty where it did nothing."""
    told = []
    if ran_out := stage.get("out_of_memory"):
        told.append(f"memory ran out: from step {ran_out[-1]['step']} on batches in {stage['parts']} parts")
    if stage.get("validation_parts", 1) > 1:
        told.append(f"validation batches in {stage['validation_parts']} parts")
    if blocks := stage.get("checkpointed"):
        told.append(f"gradient checkpointing of {blocks} blocks")
    if compiled := stage.get("compiled"):
        told.append(f"compiled in {compiled['seconds']:.1f} s")
    return "; ".join(told)


def _costs(report: Report) -> list[str]:
    return [f"step {stage['step']}: {said}" for stage in report["stages"] if (said := cost(stage))]


def _loaded(report: Report) -> list[str]:
    loads = [report.get("weights"), *(stage for stage in report["stages"] if "coverage" in stage)]
    lines = []
    for load in filter(None, loads):
        missing = f"; not loaded: {', '.join(grouped(load['missing']))}" if load["missing"] else ""
        left = f"; left of the file: {', '.join(grouped(load['left']))}" if load.get("left") else ""
        lines.append(f"weights: {load['weights']}, {load['coverage']:.1%} of the parameters{missing}{left}")
    return lines


def _proof(report: Report) -> list[str]:
    proofs = [stage["freeze_proof"] for stage in report["stages"] if stage.get("freeze_proof")]
    tensors = sum(proof["tensors"] for proof in proofs)
    return (
        [f"frozen: {tensors:,} tensors compared by sha256 before and after training; none changed"] if tensors else []
    )
