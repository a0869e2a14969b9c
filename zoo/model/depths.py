"""The layers of a model from its input to its head: what layer-wise learning rates and gradual unfreezing go by."""

from __future__ import annotations

from typing import Literal

from torch import nn

from zoo.errors import InputError
from zoo.model.heads import find_head
from zoo.model.paths import get_module
from zoo.model.stages import find_stages


def find_chain(model: nn.Module, parts: Literal["stages", "blocks"] = "blocks") -> list[str]:
    """Paths of the stages of the model's main chain, or of the blocks that these consist of where they are rows of
    blocks themselves. Raises InputError where the model has no such chain."""
    stages = find_stages(model)
    return stages if parts == "stages" else [block for stage in stages for block in _blocks(model, stage)]


def layer_depths(model: nn.Module) -> dict[str, int]:
    """Layer number by parameter name: 0 is the stem, then one number a block in order of registration, then the head.

    As `depths_along` the chain of blocks, with what is inside the head above all of them.
    Raises InputError where the model has no chain of blocks.
    """
    try:
        blocks, head = find_chain(model), find_head(model)
    except InputError as error:
        hint = "use lr_scale with regular expressions"
        raise InputError("layer_decay: this model has no chain of blocks and a head", suggestion=hint) from error
    inside = {name for name, _ in model.named_parameters() if is_inside(name, head)}
    depths = depths_along(blocks, [name for name, _ in model.named_parameters() if name not in inside])
    return {name: len(blocks) + 1 if name in inside else depths[name] for name, _ in model.named_parameters()}


def depths_along(chain: list[str], names: list[str]) -> dict[str, int]:
    """The number of each parameter's link of the chain, from 1 on, 0 for what comes before the first one; `names` are
    in order of registration.

    What is registered between two links belongs to the one before (a last norm to the last block), as in BEiT's layer
    decay; tokens and position embeddings of the model itself belong to the stem.
    """
    depth, depths = 0, {}
    for name in names:
        depth = next((number for number, link in enumerate(chain, 1) if is_inside(name, link)), depth)
        depths[name] = depth
    return depths


def is_inside(name: str, path: str) -> bool:
    """Whether a parameter belongs to the module at a path."""
    return name.startswith(f"{path}.")


def _blocks(model: nn.Module, stage: str) -> list[str]:
    """The blocks of a stage that is a row of composite modules, or contains one; else the stage itself."""
    module = get_module(model, stage)
    for path, row in [(stage, module), *((f"{stage}.{name}", child) for name, child in module.named_children())]:
        children = [(name, child) for name, child in row.named_children() if any(True for _ in child.parameters())]
        composite = bool(children) and all(any(True for _ in child.children()) for _, child in children)
        if isinstance(row, nn.Sequential | nn.ModuleList) and composite:
            return [f"{path}.{name}" for name, _ in children]
    return [stage]
