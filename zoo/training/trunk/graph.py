"""Trace a model to a graph, and mark the nodes whose values cannot change in training.

A node is fixed when everything it is computed from is the input, a frozen tensor or a constant, and the operation
itself is deterministic in the model's current mode. Frozen modules are in evaluation mode (zoo.model.freezing), so
their dropout and batch statistics are fixed too.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

import torch
from torch import fx, nn

RANDOM_NAMES = frozenset(
    (
        *("rand", "randn", "randint", "rand_like", "randn_like", "randint_like", "randperm", "multinomial"),
        *("bernoulli", "bernoulli_", "normal", "normal_", "uniform_", "random_", "exponential_", "geometric_"),
        *("cauchy_", "log_normal_", "new_empty", "empty", "empty_like", "empty_strided"),
        *("rrelu", "rrelu_", "gumbel_softmax", "native_dropout"),
    )
)
MODE_DEPENDENT: tuple[type, ...] = (
    nn.modules.dropout._DropoutNd,
    nn.modules.batchnorm._NormBase,
    nn.RReLU,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
    nn.RNNBase,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
)


class Root(nn.Module):
    """A model as the child of a root, so that hooks on the model itself are traced (fx skips the root's own)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.model(inputs)


class Tracer(fx.Tracer):
    """fx's tracer that does not enter the given modules, nor those that timm declares untraceable."""

    def __init__(self, leaf_modules: Collection[nn.Module] = ()) -> None:
        modules, functions = _untraceable()
        super().__init__(autowrap_functions=functions)
        self._leaf_types = modules
        self._leaves = {id(module) for module in leaf_modules}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, nn.Sequential) or id(m) in self._leaves:
            return id(m) in self._leaves
        return isinstance(m, self._leaf_types) or bool(super().is_leaf_module(m, module_qualified_name))


def _untraceable() -> tuple[tuple[type, ...], tuple[Any, ...]]:
    """timm's lists of modules and functions that fx must not enter; empty while timm is not in use."""
    if "timm.layers" not in sys.modules:
        return (), ()
    layers: Any = sys.modules["timm.layers"]
    return tuple(layers.get_notrace_modules()), tuple(layers.get_notrace_functions())


def trace(model: nn.Module, live: Collection[int], *, frozen_as_leaves: bool = False) -> fx.GraphModule:
    """The model in its current mode as a graph that shares its modules.

    `live` are the ids of the trainable parameters. With `frozen_as_leaves`, frozen modules are not entered: this is the
    split at module boundaries, for models whose insides fx cannot trace. Raises whatever fx raises.
    """
    frozen = [module for module in model.modules() if module is not model and is_fixed_module(module, live)]
    root = Root(model)
    return fx.GraphModule(root, Tracer(frozen if frozen_as_leaves else ()).trace(root))


def is_fixed_module(module: nn.Module, live: Collection[int]) -> bool:
    """Whether the module has no trainable parameter and nothing in it depends on chance or on the batch."""
    learns = any(id(parameter) in live for parameter in module.parameters())
    return not learns and not any(map(changes_when_training, module.modules()))


def changes_when_training(module: nn.Module) -> bool:
    """Whether this module's output or state depends on chance or on the batch in its present mode."""
    if not module.training:
        return False
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return bool(module.p > 0)
    if isinstance(module, nn.MultiheadAttention):
        return bool(module.dropout > 0)
    if type(module).__module__.startswith("torch.nn.modules"):
        return isinstance(module, MODE_DEPENDENT)
    # another library's module: the tracer enters containers alone
    return not isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict)


def fixed_nodes(graph_module: fx.GraphModule, live: Collection[int]) -> set[fx.Node]:
    """Nodes whose value for a given input never changes while only the `live` parameters do."""
    fixed: set[fx.Node] = set()
    for node in graph_module.graph.nodes:
        if node.op == "output" or not all(source in fixed for source in node.all_input_nodes):
            continue
        if _is_fixed(node, graph_module, live):
            fixed.add(node)
    return fixed


def _is_fixed(node: fx.Node, graph_module: fx.GraphModule, live: Collection[int]) -> bool:
    if node.op == "placeholder":
        return True
    if node.op == "get_attr":
        return id(attribute(graph_module, str(node.target))) not in live
    if node.op == "call_module":
        return is_fixed_module(graph_module.get_submodule(str(node.target)), live)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name not in RANDOM_NAMES and not _trains(node, name)


def _trains(node: fx.Node, name: str) -> bool:
    """Whether a functional call was traced with its training switch on (dropout, batch norm, attention dropout)."""
    if name == "scaled_dot_product_attention":
        return bool(node.kwargs.get("dropout_p", node.args[4] if len(node.args) > 4 else 0.0))
    if "dropout" in name or name in ("drop_path", "stochastic_depth"):
        switch = node.kwargs.get("training", node.args[2] if len(node.args) > 2 else True)
        return bool(switch)
    if name in ("batch_norm", "instance_norm"):
        return bool(node.kwargs.get("training", node.args[5] if len(node.args) > 5 else False))
    return bool(node.kwargs.get("training", False))


def attribute(root: nn.Module, target: str) -> Any:
    """The tensor or object at a dotted path below `root`."""
    found: Any = root
    for part in target.split("."):
        found = getattr(found, part)
    return found
