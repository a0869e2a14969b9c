"""Checks the sections `model` and `data` against their options and the components they name."""

from __future__ import annotations

import difflib
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from zoo import registry
from zoo.recipe import components
from zoo.recipe.document import Document, FlagLocation, Path, label
from zoo.recipe.signature import Parameter, model_of
from zoo.recipe.steps import DataOptions, ModelOptions
from zoo.recipe.validate import unknown_key, validate
from zoo.recipe.weights import check_remap, check_weights

MODEL: Path = ("model",)
DATA: Path = ("data",)


def check_model(document: Document) -> ModelOptions | None:
    """The `model` section with the architecture's full name and, for a file, where its weights were found."""
    options = validate(document, MODEL, ModelOptions)
    name = document.get((*MODEL, "architecture"))
    if not isinstance(name, str):
        return None
    component = components.find(document, (*MODEL, "architecture"), name, "architectures")
    weights = check_weights(document, (*MODEL, "weights"), component)
    check_remap(document, (*MODEL, "remap"))
    if component is None or options is None:
        return None
    _check_arguments(document, component)
    return options.model_copy(update={"architecture": component.name, "weights": weights})


def _check_arguments(document: Document, component: registry.Component) -> None:
    """An architecture of its own has a signature; one from a source is judged by the library when it is built."""
    loaded = components.load(document, (*MODEL, "architecture"), component)
    if loaded is None or component.member is not None or components.accepts_anything(loaded):
        return
    given = document.get((*MODEL, "arguments"), {})
    validate(document, (*MODEL, "arguments"), model_of(components.parameters_of(loaded, "architectures")), given)


def check_data(document: Document) -> DataOptions | None:
    """The `data` section, the component's arguments gathered from beside the options and from `arguments`."""
    if document.get(DATA) is None:
        return None
    name = document.get((*DATA, "source"))
    component = components.find(document, (*DATA, "source"), name, "datasets") if isinstance(name, str) else None
    loaded = components.load(document, (*DATA, "source"), component) if component else None
    known = components.parameters_of(loaded, "datasets") if loaded else {}
    unjudged = loaded is None or components.accepts_anything(loaded)
    beside = {key: value for key, value in known.items() if key not in DataOptions.model_fields}
    model = model_of(beside, base=DataOptions, optional=True, extra="ignore" if unjudged else "forbid")
    options = validate(document, DATA, model)
    if component is None:  # what belongs to the dataset cannot be told, but a slip of a common key can
        for key in document.get(DATA):
            if key not in DataOptions.model_fields and difflib.get_close_matches(key, DataOptions.model_fields, 1, 0.8):
                unknown_key(document, (*DATA, key), list(DataOptions.model_fields))
    if component is None or loaded is None or options is None:
        return None
    arguments = _gather(document, known, unjudged)
    _check_download(document, known, arguments)
    _check_preprocessing(document)
    own = {key: getattr(options, key) for key in DataOptions.model_fields}
    return DataOptions(**{**own, "source": component.name, "arguments": arguments})


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


def _check_preprocessing(document: Document) -> None:
    """What one option says about another: mean and std go together, channel by channel."""
    mean, std = document.get((*DATA, "mean")), document.get((*DATA, "std"))
    if mean is not None and std is not None and len(mean) != len(std):
        document.add((*DATA, "std"), f"data.std has {len(std)} values, data.mean has {len(mean)}", "one a channel")
    if std is not None and not all(value > 0 for value in std):
        document.add((*DATA, "std"), "data.std: every value has to be above 0")
