"""Features: what a module of a network gives for each image, through the fast engine of the feature cache.

The network is traced, and cut off behind the module: batch norms are folded and the memory layout is chosen as for a
frozen backbone in training. Where fx cannot trace it, or where the cut network does not give what the whole one gives,
a hook takes the module's output out of a complete forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from zoo.contracts import Context
from zoo.errors import InputError, did_you_mean, is_out_of_memory
from zoo.model.assembly import Assembly
from zoo.model.heads import find_heads
from zoo.model.shapes import ModuleShapes
from zoo.model.trace import tensors_in
from zoo.training.autotune import relative_distance
from zoo.training.trunk.engine import fast_engine
from zoo.training.trunk.graph import Root, Tracer

TOLERANCE = 1e-3  # relative distance of the engine's features from those of the whole network


@dataclass(frozen=True)
class Extractor:
    """`features(inputs [n, …]) -> [n, …]` of one module. `way` says how: the engine's settings, or `forward hook`."""

    module: str
    features: Callable[[Tensor], Tensor]
    way: str


def extractor_of(assembly: Assembly, module: str | None, example: Tensor) -> Extractor:
    """What gives the output of `module`, or without one the head's input, for inputs like `example` [n, …].

    The model is in evaluation mode. Raises InputError for a module that is not there, or that forward never calls with
    or to a tensor of one row a sample.
    """
    model = assembly.model
    entering = module is None
    path = _head(assembly) if module is None else _known(model, module)
    hooked = _hooked(model, path, entering)
    expected = hooked(example)
    called = f"the input of {path}" if entering else path
    try:
        engine = fast_engine(_cut(model, path, entering), example)
        fast = _flat(engine(example)[0])
        if fast.shape == expected.shape and relative_distance((expected,), (fast,)) <= TOLERANCE:
            return Extractor(called, lambda inputs: _flat(engine(inputs)[0]), str(engine.settings))
    except Exception as error:  # fx raises whatever a forward does to its proxies
        if is_out_of_memory(error):
            raise
    return Extractor(called, hooked, "forward hook")


def _head(assembly: Assembly) -> str:
    context = Context(len(assembly.classes), assembly.classes, assembly.preprocessing, assembly.task)
    return find_heads(assembly.model, shapes=ModuleShapes(assembly.model, context))[0]


def _known(model: nn.Module, module: str) -> str:
    paths = [path for path, _ in model.named_modules(remove_duplicate=False) if path]
    if module not in paths:
        shown = did_you_mean(module, paths) or f"it has {len(paths)}, the first is {paths[0] if paths else 'none'}"
        raise InputError(f"the network has no module {module!r}", suggestion=shown)
    return module


def _hooked(model: nn.Module, path: str, entering: bool) -> Callable[[Tensor], Tensor]:
    """The features by a complete forward pass."""

    def features(inputs: Tensor) -> Tensor:
        seen: list[Any] = []

        def look(module: nn.Module, given: Any, output: Any) -> None:
            seen.append(given if entering else output)

        handle = model.get_submodule(path).register_forward_hook(look)
        try:
            with torch.no_grad():
                model(inputs)
        finally:
            handle.remove()
        found = next(iter(tensors_in(seen[-1])), None) if seen else None
        if found is None:
            raise InputError(f"forward never calls {path!r} with a tensor", suggestion="--module names another one")
        if found.ndim == 0 or len(found) != len(inputs):
            message = f"{path!r} gives {list(found.shape)} for {len(inputs)} images, not one row an image"
            raise InputError(message, suggestion="--module names another one")
        return _flat(found)

    return features


def _flat(features: Tensor) -> Tensor:
    """[n, k] of pooled maps [n, k, 1, 1]; others as they are."""
    return features.flatten(1) if features.ndim > 2 and features[0].numel() == features.shape[1] else features


class _Noting(Tracer):
    """A tracer that keeps what goes into one module and comes out of it."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.given, self.output = module, None, None

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        output = super().call_module(m, forward, args, kwargs)
        if m is self.module:
            self.given, self.output = (args[0] if args else next(iter(kwargs.values()), None)), output
        return output


def _cut(model: nn.Module, path: str, entering: bool) -> fx.GraphModule:
    """The model up to a module's output, or its input, as a graph that gives a tuple of one tensor."""
    root = Root(model)
    tracer = _Noting(model.get_submodule(path))
    graph = tracer.trace(root)
    found: Any = tracer.given if entering else tracer.output
    if isinstance(found, tuple | list):
        found = found[0]
    (end,) = (node for node in graph.nodes if node.op == "output")
    end.args = ((found.node,),)
    cut = fx.GraphModule(root, graph)
    cut.graph.eliminate_dead_code()
    cut.recompile()
    cut.delete_all_unused_submodules()
    return cut
