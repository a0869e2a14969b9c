"""Reads a recipe and checks all that can be known without building the model, every mistake at once."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import Field

from zoo.errors import InputError, Location, Problem
from zoo.file_name import as_name, name_mistake
from zoo.recipe.actions import check_steps
from zoo.recipe.document import Document, FlagLocation
from zoo.recipe.overrides import apply
from zoo.recipe.parse import parse
from zoo.recipe.recipe import Recipe
from zoo.recipe.sections import check_data, check_model
from zoo.recipe.semantics import check_chain
from zoo.recipe.steps import Options, Precision
from zoo.recipe.text import read_text
from zoo.recipe.validate import validate
from zoo.recipe.words import shown

_DEVICE = r"^(auto|cpu|mps|(cuda|xpu|npu|hpu)(:[0-9]+)?)$"
_START = "write model: ARCHITECTURE and steps: [...]"


class Sections(Options):
    """The top of a recipe."""

    name: str | None = None
    """What the run is called, one plain file name: without `--output` its folder is `checkpoints/NAME`. The recipe
    file's name without it."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Decides all that is random: fresh parameters, the split, the order, augmentation."""
    model: dict[str, Any]
    """What is built and which weights go in."""
    data: dict[str, Any] | None = None
    """Where samples come from and how they become batches."""
    steps: Annotated[list[Any], Field(min_length=1)]
    """The chain: what happens to the model, in this order."""
    device: Annotated[str, Field(pattern=_DEVICE, examples=["auto", "cpu", "cuda", "cuda:1", "mps"])] = "auto"
    """`auto`, or a torch device: `cpu`, `cuda`, `cuda:1`, `mps`."""
    precision: Precision = "auto"
    """What trains in: `auto` goes by the device."""


def load_recipe(path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe at `path`, lay `--set` overrides over it and check it.

    Raises InputError with all mistakes, sorted by their place, each with the nearest valid thing.
    """
    document = parse(read_text(path), path)
    return check_recipe(document, overrides)


def check_recipe(document: Document, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe a document holds. Raises InputError with all mistakes."""
    if not isinstance(document.data, dict):
        what = "is empty" if document.data is None else f"holds {shown(document.data)}, not sections"
        document.add((), f"the recipe {what}", _START)
        raise InputError(_sorted(document.problems))
    apply(document, overrides, list(Sections.model_fields))
    sections = validate(document, (), Sections)
    _check_name(document)
    model = check_model(document) if isinstance(document.get(("model",)), dict) else None
    data = check_data(document) if isinstance(document.get(("data",)), dict) else None
    steps = check_steps(document)
    check_chain(document, steps)
    if document.problems:
        raise InputError(_sorted(document.problems))
    assert sections is not None
    assert model is not None
    return Recipe(
        path=document.file,
        name=sections.name if sections.name is not None else as_name(PurePath(document.file).stem),
        seed=sections.seed,
        model=model,
        data=data,
        steps=tuple(step for step in steps if step is not None),
        device=sections.device,
        precision=sections.precision,
        resolved=copy.deepcopy(document.data),
        document=document,
    )


def _check_name(document: Document) -> None:
    """A run's folder lies in `checkpoints/`, whatever a shared recipe says."""
    name = document.get(("name",))
    if isinstance(name, str) and (mistake := name_mistake(name)):
        message = f"name: {shown(name)} cannot name the run's folder: {mistake}"
        document.add(("name",), message, f"write name: {as_name(name)}")


def _sorted(problems: Sequence[Problem]) -> list[Problem]:
    """In the order of the file, those of the command line last; each said once."""

    def place(problem: Problem) -> tuple[bool, int, int]:
        at = problem.location or Location("", 0, 0)
        return isinstance(at, FlagLocation), at.line, at.column

    return sorted(dict.fromkeys(problems), key=place)
