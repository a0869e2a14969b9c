"""Facts and pictures as `report.html`: one file without a request, rendered by jinja2 with everything escaped.

Names of classes, files and modules come from elsewhere. They are text in every place of the templates, and the page's
Content-Security-Policy lets no script run but its own, which it knows by its digest.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.metadata
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from zoo.finetuning.report import cost
from zoo.finetuning.tables import train_stages
from zoo.formats.names import grouped
from zoo.recipe.options import Average
from zoo.reporting import charts
from zoo.reporting.facts import Facts
from zoo.reporting.pictures import Pictures
from zoo.reporting.predicted import BINS

TEMPLATES = Path(__file__).parent / "templates"
GENERATOR = "zoo report"  # in a meta element: how a page is known as one that may be replaced
MOST_SQUARES = 60  # classes up to which the confusion matrix has names and squares
MOST_LABELS = 24  # labels whose curves are drawn
MOST_GROUPS = 120  # parameter groups that are listed
MOST_CHANGED = 10


def render(template: str, **values: Any) -> str:
    """A template of this package as text."""
    script = (TEMPLATES / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    own = {
        "style": (TEMPLATES / "style.css").read_text(encoding="utf-8"),
        "script": script,
        "script_digest": digest,
        "generator": GENERATOR,
        "version": importlib.metadata.version("zoo-kit"),
    }
    text: str = _environment().get_template(template).render(**values, **own)
    return text


def fragment(macro: str, *values: Any) -> str:
    """What a macro of this package makes of values, as text."""
    macros = _environment().get_template("macros.html.jinja").module
    return str(getattr(macros, macro)(*values))


@functools.cache
def _environment() -> Any:
    import jinja2

    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True)
    environment.filters["file_name"] = lambda name: PurePath(str(name)).name
    environment.filters["grouped"] = lambda names: ", ".join(grouped(names))
    return environment


def page(facts: Facts, pictures: Pictures) -> str:
    """The page of one run."""
    report = facts["report"] or {}
    trains = train_stages(report.get("stages", []))
    values = {
        "title": f"{facts['name']} – zoo",
        "facts": facts,
        "pictures": pictures,
        "notes": [*facts["notes"], *pictures.notes],
        "tiles": list(_tiles(facts)),
        "curves": [*sweeps(report), *curves(facts["epochs"] or []), *_lines(trains)],
        "groups": (groups := _groups(trains)),
        "staggered": any(group.get("from_epoch", 1) > 1 for group in groups),
        "averages": list(_averages(trains)),
        "thawed": [stage for stage in trains if stage.get("phases")],
        "loads": [load for load in (report.get("weights"), *report.get("stages", [])) if load and "coverage" in load],
        "proofs": [stage for stage in trains if stage.get("freeze_proof")],
        "stages": [_stage(stage) for stage in report.get("stages", [])],
        "changes": _changes(pictures.layers),
        "most_changed": sorted(filter(_changed, pictures.layers), key=lambda row: -row["change"])[:MOST_CHANGED],
        **_predicted(facts["predicted"] or {}),
    }
    return render("report.html.jinja", **values, sections=list(_sections(values)))


def _sections(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the bar at the top leads to: the sections that there are."""
    facts, pictures = values["facts"], values["pictures"]
    report, predicted = facts["report"] or {}, facts["predicted"] or {}
    there = {
        "measured": ("Measured", report.get("evaluation")),
        "curves": ("Curves", values["curves"]),
        "confusion": ("Confusion", "matrix" in predicted),
        "samples": ("Samples", pictures.thumbnails),
        "classes": ("Labels" if "labels" in predicted else "Classes", {"classes", "labels"} & predicted.keys()),
        "targets": ("Targets", values["targets"]),
        "calibration": ("Calibration", "calibration" in predicted),
        "batch": ("First batch", pictures.first_batch),
        "weights": ("Weights", report.get("stages") or pictures.tree),
        "time": ("Time", report.get("stages")),
        "recipe": ("Recipe", True),
        "environment": ("Environment", report.get("environment")),
    }
    yield from ((key, label) for key, (label, shown) in there.items() if shown)


def _tiles(facts: Facts) -> Iterator[dict[str, str]]:
    """The numbers at the top: what was measured, on what, of how many parameters, in what time."""
    report = facts["report"] or {}
    evaluation = report.get("evaluation")
    if evaluation:
        measured = evaluation["parts"][evaluation["part"]]
        for name, value in sorted(measured["metrics"].items(), key=lambda pair: pair[0] == "loss"):
            pair = measured["intervals"].get(name)
            between = f"{pair[0]:.4f} to {pair[1]:.4f}" if pair else "no interval"
            shown = "undefined" if value is None else f"{value:.4f}"
            yield {"name": f"{name}, {evaluation['part']}", "value": shown, "more": between}
    if data := report.get("data"):
        sizes = " + ".join(f"{data[part]:,} {part}" for part in ("validation", "test") if part in data)
        yield {"name": "images", "value": f"{data['train']:,}", "more": f"training + {sizes}" if sizes else "training"}
    trains = [stage for stage in report.get("stages", []) if "trainable" in stage]
    if trains:
        last = trains[-1]
        total = last["trainable"] + last["frozen"]
        more = f"{last['trainable'] / max(total, 1):.1%} trained in the last step"
        yield {"name": "parameters", "value": _short(total), "more": more}
    if "seconds" in report:
        yield {"name": "time", "value": _clock(report["seconds"]), "more": f"on {report['device']}"}


def _short(count: int) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {letter}"
    return str(count)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}:{minutes:02}:{rest:02}"
    return f"{minutes}:{rest:02} min" if minutes else f"{seconds:.1f} s"


def curves(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Charts over all epochs of all steps: losses, metrics, learning rates, images a second and memory."""
    steps = list(dict.fromkeys(row["step"] for row in rows))
    edges = [next(place for place, row in enumerate(rows) if row["step"] == step) for step in steps] + [len(rows)]
    bands = [(edges[n] + 0.5, edges[n + 1] + 0.5, f"step {step:.0f}") for n, step in enumerate(steps)]
    bands = bands if len(bands) > 1 else []
    names = list(dict.fromkeys(name for row in rows for name in row))

    def series(chosen: Mapping[str, str], scale: float = 1.0) -> dict[str, list[tuple[float, Any]]]:
        return {
            label: [(place, row[name] * scale) for place, row in enumerate(rows, 1) if row.get(name) is not None]
            for name, label in chosen.items()
        }

    metrics = {name: name.removeprefix("validation_") for name in names if name.startswith("validation_")}
    losses = {"loss": "training", "validation_loss": "validation"}
    metrics.pop("validation_loss", None)
    rates = {name: name.replace("lr_", "group ") for name in names if name.startswith("lr_")}
    rates = _different(rows, rates)
    rates = rates if 1 < len(rates) <= 8 else {"lr": ""}
    drawn = [
        charts.line_chart("Loss", series(losses), x_label="epoch", bands=bands),
        charts.line_chart("Metrics on the validation data", series(metrics), x_label="epoch", bands=bands),
        charts.line_chart("Learning rate", series(rates), x_label="epoch", bands=bands, floor=0.0),
        charts.line_chart("Images a second", series({"images_per_second": ""}), x_label="epoch", bands=bands, floor=0),
        charts.line_chart("Peak memory, GB", series({"peak_memory": ""}, 1e-9), x_label="epoch", bands=bands, floor=0),
    ]
    return [chart for chart in drawn if chart]


def sweep(stage: Mapping[str, Any]) -> dict[str, Any] | None:
    """The chart of a learning-rate finder: the loss over the logarithm of the rate, and what it suggests."""
    points = [(math.log10(rate), loss, smoothed) for rate, loss, smoothed in stage["points"]]
    top = max((smoothed for _, _, smoothed in points), default=0.0)  # single losses behind the end are far above it
    series: dict[str, list[tuple[float, Any]]] = {
        "loss": [(x, min(loss, top)) for x, loss, _ in points],
        "smoothed": [(x, smoothed) for x, _, smoothed in points],
    }
    for how, rate in stage["suggestions"].items():
        place = math.log10(rate)
        near = min(points, key=lambda point: abs(point[0] - place))
        series[f"{how}: {rate:g}"] = [(place, near[2])]
    chart = charts.line_chart(f"Learning rate, step {stage['step']}", series, x_label="learning rate (logarithmic)")
    if chart is not None:
        chart["x_ticks"] = [(x, f"{10 ** float(label):.0e}") for x, label in chart["x_ticks"] if float(label) % 1 == 0]
    return chart


def sweeps(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The charts of all learning-rate finders of a run."""
    drawn = [sweep(stage) for stage in report.get("stages", []) if "suggestions" in stage]
    return [chart for chart in drawn if chart]


def _lines(trains: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of each step that searched the line between two networks, its metric along the line and what was kept."""
    for stage in trains:
        if line := stage.get("line"):
            metric, points = line["metric"], line["points"]
            values = [(point["alpha"], point["metrics"][metric]) for point in points]
            kept = [(alpha, value) for alpha, value in values if alpha == stage["alpha"]]
            title = f"Step {stage['step']}: validation {metric} between probe and fine-tuned"
            series = {metric: values, f"kept, {stage['alpha']:g}": kept}
            if chart := charts.line_chart(title, series, x_label="alpha: 0 the probe, 1 fine-tuned"):
                yield chart


def _averages(trains: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Of each step that averaged its epochs by which rule, over which, and what the average is measured to be."""
    for stage in trains:
        if average := stage.get("average"):
            rule = next(f"{name}: {average[name]:g}" for name in Average.model_fields if name in average)
            value = average["metrics"].get(average["metric"])
            measured = "undefined" if value is None else f"{value:.4f}"
            yield {**average, "step": stage["step"], "rule": f"average: {{{rule}}}", "measured": measured}


def _different(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> dict[str, str]:
    """The columns by name and label; of those with the same values the first, with all their numbers in its label."""
    kept: dict[tuple[Any, ...], str] = {}
    labels: dict[str, str] = {}
    for name, label in columns.items():
        first = kept.setdefault(tuple(row.get(name) for row in rows), name)
        labels[first] = label if first == name else f"{labels[first]}, {label.rpartition(' ')[2]}"
    return labels


def _groups(trains: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = [
        {**group, "label": f"step {stage['step']}, group {place}"}
        for stage in trains
        for place, group in enumerate(stage.get("groups") or (), 1)
    ]
    return found if len(found) <= MOST_GROUPS else []


def _stage(stage: Mapping[str, Any]) -> dict[str, str]:
    """A row of the table of times."""
    epochs = stage.get("epochs") or []
    rates = sorted(epoch["images_per_second"] or 0 for epoch in epochs)
    memory = max((epoch.get("peak_memory") or 0 for epoch in epochs), default=0)
    return {
        "step": stage["step"],
        "action": stage["action"],
        "setting": "; ".join(filter(None, (stage.get("setting"), cost(stage), _plan(stage)))),
        "epochs": str(len(epochs) or ""),
        "trainable": f"{stage['trainable']:,}" if "trainable" in stage else "",
        "frozen": f"{stage['frozen']:,}" if "trainable" in stage else "",
        "rate": f"{rates[len(rates) // 2]:,.0f}" if rates else "",
        "memory": f"{memory / 1e9:.2f} GB" if memory else "",
        "seconds": f"{stage['seconds']:.1f}" if "seconds" in stage else "",
    }


def _plan(stage: Mapping[str, Any]) -> str:
    """That a time decided how long training was."""
    plan = stage.get("plan")
    if not plan:
        return ""
    again = f", at first {plan[0][1]}" if plan[-1][1] != plan[0][1] else ""
    return f"{plan[-1][1]} optimizer steps planned by time{again}"


def _changed(layer: Mapping[str, Any]) -> bool:
    return bool(layer["change"])


def _changes(layers: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """A bar a module, in the order of the network."""
    known = [
        (float(place), place + 1.0, float(row["change"]), f"{row['path']} ({row['kind']}): {row['change']:.3g}")
        for place, row in enumerate(layers)
        if row["change"] is not None
    ]
    return charts.bars("Change against the base weights", known, "module, from input to output")


def _predicted(predicted: Mapping[str, Any]) -> dict[str, Any]:
    """Charts of the held-out predictions."""
    names, cells = predicted.get("names", []), predicted.get("matrix", [])
    small = 0 < len(names) <= MOST_SQUARES
    orders = (predicted.get("order", []), list(range(len(names))))
    large = names and not small
    return {
        "matrices": [charts.confusion(cells, names, order) for order in orders] if small else [],
        "matrix_picture": charts.confusion_picture(cells, len(names), orders[0]) if large else None,
        "reliability_chart": charts.reliability(predicted["calibration"], BINS) if "calibration" in predicted else None,
        "label_curves": [
            charts.line_chart(_counted(row), {"": row["curve"]}, x_label="recall", equal=True)
            for row in predicted.get("labels", [])[:MOST_LABELS]
            if row["curve"]
        ],
        "targets": [
            row
            | {
                "scatter": charts.scatter(row["points"]),
                "histogram": charts.bars("Residuals", list(_histogram(row["residuals"])), "predicted - true"),
            }
            for row in predicted.get("targets", [])
        ],
    }


def _counted(row: Mapping[str, Any]) -> str:
    return f"{row['name']}, {row['support']:,} samples"


def _histogram(residuals: Mapping[str, Any]) -> Iterator[tuple[float, float, float, str]]:
    for low, high, count in zip(residuals["edges"], residuals["edges"][1:], residuals["counts"], strict=False):
        yield low, high, float(count), f"{count:,} between {low:.3g} and {high:.3g}"
