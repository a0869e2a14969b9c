"""transformers' networks with one tensor as their output. Imports transformers and torch.

transformers returns a ModelOutput, a mapping of scores, hidden states and a loss. zoo would find the scores in it, but
a trace of the network could not follow, and the feature cache would stay off. Each network is therefore of a class
derived from its own whose `forward` returns the scores; parameters keep their names.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import transformers
from torch import Tensor, nn
from transformers import PreTrainedConfig

from zoo.api import InputError
from zoo.errors import did_you_mean
from zoo_huggingface import catalogue
from zoo_huggingface.configuration import check_names, class_of

_HEADS = ("classifier", "cls_classifier", "distillation_classifier", "head", "dist_head", "classifier_dist")


def network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The network of a model type with fresh parameters, in training mode as torch's modules are.

    Raises InputError for a model type that there is not, and for arguments that its configuration does not take.
    """
    configuration = configuration_of(name, arguments)
    if name in catalogue.classifiers():
        return _scoring(catalogue.classifiers()[name])(configuration).train()
    return _pooling(catalogue.backbones()[name])(configuration).train()


def configuration_of(name: str, arguments: Mapping[str, Any]) -> PreTrainedConfig:
    """A model type's configuration. Raises InputError as `network`."""
    known = catalogue.classifiers() | catalogue.backbones()
    if name not in known:
        raise InputError(f"transformers has no image network {name!r}", suggestion=did_you_mean(name, known))
    check_names(name, arguments)
    configuration: PreTrainedConfig = class_of(name)(**arguments)
    return configuration


def published(model: nn.Module) -> type[Any]:
    """transformers' own class of a network that was made here."""
    return type(model).__mro__[1]


@functools.cache
def _scoring(name: str) -> type[nn.Module]:
    """A classifier that returns its logits [b, num_labels]."""
    own: Any = getattr(transformers, name)

    def forward(self: Any, pixel_values: Tensor) -> Tensor:
        found = own.forward(self, pixel_values)
        scores: Tensor = found.logits if hasattr(found, "logits") else found.last_hidden_state
        return scores

    return _derived(own, forward, _HEADS)


@functools.cache
def _pooling(name: str) -> type[nn.Module]:
    """A network that returns features [b, d] of an image, through `head`: an Identity, the place for a new head."""
    own: Any = getattr(transformers, name)

    def __init__(self: Any, configuration: PreTrainedConfig) -> None:  # noqa: N807 - it becomes a class's own
        own.__init__(self, configuration)
        self.head_of_zoo = nn.Identity()

    def forward(self: Any, pixel_values: Tensor) -> Tensor:
        features: Tensor = self.head_of_zoo(_pooled(own.forward(self, pixel_values)))
        return features

    return _derived(own, forward, ("head_of_zoo",), __init__=__init__)


def _derived(own: type[Any], forward: Any, heads: tuple[str, ...], **more: Any) -> type[nn.Module]:
    """A class of the same name; `default_cfg` is where zoo looks for the heads of timm's networks, too."""

    def default_cfg(self: Any) -> dict[str, Any]:
        return {"classifier": tuple(head for head in heads if hasattr(self, head))}

    members = {"forward": forward, "default_cfg": property(default_cfg), "__module__": own.__module__, **more}
    return type(own.__name__, (own,), members)


def _pooled(output: Any) -> Tensor:
    """Features [b, d]: what the network pools itself, else the mean of its last tokens or its last map."""
    pooled: Tensor | None = getattr(output, "pooler_output", None)
    if pooled is not None:
        return pooled.flatten(1)
    last: Tensor = output.feature_maps[-1] if hasattr(output, "feature_maps") else output.last_hidden_state
    return last.mean(1) if last.ndim == 3 else last.flatten(2).mean(2)
