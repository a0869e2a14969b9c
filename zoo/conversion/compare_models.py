"""Compares two networks on one batch: are the outputs equal, and if not, which module is the first to differ, and why.

`compare` records the inputs and outputs of the modules that correspond in both networks and walks them in the order of
execution; the causes at the end of this file say what differs inside the first module that does not agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from zoo.conversion.random_weights import fill_empty
from zoo.errors import InputError, WorkError
from zoo.formats import Source
from zoo.model.assembly import Assembly
from zoo.model.load_into import fill, target_of
from zoo.model.paths import get_module
from zoo.model.shapes import attempt
from zoo.model.trace import Event, Recording, record
from zoo.remap.plan import Move, Plan, percent
from zoo.remap.remaps import plan_source

TOLERANCE = 1e-4  # of the outputs, relative to their size; float32 rounding through 200 layers stays below 1e-5
LOCAL_TOLERANCE = 2e-5  # of one module's input or output

ROUNDED = {"F16": 2e-2, "BF16": 1e-1}
"""Relative error of the outputs that rounding the weights to a dtype explains."""
ODD = 129  # 2**7 + 1: halved with padding it stays odd, so that TensorFlow's and PyTorch's padding are the same

Pairs = Mapping[str, str]  # module path in the target -> module path in the source


def compare_converted(start: Assembly, end: Assembly, source: Source, plan: Plan) -> Comparison:
    """Compare the network that a file is of with the one that its weights are converted to, on one image.

    `start` gets the source's own weights, `end` what `plan` makes of them; without memory for parameters
    (`parameters_on_meta`), both share what is the same.

    Raises InputError where the source is not of `start`, WorkError where no image goes through both networks.
    """
    own = plan_source(source, None, target_of(start.model)).plan
    names, read = names_in(start, own), cache(source.array)
    for network, way in ((start, own), (end, plan)):  # what is moved as it is becomes one tensor of both networks
        fill(network.model, way, read, staged=False)
        fill_empty(network.model, seed=0)
    read.cache_clear()
    tolerance = max([TOLERANCE, *(ROUNDED.get(move.dtype, 0.0) for move in plan.moves)])
    images = common_input(start, end, odd=False)
    return compare(start.model, end.model, module_pairs(plan.moves, names), images, tolerance)


def names_in(network: Assembly, plan: Plan) -> dict[str, str]:
    """A file's names in the order of the network's state dict, each with the name there; `plan` fills the network.

    Raises InputError where the file is not of this architecture.
    """
    if plan.coverage != 1.0 or plan.mismatched:
        raise InputError(
            f"the file is not of {network.architecture}: it fills {percent(plan.coverage or 0.0)} of its parameters",
            suggestion="name the architecture that the file is of: --from",
        )
    return {move.sources[0]: move.target for move in plan.moves}


def common_input(source: Assembly, target: Assembly, *, odd: bool) -> Tensor:
    """A seeded image [1, C, H, W] that goes through both networks: of `ODD` pixels if `odd`, or of their own size.

    Raises WorkError where none does.
    """
    inputs = [assembly.preprocessing for assembly in (target, source)]
    sizes = [(ODD, ODD)] * odd + [one.size for one in inputs]
    for height, width in dict.fromkeys(sizes):
        size = (1, inputs[0].channels, height, width)
        if all(attempt(assembly.model, size).error is None for assembly in (source, target)):
            return torch.randn(size, generator=torch.Generator().manual_seed(0))
    raise WorkError(f"no image goes through both {source.architecture} and {target.architecture}")


def module_pairs(moves: Iterable[Move], names: Mapping[str, str]) -> dict[str, str]:
    """The modules that correspond because one's weight became the other's.

    `names` maps the names in the file to those in the source network, where they are not the same.
    """
    pairs: dict[str, str] = {}
    for move in moves:
        path, _, leaf = move.target.rpartition(".")
        other, _, source_leaf = names.get(move.sources[0], move.sources[0]).rpartition(".")
        if path and leaf == source_leaf == "weight" and len(move.sources) == 1:
            pairs[path] = other
    return pairs


@dataclass(frozen=True)
class Divergence:
    """The first place where the two networks compute different values.

    `where` is "inside" the module or "before" it; `behind` is the last module of the target that agreed. `cause` says
    what differs there, the source's value first; `error` by how much, relative to the values.
    """

    target: str
    source: str
    where: str
    behind: str | None
    error: float
    cause: str

    def __str__(self) -> str:
        before = f"between {self.behind or 'the input'} and {self.target}"
        place = f"inside {self.target}" if self.where == "inside" else before
        return f"they diverge {place} (source: {self.source}), by {self.error:.1e}: {self.cause}"


@dataclass(frozen=True)
class Comparison:
    """Whether two networks agree on one batch, by how much they differ, and where first.

    `absolute` is the largest difference of the outputs, `relative` that over the source's largest output. `compared`
    counts modules; `agreeing` their inputs and outputs, in the target's order, before the first that differs.
    `settings` differ in modules that correspond, whether or not that mattered here.
    """

    equal: bool
    absolute: float
    relative: float
    input_shape: tuple[int, ...]
    compared: int
    agreeing: int
    first: Divergence | None
    settings: tuple[str, ...]

    @property
    def message(self) -> str:
        size = "x".join(map(str, self.input_shape))
        if self.equal:
            return f"the outputs agree to {self.relative:.1e} on a {size} batch ({self.compared} modules compared)"
        cause = str(self.first) if self.first else "no module that corresponds differs; what follows the last one does"
        return f"the outputs differ by {self.relative:.1e} on a {size} batch: {cause}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "equal": self.equal,
            "message": self.message,
            "max_absolute_error": self.absolute,
            "max_relative_error": self.relative,
            "input_shape": list(self.input_shape),
            "modules": self.compared,
            "agreeing": self.agreeing,
            "first": None if self.first is None else vars(self.first),
            "settings": list(self.settings),
        }


def compare(
    source: nn.Module, target: nn.Module, pairs: Pairs, inputs: Tensor, tolerance: float = TOLERANCE
) -> Comparison:
    """Run two networks on `inputs` [N, C, H, W] in evaluation mode and compare outputs and corresponding modules.

    `pairs` are the modules that correspond; `tolerance` is the relative error of the outputs that counts as equal.
    """
    return compare_recorded(source, record(source, inputs, set(pairs.values())), target, pairs, inputs, tolerance)


def compare_recorded(
    source: nn.Module, run: Recording, target: nn.Module, pairs: Pairs, inputs: Tensor, tolerance: float = TOLERANCE
) -> Comparison:
    """Like `compare`, with the source's run already recorded, for trying several weights in the target."""
    both = _Both(source, run, target, pairs, inputs)
    absolute, relative = both.output_error()
    bad, error = both.first_error()
    first = None if relative <= tolerance or bad == len(both.seen) else both.divergence(bad, error)
    return Comparison(
        relative <= tolerance, absolute, relative, tuple(inputs.shape), len({event.path for event in both.seen}),
        bad, first, all_settings(source, target, pairs),
    )  # fmt: skip


class _Both:
    """The runs of both networks. `seen` are the target's events that have a counterpart, in order; the value of each is
    by how much it differs from that, so that one network's values are in memory and not two."""

    def __init__(
        self, source: nn.Module, source_run: Recording, target: nn.Module, pairs: Pairs, inputs: Tensor
    ) -> None:
        self.source, self.source_run, self.target, self.pairs = source, source_run, target, pairs
        self.differs = False  # from the first event on whose values do, no others are compared
        self.target_run = record(
            target, inputs, pairs, lambda path, way, value: self._error(path, source_run.event(pairs[path], way), value)
        )
        self.seen = [event for event in self.target_run.events if event.value is not None]

    def _error(self, path: str, other: Event | None, value: Tensor) -> float | None:
        """By how much a module's value differs from its counterpart's event; None where they cannot be compared.

        A norm with an activation inside gives other values than a bare one; only its input can be compared.
        """
        modules = get_module(self.target, path), get_module(self.source, self.pairs[path])
        if other is None or (other.way == "out" and not all(_is_bare(module) for module in modules)):
            return None
        error = 0.0 if self.differs else _difference(other.value, value, ordered=False)[1]
        self.differs = self.differs or error > LOCAL_TOLERANCE
        return error

    def other(self, event: Event) -> Event:
        found = self.source_run.event(self.pairs[event.path], event.way)
        assert found is not None
        return found

    def first_error(self) -> tuple[int, float]:
        """The first of `seen` that differs, and by how much; their number where none does."""
        differing = ((place, event.value) for place, event in enumerate(self.seen) if event.value > LOCAL_TOLERANCE)
        return next(differing, (len(self.seen), 0.0))

    def output_error(self) -> tuple[float, float]:
        one, other = self.source_run.output, self.target_run.output
        return _difference(one, other, ordered=True) if one.shape == other.shape else (float("inf"), float("inf"))

    def divergence(self, bad: int, error: float) -> Divergence:
        event, before = self.seen[bad], self.seen[bad - 1] if bad else None
        mine = self.other(event)
        starts = (self.other(before).step, before.step) if before else (0, 0)
        ran = self.source_run.between(starts[0], mine.step), self.target_run.between(starts[1], event.step)
        if before and before.way == "in":  # the culprit is this module, or what follows it
            modules = get_module(self.source, self.pairs[before.path]), get_module(self.target, before.path)
            if cause := inside(*modules, *ran):
                return Divergence(before.path, self.pairs[before.path], "inside", None, error, cause)
        cause = operations(*ran) or "both run the same operations there; the modules around may be wired differently"
        behind = before.path if before else None
        return Divergence(event.path, self.pairs[event.path], "before", behind, error, cause)


def _is_bare(module: nn.Module) -> bool:
    return all(isinstance(child, nn.Identity) for child in module.children())


def _difference(one: Tensor, other: Tensor, *, ordered: bool) -> tuple[float, float]:
    """Largest absolute difference, and that over the largest value of `one`; infinite for what cannot be compared.

    Unless `ordered`, values that stand in another order (channels last, windows) are compared sorted.
    """
    if torch.equal(one, other):
        return 0.0, 0.0
    one, other = one.double().flatten(), other.double().flatten()
    if one.numel() != other.numel() or not bool((one - other).isfinite().all()):
        return float("inf"), float("inf")
    scale = max(one.abs().max().item(), 1e-12)
    error = (one - other).abs().max().item()
    if not ordered and error > LOCAL_TOLERANCE * scale:
        error = min(error, (one.sort().values - other.sort().values).abs().max().item())
    return error, error / scale


# Causes: what differs inside two modules, or between them.

SETTINGS = (
    "eps", "padding", "stride", "dilation", "groups", "kernel_size", "padding_mode", "ceil_mode", "count_include_pad",
    "approximate", "negative_slope", "num_heads", "scale", "output_size", "normalized_shape",
)  # fmt: skip
"""Attributes of modules that change what they compute."""

_PLAIN = (int, float, str, bool, tuple)


def settings(source: nn.Module, target: nn.Module) -> list[str]:
    """Settings that differ between two modules, like `eps 1e-05 against 0.001`; the source's value comes first."""
    found = []
    for name in SETTINGS:
        one, other = getattr(source, name, None), getattr(target, name, None)
        if isinstance(one, _PLAIN) and isinstance(other, _PLAIN) and _plain(one) != _plain(other):
            found.append(f"{name} {_plain(one)} against {_plain(other)}")
    return found


def _plain(value: Any) -> Any:
    """One number for a tuple that repeats it, so that 1 and (1, 1) are the same."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def all_settings(source: nn.Module, target: nn.Module, pairs: Mapping[str, str]) -> tuple[str, ...]:
    """Settings that differ between corresponding modules, each with the number of modules and the first of them."""
    where: dict[str, list[str]] = {}
    for path, other in pairs.items():
        for text in settings(get_module(source, other), get_module(target, path)):
            where.setdefault(text, []).append(path)
    return tuple(f"{text} in {len(paths)} modules, first in {paths[0]}" for text, paths in where.items())


def inside(source: nn.Module, target: nn.Module, one: Sequence[str], other: Sequence[str]) -> str | None:
    """Why two modules with equal inputs compute different outputs; None where no difference is found.

    `one` and `other` are the operations they ran.
    """
    names = type(source).__name__, type(target).__name__
    kinds = "" if names[0] == names[1] else f" ({names[0]} against {names[1]})"
    if found := settings(source, target):
        return f"{', '.join(found)}{kinds}"
    if found := only_one(source, target):
        return f"{', '.join(found)}{kinds}"
    if found := unequal(source, target):
        return f"its tensors differ: {', '.join(found)}; what was moved there is not what the source has"
    return operations(one, other)


def only_one(source: nn.Module, target: nn.Module) -> list[str]:
    """Parameters and buffers that only one of the modules has."""
    mine, its = (
        {name for name, _ in (*m.named_parameters(recurse=False), *m.named_buffers(recurse=False))}
        for m in (source, target)
    )
    return [f"{name} against none" for name in sorted(mine - its)] + [
        f"no {name} against one" for name in sorted(its - mine)
    ]


def unequal(source: nn.Module, target: nn.Module) -> list[str]:
    """Names of the parameters and buffers that both modules have with different values, whatever their shapes."""
    mine, its = (
        {**dict(m.named_parameters(recurse=False)), **dict(m.named_buffers(recurse=False))} for m in (source, target)
    )
    return [
        name
        for name in mine.keys() & its.keys()
        if mine[name].numel() != its[name].numel() or not torch.equal(mine[name].flatten(), its[name].flatten())
    ]


def operations(one: Sequence[str], other: Sequence[str]) -> str | None:
    """The operations that only one side ran, as a text; None where both ran the same."""
    mine, its = Counter(one), Counter(other)
    only, added = (mine - its), (its - mine)
    if not only and not added:
        return None
    return f"{_listed(only) or 'nothing'} against {_listed(added) or 'nothing'}"


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count}x {operation}" if count > 1 else operation for operation, count in counts.items())
