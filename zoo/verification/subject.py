"""What is verified: a checkpoint, and the run's report beside it where that speaks of this file."""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from zoo import registry
from zoo.errors import InputError, listed
from zoo.formats import Source, open_source
from zoo.formats.checkpoint_metadata import KEY, CheckpointMetadata, read_metadata
from zoo.formats.files import Readers
from zoo.given import is_given
from zoo.training.folder import MODEL, PREDICTIONS, RECIPE, REPORT


@dataclass(frozen=True)
class Subject:
    """A checkpoint and what is known of it. `report` is that of the run that wrote it, `saved` the record of the step
    `save` that did, where it is not the finished model; `broken` says why a report beside it cannot be read."""

    path: Path
    source: Source
    metadata: CheckpointMetadata
    report: dict[str, Any] | None = None
    saved: dict[str, Any] | None = None
    broken: str | None = None

    @property
    def folder(self) -> Path:
        return self.path.parent

    @property
    def finished(self) -> dict[str, Any] | None:
        """The report, where this is the model that it speaks of."""
        return self.report if self.saved is None else None

    @property
    def predictions(self) -> Path:
        return self.folder / PREDICTIONS

    @functools.cached_property
    def stages(self) -> list[dict[str, Any]]:
        """The records of the steps behind this file, in order."""
        stages: list[dict[str, Any]] = (self.report or {}).get("stages") or []
        if self.saved is None:
            return stages
        return stages[: stages.index(self.saved)]

    @functools.cached_property
    def actions(self) -> list[str]:
        """The names of all steps of the recipe in the run's folder up to this file, recorded ones or not."""
        try:
            recipe = yaml.safe_load((self.folder / RECIPE).read_text(encoding="utf-8"))
            names = [next(iter(step)) if isinstance(step, Mapping) else str(step) for step in recipe["steps"]]
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            return [stage["action"] for stage in self.stages]
        return names if self.saved is None else names[: self.saved["step"] - 1]

    @functools.cached_property
    def unbuildable(self) -> str | None:
        """Why the network cannot be built here, through no fault of the file's; None where it can."""
        if is_given(self.metadata.architecture):
            return f"{self.metadata.architecture} has to be handed over to be built"
        there = {row.distribution for row in registry.entries()}
        needed = {self.metadata.architecture, *(operation.surgery for operation in self.metadata.operations)}
        suppliers = {self.metadata.suppliers[name] for name in needed if name in self.metadata.suppliers}
        absent = sorted(suppliers - there)
        return f"it is built by {listed(absent)}, which is not installed here, or switched off" if absent else None

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """The sha256 of the bytes of every tensor of the file, by each of its names."""
        found = {}
        with Readers() as readers:
            for name in self.source.entries:
                canonical = self.source.aliases.get(name, name)
                if canonical not in found:
                    digest = hashlib.sha256()
                    if span := self.source.byte_range(canonical):
                        for chunk in readers.chunks(span):
                            digest.update(chunk)
                    found[canonical] = digest.hexdigest()
                found[name] = found[canonical]
        return found


def report_beside(path: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None, str | None]:
    """The report in a checkpoint's folder that speaks of it, the record of the step that wrote it, and why there is
    none where it cannot be read."""
    file = path.parent / REPORT
    if not file.exists():
        return None, None, None
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        stages = report["stages"]
        saves = [stage for stage in stages if stage["action"] == "save" and Path(stage["path"]).name == path.name]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return None, None, f"{file} cannot be read as a report: {error}"
    if path.name == MODEL:
        return report, None, None
    return (report, saves[-1], None) if saves else (None, None, None)


def open_subject(path: str | os.PathLike[str]) -> Subject:
    """The checkpoint at `path`, opened. Raises InputError where it is none, or cannot be read."""
    place = Path(path)
    source = open_source(os.fspath(place))
    try:
        if KEY not in source.metadata:
            read_metadata(source.metadata, place)
        return Subject(place, source, read_metadata(source.metadata, place), *report_beside(place))
    except InputError:
        source.close()
        raise
