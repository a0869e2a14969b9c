"""The verbs of Python that no command stands behind: `zoo.build`."""

from __future__ import annotations

from typing import Any

from torch import nn

from zoo.checkpoint.plan import MIN_COVERAGE
from zoo.checkpoint.remaps import Remap
from zoo.model import build as building
from zoo.model.pretrained import load_weights


def build(
    architecture: str,
    *,
    weights: str | None = None,
    remap: Remap = None,
    min_coverage: float = MIN_COVERAGE,
    device: str | None = None,
    **arguments: Any,
) -> nn.Module:
    """A model by name, with fresh parameters or with `weights`; its attribute `zoo` holds what is known about it.

    Args:
        architecture: `timm/resnet50`, or a bare name while it is unique. `arguments` are its own.
        weights: an installed weights component, a tag of the architecture, `hf://org/repo`, an address or a file.
        remap: rules for weights in another layout (see `zoo.load_into`).
        min_coverage: the share of the parameters that `weights` must fill.
        device: `meta` builds without memory (and then takes no weights).

    Raises InputError for what is not installed or does not fit, WorkError when too little was loaded.
    """
    assembly = building.build(architecture, arguments, device=device)
    if weights is not None:
        load_weights(assembly, weights, remap, min_coverage=min_coverage)
    assembly.model.__dict__["zoo"] = assembly
    return assembly.model
