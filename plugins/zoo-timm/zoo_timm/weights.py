"""From a published checkpoint to a timm model's own layout, the way timm does it. Imports timm and torch."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any
from unittest import mock

import timm
import torch
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import nn

StateDict = dict[str, Any]


def checkpoint_filter(name: str, tag: str) -> Callable[..., StateDict] | None:
    """The function timm passes a checkpoint of this architecture through before loading it, or None.

    timm hands it from the model's builder to `load_pretrained` and keeps it nowhere; so the model is built on `meta`
    and the call that would load is caught.
    """
    caught: list[Callable[..., StateDict] | None] = [None]

    def catch(_model: nn.Module, *_: Any, filter_fn: Callable[..., StateDict] | None = None, **__: Any) -> None:
        caught.append(filter_fn)

    with mock.patch("timm.models._builder.load_pretrained", catch), torch.device("meta"):
        timm.create_model(f"{name}.{tag}", pretrained=True)
    return caught[-1]  # a hybrid's backbone is built first, the model itself last


def adapt(name: str, tag: str, state_dict: StateDict, model: nn.Module) -> StateDict:
    """`state_dict` in `model`'s layout: timm's own checkpoint filter, then without the background class some carry.

    Position embeddings come out in `model`'s size where timm's filter resamples them; the shape of the classifier is
    left alone otherwise. Old files lack batch norm's step counters: as in torch, those begin at zero.
    """
    configuration = get_pretrained_cfg(f"{name}.{tag}") or PretrainedCfg()
    if (convert := checkpoint_filter(name, tag)) is not None:
        takes_model = len(inspect.signature(convert).parameters) > 1
        state_dict = convert(dict(state_dict), model) if takes_model else convert(dict(state_dict))
    counters = (key for key in model.state_dict() if key.endswith("num_batches_tracked"))
    return {**{key: torch.tensor(0) for key in counters}, **without_background(state_dict, configuration)}


def without_background(state_dict: StateDict, configuration: PretrainedCfg) -> StateDict:
    """Drop the first `label_offset` rows of the classifiers (TensorFlow's background class)."""
    offset, classifiers = configuration.label_offset or 0, configuration.classifier or ()
    rows = configuration.num_classes + offset
    for classifier in (classifiers,) if isinstance(classifiers, str) else classifiers:
        for key in (f"{classifier}.weight", f"{classifier}.bias"):
            if offset and key in state_dict and state_dict[key].shape[0] == rows:
                state_dict = {**state_dict, key: state_dict[key][offset:]}
    return state_dict


def class_names(configuration: PretrainedCfg) -> list[str] | None:
    """English names of the classes by index, for the ImageNet label sets timm knows; None for others."""
    if configuration.label_names:
        return list(configuration.label_names)
    subset = infer_imagenet_subset(dataclasses.asdict(configuration))
    if subset is None:
        return None
    return list(ImageNetInfo(subset).label_descriptions())
