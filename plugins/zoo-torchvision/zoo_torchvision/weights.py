"""From torchvision's published files to the layout of its present modules, as torchvision's own loaders do it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

StateDict = dict[str, Any]

# what torchvision renamed after the files were published: densenet._load_state_dict, vision_transformer.MLPBlock
_RENAMED: dict[str, tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = {
    "densenet": (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),
    "vit": (re.compile(r"(\.mlp)\.linear_([12])\."), lambda found: f"{found[1]}.{3 * (int(found[2]) - 1)}."),
}
_AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")


def adapt(name: str, state_dict: StateDict, model: nn.Module) -> StateDict:
    """`state_dict` under `model`'s names, without the auxiliary classifiers where `model` has none.

    Files older than torch 0.4.1 lack batch norm's step counters; as in torch, those begin at zero.
    """
    wanted = model.state_dict()
    pattern, replacement = _RENAMED.get(re.split(r"[_\d]", name)[0], (re.compile(r"$^"), ""))
    renamed = {pattern.sub(replacement, key): value for key, value in state_dict.items()}
    kept = {key: value for key, value in renamed.items() if key in wanted or not key.startswith(_AUXILIARY)}
    for key in wanted:
        if key.endswith("num_batches_tracked"):
            kept.setdefault(key, torch.tensor(0))
    return kept
