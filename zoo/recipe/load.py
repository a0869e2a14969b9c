"""Reads a recipe and checks all that can be known without building the model, every mistake at once."""

from __future__ import annotations

import copy
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Annotated, Any

from pydantic import Field

from zoo import registry
from zoo.errors import InputError, Location, Problem
from zoo.file_name import as_name, name_mistake
from zoo.given import absent, given_names, is_given
from zoo.recipe import references
from zoo.recipe.chain import check_chain, check_steps
from zoo.recipe.document import Document, FlagLocation, Path, label, walk
from zoo.recipe.extends import EXTENDS, SET, extended
from zoo.recipe.option_names import check_option_names, in_full
from zoo.recipe.options import CheckpointOptions, DataOptions, ModelOptions, Options, Precision, TransformName
from zoo.recipe.overrides import apply
from zoo.recipe.recipe import Recipe
from zoo.recipe.references import CheckpointReference, WeightsReference, check_checkpoint, check_remap, check_weights
from zoo.recipe.signature import Parameter, model_of
from zoo.recipe.step import Step
from zoo.recipe.validate import shown, unknown_key, validate
from zoo.recipe.yaml_reader import parse, read_text

MODEL: Path = ("model",)
DATA: Path = ("data",)


@dataclass(frozen=True)
class ModelSection:
    """The `model` section, checked, and what its names stand for."""

    options: ModelOptions
    architecture: registry.Component
    weights: WeightsReference | None = None
    checkpoint: CheckpointReference | None = None


def check_model(document: Document) -> ModelSection | None:
    """The `model` section with the architecture's full name and, for files, where weights and remap were found."""
    if "checkpoint" in document.get(MODEL):
        return _check_checkpoint(document)
    options = validate(document, MODEL, ModelOptions)
    name = document.get((*MODEL, "architecture"))
    if not isinstance(name, str):
        return None
    component = references.find_component(document, (*MODEL, "architecture"), name, "architectures")
    weights = check_weights(document, (*MODEL, "weights"), component)
    remap = check_remap(document, (*MODEL, "remap"))
    if component is None or options is None:
        return None
    _check_arguments(document, component)
    found = {"architecture": component.name, "weights": weights and weights.name, "remap": remap}
    return ModelSection(options.model_copy(update=found), component, weights)


def _check_checkpoint(document: Document) -> ModelSection | None:
    """The `model` section that goes on from a checkpoint: as if it named what the file says."""
    options = None
    if beside := [key for key in document.get(MODEL) if key in ModelOptions.model_fields]:
        for key in beside:
            message = f"model: {key} stands beside checkpoint, and the file says by itself what it is"
            document.add(
                (*MODEL, key), message, f"remove model.{key}, or write weights in place of checkpoint", at_key=True
            )
    else:
        options = validate(document, MODEL, CheckpointOptions)
    found = check_checkpoint(document, (*MODEL, "checkpoint"))
    if options is None or found is None:
        return None
    name = found.record.architecture
    component = references.find_component(document, (*MODEL, "checkpoint"), name, "architectures")
    if component is None:
        return None
    return ModelSection(
        ModelOptions(architecture=component.name, arguments=found.record.arguments), component, checkpoint=found
    )


def _check_arguments(document: Document, component: registry.Component) -> None:
    """An architecture of its own has a signature; one from a source is judged by the library when it is built."""
    loaded = references.load(document, (*MODEL, "architecture"), component)
    if loaded is None or component.member is not None or references.accepts_anything(loaded):
        return
    given = document.get((*MODEL, "arguments"), {})
    validate(document, (*MODEL, "arguments"), model_of(references.parameters_of(loaded, "architectures")), given)


def check_data(document: Document) -> tuple[DataOptions, registry.Component] | None:
    """The `data` section, arguments gathered from beside the options and from `arguments`, and the dataset it names."""
    if document.get(DATA) is None:
        return None
    _check_transform(document)
    check_option_names(document, DATA, DataOptions)
    name = document.get((*DATA, "source"))
    component = (
        references.find_component(document, (*DATA, "source"), name, "datasets") if isinstance(name, str) else None
    )
    loaded = references.load(document, (*DATA, "source"), component) if component else None
    known = references.parameters_of(loaded, "datasets") if loaded else {}
    unjudged = loaded is None or references.accepts_anything(loaded)
    beside = {key: value for key, value in known.items() if key not in DataOptions.model_fields}
    model = model_of(beside, base=DataOptions, optional=True, extra="ignore" if unjudged else "forbid")
    options = validate(document, DATA, model)
    if component is None:  # the dataset's own keys are not known, but a slip of a common one can be seen
        for key in document.get(DATA):
            if key not in DataOptions.model_fields and difflib.get_close_matches(key, DataOptions.model_fields, 1, 0.8):
                unknown_key(document, (*DATA, key), list(DataOptions.model_fields))
    if component is None or loaded is None or options is None:
        return None
    arguments = _gather(document, known, unjudged)
    _check_download(document, known, arguments)
    _check_preprocessing(document)
    _check_both(document)
    own = {key: getattr(options, key) for key in DataOptions.model_fields}
    return DataOptions(**{**own, "source": component.name, "arguments": arguments}), component


def _gather(document: Document, known: dict[str, Parameter], unjudged: bool) -> dict[str, Any]:
    """The component's arguments from both places; what is missing or given twice is a mistake."""
    under: dict[str, Any] = document.get((*DATA, "arguments"), {})
    model = model_of(known, optional=True, extra="allow" if unjudged else "forbid")
    validate(document, (*DATA, "arguments"), model, under)
    own = DataOptions.model_fields
    beside = {key: value for key, value in document.get(DATA).items() if key not in own}
    for key in beside.keys() & under.keys():
        document.add(
            (*DATA, "arguments", key), f"{label(DATA)}: {key} is given twice", f"remove data.{key}", at_key=True
        )
    for key, parameter in known.items():
        if parameter.required and key not in beside and key not in under:
            where = f"{label(DATA)}: {document.get((*DATA, 'source'))}"
            document.add(DATA, f"{where} needs {key}", f"write {key}: …", at_key=True)
    return {**under, **beside}


def _check_download(document: Document, known: dict[str, Parameter], arguments: dict[str, Any]) -> None:
    """Note a download to elsewhere than below the current directory; only a `--set` may send it there."""
    fetches = "download" in known and arguments.get("download", known["download"].default) is True
    root = arguments.get("root")
    if not fetches or not isinstance(root, str):
        return
    path = next(path for path in ((*DATA, "root"), (*DATA, "arguments", "root")) if document.get(path) is not None)
    if isinstance(document.value(path), FlagLocation):
        return
    parts = PureWindowsPath(root).parts  # splits at both kinds of separators, and knows drives
    if PurePosixPath(root).is_absolute() or PureWindowsPath(root).anchor or ".." in parts or root.startswith("~"):
        message = f"{label(path)}: download would write into {root}, outside the current directory"
        hint = f"write download: false if the data is there, or allow it with --set {label(path)}={root}"
        document.add(path, message, hint)


def _check_transform(document: Document) -> None:
    """A transform of Python code's is there only where the code handed it over."""
    name = document.get((*DATA, "augmentation"))
    if is_given(name) and name not in given_names("transforms"):
        (missing,) = absent("transforms", name).problems
        document.add((*DATA, "augmentation"), missing.message, missing.suggestion)


def _check_both(document: Document) -> None:
    """One way of changing training images at a time."""
    name = document.get((*DATA, "augmentation"), "none")
    if name != "none" and document.get((*DATA, "transforms")):
        message = f"data.augmentation: {name} stands beside transforms"
        document.add((*DATA, "augmentation"), message, "write it among the transforms, or remove them", at_key=True)


def _check_preprocessing(document: Document) -> None:
    """What one option says about another: mean and std go together, channel by channel."""
    mean, std = document.get((*DATA, "mean")), document.get((*DATA, "std"))
    if isinstance(mean, list) and isinstance(std, list) and len(mean) != len(std):
        document.add((*DATA, "std"), f"data.std has {len(std)} values, data.mean has {len(mean)}", "one a channel")
    if isinstance(std, list) and not all(value > 0 for value in std):
        document.add((*DATA, "std"), "data.std: every value has to be above 0")


_DEVICE = r"^(auto|cpu|mps|(cuda|xpu|npu|hpu)(:[0-9]+)?)$"
_START = "write model: ARCHITECTURE and steps: [...]"


class Sections(Options):
    """The top of a recipe."""

    extends: str | list[str] | None = None
    """A recipe, or several, that this one changes: files beside it. What it says itself goes over theirs: mappings
    key by key, anything else entire."""
    set: dict[str, Any] | None = None
    """Single values of what it extends, by keys as `--set` takes them: `{train.lr: 0.1}`."""
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


SECTIONS = [name for name in Sections.model_fields if name not in (EXTENDS, SET)]  # once it is one document


def load_recipe(path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read the recipe at `path`, lay `--set` overrides over it and check it.

    Raises InputError with all mistakes, sorted by their place, each with the nearest valid thing.
    """
    document = parse(read_text(path), path)
    return check_recipe(document, overrides)


def check_recipe(document: Document, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in a document. Raises InputError with all mistakes."""
    if not isinstance(document.data, dict):
        what = "is empty" if document.data is None else f"contains {shown(document.data)}, not sections"
        document.add((), f"the recipe {what}", _START)
        raise InputError(_sorted(document.problems))
    document = extended(document, SECTIONS)
    apply(document, overrides, SECTIONS)
    sections = validate(document, (), Sections)
    _check_name(document)
    model = check_model(document) if isinstance(document.get(("model",)), dict) else None
    data = check_data(document) if isinstance(document.get(("data",)), dict) else None
    steps = check_steps(document)
    check_chain(document, steps)
    _check_finite(document)
    if document.problems:
        raise InputError(_sorted(document.problems))
    assert sections is not None
    assert model is not None
    components: list[registry.Component] = []
    chain = tuple(step.in_full(components) for step in steps if step is not None)
    options = data and data[0].model_copy(
        update={"transforms": in_full(list[TransformName], data[0].transforms, components)}
    )
    return Recipe(
        path=document.file,
        name=sections.name if sections.name is not None else as_name(PurePath(document.file).stem),
        seed=sections.seed,
        model=model.options,
        data=options,
        steps=chain,
        device=sections.device,
        precision=sections.precision,
        resolved=_in_full(document.data, options, chain),
        architecture=model.architecture,
        weights=model.weights,
        checkpoint=model.checkpoint,
        dataset=data and data[1],
        document=document,
        components=tuple(dict.fromkeys(components)),
    )


def _in_full(written: dict[str, Any], data: DataOptions | None, steps: Sequence[Step]) -> dict[str, Any]:
    """The recipe as written, with the names of plugins' components as `data` and `steps` have them."""
    resolved = copy.deepcopy(written)
    if data is not None and data.transforms:
        resolved["data"]["transforms"] = copy.deepcopy(data.transforms)
    for step in steps:
        given = resolved["steps"][step.place.index][step.place.action]
        for key in given if isinstance(given, dict) else ():
            if key in step.named:
                given[key] = copy.deepcopy(step.named[key])
    return resolved


def _check_name(document: Document) -> None:
    """A run's folder lies in `checkpoints/`, whatever a shared recipe says."""
    name = document.get(("name",))
    if isinstance(name, str) and (mistake := name_mistake(name)):
        message = f"name: {shown(name)} cannot name the run's folder: {mistake}"
        document.add(("name",), message, f"write name: {as_name(name)}")


def _check_finite(document: Document) -> None:
    """Every number has to be finite: a checkpoint records what it was made with as JSON, which has no others."""
    noted = {problem.location for problem in document.problems}
    for path, value in walk(document.data):
        if isinstance(value, float) and not math.isfinite(value) and document.value(path) not in noted:
            message = f"{label(path)}: expected a finite number, got {shown(value)}"
            document.add(path, message, "a checkpoint could not record it")


def _sorted(problems: Sequence[Problem]) -> list[Problem]:
    """In the order of the file, those of the command line last; each said once."""

    def place(problem: Problem) -> tuple[bool, str, int, int]:
        at = problem.location or Location("", 0, 0)
        return isinstance(at, FlagLocation), at.file, at.line, at.column

    return sorted(dict.fromkeys(problems), key=place)
