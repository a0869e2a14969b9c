"""`README.md` of a run: a model card with the front matter that Hugging Face's hub reads, rendered from the facts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from zoo.errors import printable
from zoo.recipe.step import shown
from zoo.reporting.facts import Facts

PIPELINES = {"classification": "image-classification", "multilabel": "image-classification"}
# identifiers that the hub knows, of those that weights say of themselves
LICENSES = {"apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-sa-4.0", "cc0-1.0",
            "cc-by-nc-sa-4.0", "openrail", "gpl-3.0", "agpl-3.0", "unlicense"}  # fmt: skip
MOST_NAMES = 30  # of classes that the card lists


def card(facts: Facts) -> str:
    """The text of the card; `facts` are those of a run with a report."""
    return "\n".join([*_front_matter(facts), "", *_body(facts), ""])


def _front_matter(facts: Facts) -> Iterator[str]:
    from huggingface_hub.repocard_data import ModelCardData

    report, checkpoint = facts["report"], facts["checkpoint"] or {}
    base, data = checkpoint.get("base_weights") or {}, report.get("data") or {}
    pipeline = PIPELINES.get(data.get("task", ""))
    license_ = str(base.get("license") or "").lower()
    known: dict[str, Any] = {"license": license_} if license_ in LICENSES else {}
    if license_ and not known:
        known = {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", license_).strip("-")[:60]}
    results = list(_results(facts, pipeline or "other"))
    described = ModelCardData(
        library_name="zoo",
        pipeline_tag=pipeline,
        tags=[tag for tag in ("zoo", pipeline, data.get("task"), report["architecture"]) if tag],
        base_model=_hub_name(base.get("name")),
        metrics=[result.metric_type for result in results] or None,
        model_name=facts["name"] if results else None,
        eval_results=results or None,
        **known,
    )
    yield from ("---", described.to_yaml().rstrip("\n"), "---")


def _hub_name(name: str | None) -> str | None:
    """`org/repo` of `hf://org/repo/file`; other names are none that the hub knows."""
    found = re.match(r"hf://([\w.-]+/[\w.-]+)", name or "")
    return found[1] if found else None


def _results(facts: Facts, task: str) -> Iterator[Any]:
    from huggingface_hub.repocard_data import EvalResult

    report, evaluation = facts["report"], facts["report"].get("evaluation")
    for part, measured in (evaluation or {"parts": {}})["parts"].items():
        for name, value in measured["metrics"].items():
            if value is None or part != evaluation["part"]:
                continue
            source = report["data"]["source"]
            interval = measured["intervals"].get(name)
            yield EvalResult(
                task_type=task,
                dataset_type=source,
                dataset_name=source,
                dataset_split=part,
                metric_type=name,
                metric_value=value,
                metric_args={"confidence_interval_95": interval} if interval else None,
            )


def _body(facts: Facts) -> Iterator[str]:
    report, checkpoint = facts["report"], facts["checkpoint"] or {}
    yield f"# {_text(facts['name'])}\n"
    if facts["state"] != "done":
        yield f"**This run did not end well ({facts['state']}):** what is here is its last complete epoch.\n"
    yield f"`{report['architecture']}`, fine-tuned with zoo. One file rebuilds it: `model.safetensors`.\n"
    yield from ("## Base weights\n", *_base(report, checkpoint), "")
    yield from ("## Data\n", *_data(report, checkpoint), "")
    yield from ("## Measured\n", *_measured(report), "")
    yield from ("## How it was trained\n", *_trained(report), "")
    yield from ("## How to load it\n", LOAD)


def _base(report: dict[str, Any], checkpoint: dict[str, Any]) -> Iterator[str]:
    base, loaded = checkpoint.get("base_weights"), report.get("weights")
    if not base and not loaded:
        yield "None: it was trained from random parameters."
        return
    name = (base or loaded or {}).get("name") or (loaded or {}).get("weights")
    covered = f", {loaded['coverage']:.1%} of the parameters" if loaded else ""
    yield f"`{_text(str(name))}`{covered}."
    if base:
        yield f"Their licence: {_text(base.get('license') or 'not known')}; sha256 `{base['sha256']}`."
        if base.get("source"):
            yield f"From {_text(base['source'])}."


def _data(report: dict[str, Any], checkpoint: dict[str, Any]) -> Iterator[str]:
    data = report.get("data")
    if not data:
        yield "None."
        return
    sizes = ", ".join(f"{data[part]:,} {part}" for part in ("train", "validation", "test") if part in data)
    yield f"`{_text(data['source'])}`: {data['task']}, {data['outputs']} outputs; {sizes} samples."
    if prepared := data.get("preprocessing"):
        yield f"Images: {_images(prepared)}."
    if names := checkpoint.get("classes"):
        more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
        what = "Values" if data["task"] == "regression" else "Classes"
        yield f"{what}: {', '.join(map(_text, names[:MOST_NAMES]))}{more}."


def _images(prepared: dict[str, Any]) -> str:
    """What an image is when it reaches the network."""
    height, width = prepared["size"]
    scaled = {None: "bytes scaled to 0..1", "dtype": "values scaled to 0..1 by their type"}
    known = prepared.get("range")
    values = f"values from {known[0]:g} to {known[1]:g} scaled to 0..1" if isinstance(known, list) else scaled[known]
    mean, std = (", ".join(f"{value:.4g}" for value in prepared[key]) for key in ("mean", "std"))
    channels = f"{prepared['channels']} channel{'s' if prepared['channels'] > 1 else ''}"
    return f"{channels}, {height} x {width} pixels, {values}, minus {mean}, by {std}"


def _measured(report: dict[str, Any]) -> Iterator[str]:
    evaluation = report.get("evaluation")
    if not evaluation:
        yield "Nothing was measured."
        return
    yield "Of the file itself, on held-out samples; behind each number its 95 % interval.\n"
    yield from ("| part | samples | metric | value | 95 % interval |", "|---|---|---|---|---|")
    for part, measured in evaluation["parts"].items():
        for name, value in measured["metrics"].items():
            pair = measured["intervals"].get(name)
            between = f"{pair[0]:.4f} to {pair[1]:.4f}" if pair else ""
            yield f"| {part} | {measured['samples']:,} | {_text(name)} | {shown(value)} | {between} |"
    if evaluation["part"] == "validation" and evaluation["chose"]:
        yield f"\nThe validation part also chose ({'; '.join(evaluation['chose'])}): new images do worse."


def _trained(report: dict[str, Any]) -> Iterator[str]:
    for stage in report["stages"]:
        epochs = f", {len(stage['epochs'])} epochs" if stage.get("epochs") else ""
        sizes = f"; {stage['trainable']:,} parameters trained, {stage['frozen']:,} frozen" if "frozen" in stage else ""
        kept = f"; kept: {1 - stage['alpha']:g} probe + {stage['alpha']:g} fine-tuned" if "alpha" in stage else ""
        yield f"- step {stage['step']}: {stage['action']}{epochs}{sizes}{kept}"
    took = f"{report['seconds']:.0f} s on {report['device']}"
    yield f"\nThe recipe is in `recipe.yaml`, every number in `report.json`. It took {took}."


LOAD = """\
```python
import zoo

model = zoo.load("model.safetensors")                      # an nn.Module in evaluation mode; model.zoo says what it is
print(zoo.predict("model.safetensors", ["photo.jpg"]))     # class names and probabilities
```

```
pip install zoo-kit
zoo predict model.safetensors photo.jpg
zoo evaluate model.safetensors
```"""


def _text(value: str) -> str:
    """A name from a file as Markdown shows it: nothing in it is markup, and it stays on its line."""
    spaced = printable(" ".join(str(value).split()))
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~])", r"\\\1", spaced).replace("&", "&amp;")
