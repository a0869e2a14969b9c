"""`config.json`, as transformers publishes it beside weights: the arguments of an architecture, and class names.

Nothing in one is run: `auto_map`, which names Python files of the repository, is not looked at.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.api import InputError, file_beside
from zoo.errors import did_you_mean
from zoo_huggingface import catalogue

LARGEST = 2**22  # bytes of a JSON file that is read; 21,841 class names take one
_RECORDS = {  # what one says of the program that wrote it, of its training, and of outputs that nobody reads here
    "transformers_version", "architectures", "output_hidden_states", "output_attentions", "return_dict", "dtype",
    "torch_dtype", "is_encoder_decoder", "id2label", "label2id", "problem_type", "model_type", "auto_map",
}  # fmt: skip


@dataclass(frozen=True)
class Configuration:
    """What a `config.json` says. `is_bare` is whether its weights are those of a network without a head."""

    model_type: str
    arguments: dict[str, Any]
    classes: tuple[str, ...] | None
    is_bare: bool


def read_configuration(location: str) -> Configuration | None:
    """What the `config.json` beside weights, in a folder, or in a repository of the hub says; None where there is none.

    Raises InputError for one that is damaged, or of no image network.
    """
    path = file_beside(location, "config.json")
    if path is None:
        return None
    said = read_json(path)
    kind = said.get("model_type")
    if kind not in (known := catalogue.classifiers() | catalogue.backbones()):
        raise _no_image_network(location, kind, known)
    labels, arguments = said.get("id2label"), _known(class_of(kind), said)
    if kind in catalogue.classifiers():
        arguments["num_labels"] = len(labels) if isinstance(labels, dict) else said.get("num_labels", 2)
    written = said.get("architectures") or [""]
    bare = "ForImageClassification" not in str(written[0])
    return Configuration(kind, arguments, _class_names(labels), bare)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file's mapping. Raises InputError naming the file where it has none."""
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path} is larger than {LARGEST:,} bytes: no configuration is")
        said = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(said, dict):
        raise InputError(f"{path} contains no mapping")
    return said


def class_of(kind: str) -> type[Any]:
    """The configuration's class of a model type."""
    from transformers import CONFIG_MAPPING

    found: type[Any] = CONFIG_MAPPING[kind]
    return found


def check_names(kind: str, arguments: Mapping[str, Any]) -> None:
    """Raises InputError for arguments that a model type's configuration does not name.

    It would take them all the same: most it would never use, and some choose code of the hub's that is run.
    """
    _check(f"huggingface/{kind}", class_of(kind), arguments)


def _check(owner: str, configuration: type[Any], arguments: Mapping[str, Any]) -> None:
    known, inner = _fields(configuration), _inner(configuration)
    for key, value in arguments.items():
        if key not in known:
            hint = did_you_mean(key, known) or {"num_classes": "write num_labels"}.get(key)
            raise InputError(f"{owner} takes no argument {key!r}", suggestion=hint)
        if key in inner and isinstance(value, Mapping):
            _check(f"{owner}, {key}", inner[key], value)


def _known(configuration: type[Any], said: Mapping[str, Any]) -> dict[str, Any]:
    """What a file says of the fields of a configuration, and of those inside it."""
    known, inner = _fields(configuration), _inner(configuration)
    return {
        key: _known(inner[key], value) if key in inner and isinstance(value, Mapping) else value
        for key, value in said.items()
        if key in known
    }


def _fields(configuration: type[Any]) -> set[str]:
    """The names that a configuration takes, `num_labels` among them."""
    named = inspect.signature(configuration).parameters.values()
    own = {parameter.name for parameter in named if parameter.kind is not parameter.VAR_KEYWORD}
    own |= {*getattr(configuration, "attribute_map", ()), "num_labels"}
    return {name for name in own if not name.startswith("_")} - _RECORDS


def _inner(configuration: type[Any]) -> dict[str, type[Any]]:
    """The classes of the configurations inside a configuration, by their names there."""
    return dict(getattr(configuration, "sub_configs", {}))


def _class_names(labels: Any) -> tuple[str, ...] | None:
    """The class names by index; None where there are none, or those that transformers makes up (LABEL_0)."""
    if not isinstance(labels, dict):
        return None
    try:
        names = tuple(str(labels[key]) for key in sorted(labels, key=int))
    except ValueError:
        return None
    return None if all(name == f"LABEL_{index}" for index, name in enumerate(names)) else names


def _no_image_network(location: str, kind: Any, known: Mapping[str, str]) -> InputError:
    if not isinstance(kind, str):
        message = f"the config.json of {location} names no model type of transformers"
        return InputError(message, suggestion="weights in timm's layout are for timm/…")
    reason = catalogue.OTHERWISE.get(kind, "is no image network that zoo knows")
    return InputError(f"{location} is of {kind}, which {reason}", suggestion=did_you_mean(kind, known))
