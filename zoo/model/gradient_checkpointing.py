"""Gradient checkpointing: the inside of a block is computed again in the backward pass in place of being kept.

Chen et al., 2016, "Training Deep Nets with Sublinear Memory Cost". torch's own (`torch.utils.checkpoint`, without
re-entrance) does it, which also draws the same random numbers again. What it does not do: a block that is run twice
updates its running statistics twice. Here the second run works on copies of the buffers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from zoo.model.depths import find_chain
from zoo.model.paths import get_module


@contextmanager
def checkpointed(
    model: nn.Module, recomputing: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> Iterator[set[str]]:
    """In the block, the blocks of the model (`find_chain`) keep no more than their inputs for the backward pass.

    Outputs, gradients and buffers are those of an ordinary pass. Without gradients nothing changes. `recomputing` is
    entered where a block is run again. Gives the paths of the blocks that were called so far; raises InputError where
    the model has no chain of blocks.
    """
    called: set[str] = set()
    with ExitStack() as stack:
        for path in find_chain(model):
            stack.enter_context(_checkpointed(path, get_module(model, path), recomputing, called))
        yield called


@contextmanager
def _checkpointed(path: str, block: nn.Module, recomputing: Callable[[], Any], called: set[str]) -> Iterator[None]:
    own, forward = vars(block).get("forward"), block.forward

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _again(block, recomputing)

    def checkpointing(*arguments: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*arguments, **options)
        called.add(path)
        return checkpoint(forward, *arguments, use_reentrant=False, context_fn=contexts, **options)

    block.forward = checkpointing
    try:
        yield
    finally:
        del block.forward
        if own is not None:
            block.forward = own


@contextmanager
def _again(block: nn.Module, recomputing: Callable[[], AbstractContextManager[Any]]) -> Iterator[None]:
    """Around a block's second run: its buffers are copies, so that their own values stay."""
    tables = [(module._buffers, dict(module._buffers)) for module in block.modules() if module._buffers]
    for table, own in tables:
        table.update({name: buffer if buffer is None else buffer.clone() for name, buffer in own.items()})
    try:
        with recomputing():
            yield
    finally:
        for table, own in tables:
            table.update(own)
