"""How deep a parameter lies: the layers that layer-wise learning-rate decay counts."""

from __future__ import annotations

from torch import nn

from zoo.errors import InputError
from zoo.model.head import find_head
from zoo.model.paths import get_module
from zoo.model.stages import find_stages


def layer_depths(model: nn.Module) -> dict[str, int]:
    """Layer number by parameter name: 0 is the stem, then one number a block in order of registration, then the head.

    Blocks are the stages of the model's main chain, or what they consist of where they are rows of blocks themselves.
    What is registered between two blocks counts with the one before (a last norm with the last block), as in BEiT's
    layer decay; tokens and position embeddings that the model itself owns count with the stem.
    Raises InputError where the model has no chain of blocks.
    """
    try:
        blocks = [block for stage in find_stages(model) for block in _blocks(model, stage)]
        head = find_head(model)
    except InputError as error:
        hint = "use lr_scale with regular expressions"
        raise InputError("layer_decay: this model has no chain of blocks and a head", suggestion=hint) from error
    depth, depths = 0, {}
    for name, _ in model.named_parameters():
        if _inside(name, head):
            depths[name] = len(blocks) + 1
            continue
        depth = next((number for number, block in enumerate(blocks, 1) if _inside(name, block)), depth)
        depths[name] = depth
    return depths


def _blocks(model: nn.Module, stage: str) -> list[str]:
    """The blocks of a stage that is a row of composite modules, or holds one; else the stage itself."""
    module = get_module(model, stage)
    for path, row in [(stage, module), *((f"{stage}.{name}", child) for name, child in module.named_children())]:
        children = [(name, child) for name, child in row.named_children() if any(True for _ in child.parameters())]
        composite = bool(children) and all(any(True for _ in child.children()) for _, child in children)
        if isinstance(row, nn.Sequential | nn.ModuleList) and composite:
            return [f"{path}.{name}" for name, _ in children]
    return [stage]


def _inside(name: str, path: str) -> bool:
    return name.startswith(f"{path}.")
