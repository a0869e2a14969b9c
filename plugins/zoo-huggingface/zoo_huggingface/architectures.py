"""The architecture source: names by reading transformers' files, everything else by asking transformers."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zoo.api import InputError, Preprocessing, Weights
from zoo.errors import did_you_mean
from zoo_huggingface import catalogue

if TYPE_CHECKING:
    from torch import nn

CONFIG = "config"


class Transformers:
    """`huggingface/…` in a recipe: an architecture's arguments are those of its configuration (`ViTConfig`)."""

    def names(self) -> list[str]:
        """The model types of the installed transformers' image classifiers and backbones, without importing it."""
        return sorted(catalogue.classifiers() | catalogue.backbones())

    def build(self, name: str, **arguments: Any) -> nn.Module:
        """The network of a configuration: `arguments` are its fields, `num_labels` the number of classes.

        A classifier gives its logits [b, num_labels], and with `num_labels: 0` the pooled features before them; a
        backbone gives pooled features [b, d]. The names of parameters are transformers' own. `config`, a folder or an
        `hf://ORG/REPO`, stands for what the `config.json` there says, and the other arguments go before it.
        """
        from zoo_huggingface.networks import network

        return network(name, arguments)

    def resolve(self, name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments with those that the `config.json` of `config` says in the place of that."""
        from zoo_huggingface.configuration import read_configuration

        own = dict(arguments)
        location = own.pop(CONFIG, None)
        if location is None:
            return own
        found = read_configuration(str(location))
        if found is None:
            raise InputError(f"there is no config.json in {location}", suggestion="a folder, or hf://ORG/REPO")
        if found.model_type != name:
            hint = f"write architecture: huggingface/{found.model_type}"
            raise InputError(f"{location} is the configuration of {found.model_type}", suggestion=hint)
        return {**found.arguments, **own}

    def preprocessing(
        self, name: str, tag: str | None = None, arguments: Mapping[str, Any] | None = None
    ) -> Preprocessing:
        """Images of the size and with the channels that a configuration of these arguments has, normalised as for
        ImageNet: weights know better (their `preprocessor_config.json`). Imports transformers."""
        from zoo_huggingface.networks import configuration_of

        if tag is not None:
            raise _no_tags(name, tag)
        return _sized(configuration_of(name, arguments or {}))

    def weights(self, name: str, tag: str) -> Weights:
        """Raises InputError: transformers' weights have no tags, they are repositories of the hub."""
        raise _no_tags(name, tag)

    def weights_at(self, name: str, location: str) -> Weights:
        """What `config.json` and `preprocessor_config.json` beside weights say of them, and how transformers reads
        their layout. Imports transformers."""
        from zoo_huggingface.configuration import read_configuration
        from zoo_huggingface.preprocessing import read_preprocessing
        from zoo_huggingface.weights import adapt, safetensors_at

        found = read_configuration(location)
        return Weights(
            location=safetensors_at(location),
            architecture=f"huggingface/{found.model_type if found else name}",
            preprocessing=read_preprocessing(location),
            classes=found.classes if found else None,
            convert=functools.partial(adapt, bare=found is not None and found.is_bare),
            arguments=found.arguments if found else {},
        )


def _sized(configuration: Any) -> Preprocessing:
    size = getattr(configuration, "image_size", None) or getattr(
        getattr(configuration, "vision_config", None), "image_size", None
    )
    height, width = size if isinstance(size, list | tuple) else (size or 224, size or 224)
    return Preprocessing(size=(height, width), crop_fraction=0.875 if size is None else 1.0)


def _no_tags(name: str, tag: str) -> InputError:
    known = catalogue.classifiers() | catalogue.backbones()
    if name not in known:
        return InputError(f"transformers has no image network {name!r}", suggestion=did_you_mean(name, known))
    hint = "weights are a repository of the hub, hf://ORG/REPO, or a folder like one"
    return InputError(f"huggingface/{name} has no weights {tag!r}", suggestion=hint)
