"""Split a model in two: the frozen backbone, whose output for an input never changes, and the rest, which trains.

This is what the feature cache rests on. `split` traces the model to a graph and marks the nodes that cannot change
(zoo.training.trunk.graph). The values that pass from a fixed node to one that is not are the boundary. Two modules are
made of the two sides; they share the model's own submodules and parameters, so that training the rest trains the model.

What passes the boundary need not be a tensor with one row a sample. There are position embeddings that all samples
share, shapes, tuples, numbers that are a multiple of the batch size, and tensors whose first dimension counts windows
of a sample. To tell these apart without knowing the model, the fixed part runs on n and on n - 1 samples: what is equal
is a constant, what grows with the batch is per sample (`Boundary`), and anything else is a reason not to split.

A split is trusted only after both parts together gave the model's own output on an example, the backbone on each half
of the batch alone: a value that mixes samples shows there. Otherwise the model trains end to end, and the run says why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from zoo.model.trace import tensors_in
from zoo.model.undisturbed import undisturbed
from zoo.training.trunk.graph import attribute, fixed_nodes, trace


class UnsplittableError(Exception):
    """Why a model cannot be split; it is then trained without the feature cache, end to end, and the run says why."""


@dataclass(frozen=True)
class Sample:
    """The `index`-th tensor of the features; dimension 0 has `rows` rows for each sample (windows, heads)."""

    index: int
    rows: int


@dataclass(frozen=True)
class Scaled:
    """An integer that is `factor` times the batch size."""

    factor: int


@dataclass
class Boundary:
    """The values that pass from the frozen backbone to the rest: a template for each, per-sample tensors, constants."""

    sizes: tuple[int, int]
    samples: list[tuple[int, tuple[Any, ...]]] = field(default_factory=list)  # rows, path of indices to the leaf
    constants: list[Tensor] = field(default_factory=list)
    templates: dict[fx.Node, Any] = field(default_factory=dict)

    def add(self, node: fx.Node, first: Any, second: Any, position: int) -> None:
        """Record what `node` gave in the two runs. Raises UnsplittableError for what belongs to no single sample."""
        self.templates[node] = self._template(first, second, (position,), node.name)

    def _template(self, first: Any, second: Any, path: tuple[Any, ...], name: str) -> Any:
        if isinstance(first, Tensor):
            return self._tensor(first, second, path, name)
        if isinstance(first, (tuple, list)):
            if len(first) != len(second):
                raise UnsplittableError(f"{name} has a length that depends on the batch")
            pairs = enumerate(zip(first, second, strict=True))
            return tuple(self._template(a, b, (*path, i), name) for i, (a, b) in pairs)
        if first == second:
            return first
        factor, remainder = divmod(first, self.sizes[0]) if isinstance(first, int) else (0, 1)
        if remainder or factor * self.sizes[1] != second:
            raise UnsplittableError(f"{name} depends on the batch in a way that is not per sample")
        return Scaled(factor)

    def _tensor(self, first: Tensor, second: Tensor, path: tuple[Any, ...], name: str) -> Any:
        if first.shape == second.shape and torch.equal(first, second):
            self.constants.append(first.detach().clone())
            return self.constants[-1]
        rows, remainder = divmod(first.shape[0], self.sizes[0]) if first.ndim else (0, 1)
        expected = (rows * self.sizes[1], *first.shape[1:])
        if remainder or second.shape != expected:
            raise UnsplittableError(f"{name} of shape {list(first.shape)} mixes the samples of a batch")
        self.samples.append((rows, path))
        return Sample(len(self.samples) - 1, rows)


TOLERANCE = 1e-4  # of the largest output; half a batch is computed by other kernels


@dataclass
class Split:
    """The parts of a model: `trunk(inputs [n, …])` gives tensors [n, …], and `rest(*those)` the model's output.

    `method` is "fx" or "module boundary". `rest` shares parameters and buffers with the model.
    """

    trunk: fx.GraphModule
    rest: fx.GraphModule
    method: str
    boundary: tuple[str, ...]


def split(model: nn.Module, example: Tensor, live: Collection[int] | None = None) -> Split:
    """Split `model`, in its current mode, in front of the first thing that training can change.

    Args:
        model: the model as it will train (or evaluate): mode and `requires_grad` as they will be.
        example: a float batch [n, c, h, w] with n >= 2.
        live: ids of the parameters that may change; by default those that require a gradient.

    Raises:
        UnsplittableError: with the reason, when no way of tracing gives an equal model or nothing is fixed.
    """
    if len(example) < 2:
        raise UnsplittableError("it takes at least two samples to distinguish the batch from other dimensions")
    if live is None:
        live = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    reasons = []
    for method in ("fx", "module boundary"):
        try:
            graph_module = trace(model, live, frozen_as_leaves=method != "fx")
            result = _split_graph(graph_module, example, live, method)
            _check(model, result, example)
        except UnsplittableError as error:
            reasons.append(f"{method}: {error}")
        except Exception as error:  # fx raises whatever the traced code raises
            first_line = (str(error).splitlines() or [""])[0]
            reasons.append(f"{method}: {type(error).__name__}: {first_line}")
        else:
            return result
    raise UnsplittableError("; ".join(dict.fromkeys(reasons)))


def _split_graph(graph_module: fx.GraphModule, example: Tensor, live: Collection[int], method: str) -> Split:
    fixed = fixed_nodes(graph_module, live)
    if not any(node.op == "call_module" for node in fixed):
        raise UnsplittableError("nothing in front of the first trainable parameter is fixed")
    crossing = [node for node in graph_module.graph.nodes if _crosses(node, fixed)]
    front = _front(graph_module, fixed, crossing)
    sizes = (len(example), len(example) - 1)
    boundary = Boundary(sizes)
    with torch.no_grad():
        runs = [front(example[:size]) for size in sizes]
    for position, node in enumerate(crossing):
        boundary.add(node, runs[0][position], runs[1][position], position)
    if not boundary.samples:
        raise UnsplittableError("no tensor passes from the fixed part to the rest")
    trunk = _select(front, boundary)
    return Split(trunk, _rest(graph_module, fixed, boundary), method, tuple(node.name for node in crossing))


def _crosses(node: fx.Node, fixed: set[fx.Node]) -> bool:
    return node in fixed and node.op != "get_attr" and any(user not in fixed for user in node.users)


def _front(graph_module: fx.GraphModule, fixed: set[fx.Node], crossing: list[fx.Node]) -> fx.GraphModule:
    """The fixed nodes as a module that returns the crossing values as a tuple."""
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph_module.graph.nodes:
        if node in fixed:
            copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(tuple(copies[node] for node in crossing))
    return fx.GraphModule(graph_module, graph)


def _select(front: fx.GraphModule, boundary: Boundary) -> fx.GraphModule:
    """`front` with the per-sample tensors as its only outputs, each with the batch as its dimension 0."""
    graph = front.graph
    output = next(node for node in graph.nodes if node.op == "output")
    values = output.args[0]
    chosen = []
    with graph.inserting_before(output):
        for rows, path in boundary.samples:
            value = values[path[0]]
            for index in path[1:]:
                value = graph.call_function(_item, (value, index))
            if rows != 1:
                value = graph.call_method("unflatten", (value, 0, (-1, rows)))
            chosen.append(value)
    output.args = (tuple(chosen),)
    front.recompile()
    return front


def _item(values: Any, index: int) -> Any:
    return values[index]


def _rest(graph_module: fx.GraphModule, fixed: set[fx.Node], boundary: Boundary) -> fx.GraphModule:
    """The nodes that are not fixed, with the per-sample tensors as inputs."""
    graph = fx.Graph()
    placeholders = [graph.placeholder(f"feature_{index}") for index in range(len(boundary.samples))]
    constants = {f"_constant_{index}": tensor for index, tensor in enumerate(boundary.constants)}
    copies: dict[fx.Node, Any] = {}
    for node in graph_module.graph.nodes:
        if node in boundary.templates:
            copies[node] = _rebuild(boundary.templates[node], graph, placeholders, constants)
        elif node not in fixed or _is_shared_tensor(node, fixed):
            copies[node] = graph.node_copy(node, copies.__getitem__)
    targets = {**dict(_targets(graph_module, graph)), **constants}
    return fx.GraphModule(targets, graph)


def _is_shared_tensor(node: fx.Node, fixed: set[fx.Node]) -> bool:
    """A frozen tensor that the rest reads too stays the model's own tensor, not a copy at the boundary."""
    return node.op == "get_attr" and any(user not in fixed for user in node.users)


def _targets(graph_module: fx.GraphModule, graph: fx.Graph) -> Iterator[tuple[str, Any]]:
    """The submodules and tensors that a graph names, from the module that it was taken from."""
    for node in graph.nodes:
        name = str(node.target)
        if node.op == "call_module":
            yield name, graph_module.get_submodule(name)
        elif node.op == "get_attr" and not name.startswith("_constant_"):
            yield name, attribute(graph_module, name)


def _rebuild(template: Any, graph: fx.Graph, placeholders: list[fx.Node], constants: dict[str, Tensor]) -> Any:
    if isinstance(template, Sample):
        value = placeholders[template.index]
        return value if template.rows == 1 else graph.call_method("flatten", (value, 0, 1))
    if isinstance(template, Scaled):
        size = graph.call_method("size", (placeholders[0], 0))
        return size if template.factor == 1 else graph.call_function(_times, (size, template.factor))
    if isinstance(template, Tensor):
        return graph.get_attr(next(name for name, tensor in constants.items() if tensor is template))
    if isinstance(template, tuple):
        return tuple(_rebuild(item, graph, placeholders, constants) for item in template)
    return template


def _times(size: int, factor: int) -> int:
    return size * factor


def _check(model: nn.Module, result: Split, example: Tensor) -> None:
    """Raises UnsplittableError where both parts together, the trunk on each half of the batch, give another output."""
    half = len(example) // 2
    with undisturbed(model, buffers=True), torch.no_grad():
        halves = [result.trunk(example[:half]), result.trunk(example[half:])]
        features = [torch.cat(parts) for parts in zip(*halves, strict=True)]
        torch.manual_seed(0)
        expected = list(tensors_in(model(example)))
        torch.manual_seed(0)
        got = list(tensors_in(result.rest(*features)))
    if len(got) != len(expected):
        raise UnsplittableError("the split model gives another number of outputs")
    for one, other in zip(expected, got, strict=True):
        error = (one - other).abs().max() / one.abs().max().clamp_min(1e-12)
        if not error <= TOLERANCE:
            raise UnsplittableError(f"the split model's output differs by {float(error):.1e} of the largest value")
