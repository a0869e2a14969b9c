"""The README.md that goes with a checkpoint to the Hugging Face hub: the run's own card, or one made of the file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from zoo.errors import printable
from zoo.formats.checkpoint_metadata import CheckpointMetadata
from zoo.formats.remote import PREFIX

NAME = "README.md"
_PIPELINES = {"classification": "image-classification"}
_LARGEST = 2**20  # bytes of a README.md that is taken for a card
_SHOWN = 50  # class names
_FRONT = re.compile(r"---\r?\n.*?\r?\n---\r?\n", re.S)


def card_beside(checkpoint: Path) -> str | None:
    """The model card beside a checkpoint, a README.md that begins with the hub's YAML front matter; None where there is
    none: any other README.md is somebody's text about something else."""
    path = checkpoint.parent / NAME
    try:
        text = path.read_text("utf-8") if path.stat().st_size <= _LARGEST else ""
    except (OSError, ValueError):
        return None
    return text if _FRONT.match(text) else None


def minimal_card(repository: str, record: CheckpointMetadata) -> str:
    """A card of what the checkpoint says of itself: architecture, base weights, classes, measurements, how to load."""
    front = yaml.safe_dump(_front(record), sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n" + "\n".join(_lines(repository, record)) + "\n"


def _front(record: CheckpointMetadata) -> dict[str, Any]:
    base = record.base_weights
    found: dict[str, Any] = {"library_name": "zoo", "tags": ["zoo"]}
    if pipeline := _PIPELINES.get(record.task):
        found["pipeline_tag"] = pipeline
    if base is not None and base.license:
        found["license"] = base.license
    if base is not None and base.location is not None and base.location.startswith(PREFIX):
        found["base_model"] = "/".join(base.location.removeprefix(PREFIX).partition("@")[0].split("/")[:2])
    return found


def _lines(repository: str, record: CheckpointMetadata) -> Iterator[str]:
    yield f"# {repository.rpartition('/')[2]}"
    yield ""
    yield f"A {_text(record.architecture)} for {record.task}, written by zoo."
    yield ""
    if base := record.base_weights:
        local = PurePosixPath(base.name).is_absolute() or PureWindowsPath(base.name).is_absolute()
        yield f"- base weights: {_text(PureWindowsPath(base.name).name if local else base.name)}"
    if record.classes:
        more = f" and {len(record.classes) - _SHOWN:,} more" if len(record.classes) > _SHOWN else ""
        what = "values" if record.task == "regression" else "classes"
        yield f"- {len(record.classes)} {what}: {', '.join(map(_text, record.classes[:_SHOWN]))}{more}"
    if record.preprocessing is not None:
        yield f"- images: {record.preprocessing.size[0]} x {record.preprocessing.size[1]} pixels"
    for name, value in record.metrics.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield f"- {_text(str(name))}: {value:.4f}" if isinstance(value, float) else f"- {_text(str(name))}: {value}"
    yield ""
    yield "```python"
    yield "import zoo"
    yield ""
    yield f'model = zoo.load("{PREFIX}{repository}")'
    yield "```"
    yield ""
    yield f"or in a recipe: `model: {{checkpoint: {PREFIX}{repository}}}`."


def _text(value: str) -> str:
    """A name from the file as Markdown shows it: letters that would be markup are escaped."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", printable(value))
