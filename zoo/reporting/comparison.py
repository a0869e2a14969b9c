"""Several runs side by side: `zoo report A B …`."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.finetuning.tables import train_stages
from zoo.reporting import charts
from zoo.reporting.facts import Facts
from zoo.reporting.page import render

MOST_CLASSES = 1000
Cell = tuple[str, str]


def comparison(runs: Sequence[Facts]) -> str:
    """The page of several runs' numbers, curves, classes and recipes."""
    labels = _labels(runs)
    values = {
        "title": " · ".join(labels),
        "runs": [{"label": label} for label in labels],
        "notes": [f"{label}: {note}" for label, facts in zip(labels, runs, strict=True) for note in facts["notes"]],
        "rows": list(_rows(runs)),
        "curves": _curves(labels, runs),
        "classes": _classes(runs),
        "differences": [
            {"label": label, "lines": _difference(runs[0], facts)}
            for label, facts in zip(labels[1:], runs[1:], strict=True)
        ],
    }
    return render("compare.html.jinja", **values)


def _labels(runs: Sequence[Facts]) -> list[str]:
    """The folders' names, with as much of the path in front as distinguishes them."""
    paths = [Path(facts["folder"]).absolute().parts for facts in runs]
    for length in range(1, max(map(len, paths)) + 1):
        labels = ["/".join(path[-length:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    return [f"{label} ({place})" for place, label in enumerate(labels, 1)]


def _rows(runs: Sequence[Facts]) -> Iterator[tuple[str, list[Cell]]]:
    measured = [_measured(facts) for facts in runs]
    names = sorted(dict.fromkeys(name for found in measured for name in found), key=lambda name: name == "loss")
    yield "ended", [(facts["state"], "") for facts in runs]
    yield from ((name, [found.get(name, ("", "")) for found in measured]) for name in names)
    told = [dict(_told(facts)) for facts in runs]
    for name in dict.fromkeys(name for found in told for name in found):
        yield name, [(found.get(name, ""), "") for found in told]


def _measured(facts: Facts) -> dict[str, Cell]:
    evaluation = (facts["report"] or {}).get("evaluation")
    if not evaluation:
        return {}
    part = evaluation["part"]
    found = evaluation["parts"][part]
    cells = {}
    for name, value in found["metrics"].items():
        pair = found["intervals"].get(name)
        between = f"{pair[0]:.4f} to {pair[1]:.4f}, {part}" if pair else part
        cells[name] = ("undefined" if value is None else f"{value:.4f}", between)
    return cells


def _told(facts: Facts) -> Iterator[tuple[str, str]]:
    report = facts["report"] or {}
    if not report:
        return
    yield "architecture", report["architecture"]
    yield "weights", (report.get("weights") or {}).get("weights") or "none"
    if data := report.get("data"):
        yield "data", data["source"]
        yield "samples", ", ".join(f"{data[part]:,} {part}" for part in ("train", "validation", "test") if part in data)
    trains = train_stages(report["stages"])
    yield "epochs", ", ".join(str(len(stage["epochs"])) for stage in trains)
    yield "trainable parameters", ", ".join(f"{stage['trainable']:,}" for stage in trains)
    if calibration := (facts["predicted"] or {}).get("calibration"):
        yield "calibration error", f"{calibration['error']:.4f}"
    yield "seconds", f"{report['seconds']:.1f}"
    yield "device", report["environment"].get("device") or report["device"]


def _curves(labels: Sequence[str], runs: Sequence[Facts]) -> list[dict[str, Any]]:
    """A chart for every number that runs have a column of, a line a run."""
    tables = [facts["epochs"] or [] for facts in runs]
    names = dict.fromkeys(name for rows in tables for row in rows for name in row)
    wanted = ["loss", *(name for name in names if name.startswith("validation_"))]
    titles = {"loss": "Training loss"}
    found = []
    for name in wanted:
        lines = {
            label: [(place, row.get(name)) for place, row in enumerate(rows, 1)]
            for label, rows in zip(labels, tables, strict=True)
        }
        title = titles.get(name, name.replace("validation_", "Validation "))
        found.append(charts.line_chart(title, lines, x_label="epoch"))
    return [chart for chart in found if chart]


def _classes(runs: Sequence[Facts]) -> list[dict[str, Any]]:
    """Recall by class, those first of which runs differ most."""
    found = []
    for facts in runs:
        predicted: Mapping[str, Any] = facts["predicted"] or {}
        rows = predicted.get("classes") or predicted.get("labels") or []
        found.append({row["name"]: row["recall"] for row in rows})
    rows = []
    for name in dict.fromkeys(name for recalls in found for name in recalls):
        recall = [recalls.get(name) for recalls in found]
        known = [value for value in recall if value is not None]
        rows.append({"name": name, "recall": recall, "spread": max(known) - min(known) if known else 0.0})
    return sorted(rows, key=lambda row: -row["spread"])[:MOST_CLASSES]


def _difference(one: Facts, other: Facts) -> list[tuple[str, str]]:
    """What differs in two recipes as they were carried out, as lines of a unified diff."""
    before, after = ((facts["recipe"]["pinned"] or "").splitlines() for facts in (one, other))
    lines = list(difflib.unified_diff(before, after, n=2, lineterm=""))[2:]
    kinds = {"+": "add", "-": "del"}
    return [(kinds.get(line[:1], ""), line) for line in lines]
