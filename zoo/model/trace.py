"""Watch one forward pass: which modules run, with which shapes, inputs, outputs and operations in between."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from zoo.model import norms_on_meta
from zoo.model.paths import has_parameters, join
from zoo.model.prediction import prediction
from zoo.model.undisturbed import undisturbed


def call_with(model: nn.Module, stand_ins: Mapping[int, Tensor], *inputs: Any) -> Any:
    """`model(*inputs)`, each parameter and buffer replaced by `stand_ins[id(tensor)]` where there is one.

    torch's functional_call alone leaves the stand-ins in a module that is registered at two places (seen in 2.15), so
    each module is visited once, and each of its tensors by its place.
    """
    places = {
        join(path, name): stand_ins[id(tensor)]
        for path, module in model.named_modules()
        for name, tensor in (*module._parameters.items(), *module._buffers.items())
        if id(tensor) in stand_ins
    }
    return functional_call(model, places, inputs, tie_weights=False)


Shape = tuple[int, ...]


class Trace(TorchFunctionMode):
    """What one forward pass does, recorded while the body of `watching` runs.

    `shapes` maps a path to the first tensor's shape going in and coming out, `inputs` has those going in even where
    the pass then stopped, `order` the paths as they were called.

    A module counts as used when its forward ran or an operation was given one of its own tensors: attention layers
    read the weights of children they never call. `stand_ins` maps the id of a model's tensor to the tensor that took
    its place in the pass. With `counting`, `macs` has the multiply-accumulates of each module with all that is inside
    it, over all its calls: those of convolutions and matrix products (attention's too), of the whole batch.
    """

    def __init__(self, model: nn.Module, *, counting: bool = False) -> None:
        super().__init__()
        self.model = model
        self.paths = {module: path for path, module in model.named_modules()}
        self.shapes: dict[str, tuple[Shape | None, Shape | None]] = {}
        self.inputs: dict[str, Shape | None] = {}
        self.order: list[str] = []
        self.stand_ins: dict[int, Tensor] = {}
        self.macs: dict[str, int] = {}
        self._counter = _flop_counter() if counting else None
        self._begun: list[int] = []  # what was counted when each running module was entered
        self._touched: dict[int, None] = {}  # in order of first use
        self._running: list[nn.Module] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._touched.update(dict.fromkeys(id(tensor) for tensor in tensors_in((args, kwargs))))
        return norms_on_meta.call(func, args, kwargs or {})

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on every module for as long as the body runs."""
        hooks = [module.register_forward_pre_hook(self._enter, with_kwargs=True) for module in self.paths]
        hooks += [module.register_forward_hook(self._leave, with_kwargs=True) for module in self.paths]
        try:
            with self, self._counter or contextlib.nullcontext():
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def unused(self) -> list[str]:
        """The top-most modules with parameters or buffers of which nothing was used."""
        dead: list[str] = []
        for path, module in self.model.named_modules():
            inside_dead = any(path.startswith(f"{above}.") for above in dead)
            if not inside_dead and _has_state(module) and not any(map(self._used, module.modules())):
                dead.append(path)
        return dead

    def first_uses(self) -> dict[int, int]:
        """By id of a model's tensor: the place of its first use among those of all tensors, in order of execution."""
        places = {touched: place for place, touched in enumerate(self._touched)}
        return {own: places[id(tensor)] for own, tensor in self.stand_ins.items() if id(tensor) in places}

    def where(self) -> str:
        """The innermost module that was running when the pass stopped, in words."""
        if not self._running:
            return "in the model itself"
        module = self._running[-1]
        return f"in {self.paths[module] or 'the model'} ({type(module).__name__})"

    def _used(self, module: nn.Module) -> bool:
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        touched = any(id(self.stand_ins.get(id(tensor), tensor)) in self._touched for tensor in own)
        return touched or self.paths[module] in self.shapes

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        self._running.append(module)
        self.order.append(self.paths[module])
        self.inputs.setdefault(self.paths[module], _first_shape((args, kwargs)))
        self._begun.append(self._counted())

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._running.pop()
        path = self.paths[module]
        self.shapes.setdefault(path, (self.inputs[path], _first_shape(output)))
        counted = self._counted() - self._begun.pop()
        if self._counter is not None:
            self.macs[path] = self.macs.get(path, 0) + counted

    def _counted(self) -> int:
        return self._counter.get_total_flops() // 2 if self._counter is not None else 0


def _flop_counter() -> Any:
    """torch's, which counts a multiplication and an addition as two; its import takes a tenth of a second."""
    from torch.utils.flop_counter import FlopCounterMode

    return FlopCounterMode(display=False)


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor inside nested lists, tuples and mappings, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif isinstance(value, Mapping):
        yield from tensors_in(tuple(value.values()))


def _first_shape(value: Any) -> Shape | None:
    return next((tuple(tensor.shape) for tensor in tensors_in(value)), None)


def _has_state(module: nn.Module) -> bool:
    return has_parameters(module) or next(module.buffers(), None) is not None


SHAPING = frozenset(
    "view reshape flatten permute transpose contiguous size dim unsqueeze squeeze chunk split unbind expand unflatten "
    "roll cat stack type_as to clone detach dropout numel new_zeros _assert".split()
)
"""Operations that move values without changing them; two networks may differ in these and compute the same."""


SILENT = frozenset({"inplace", "training", "dim", "_stacklevel", "need_weights", "dtype", "device"})
DEFAULTS: Mapping[str, Mapping[str, Any]] = {"gelu": {"approximate": "none"}}
POSITIONS: Mapping[str, Mapping[str, int]] = {
    "batch_norm": {"eps": 7},
    "layer_norm": {"eps": 4},
    "group_norm": {"eps": 4},
    "conv2d": {"stride": 3, "padding": 4, "dilation": 5, "groups": 6},
    "pad": {"pad": 1},
    "leaky_relu": {"negative_slope": 1},
    "avg_pool2d": {"kernel_size": 1, "stride": 2, "padding": 3},
    "max_pool2d": {"kernel_size": 1, "stride": 2, "padding": 3},
}
"""Settings that are handed over by position, of operations whose settings matter."""


@dataclass(frozen=True)
class Event:
    """A chosen module's first input or output, at `step` in the pass: a copy, or what `record` kept of it."""

    path: str
    way: str  # "in" or "out"
    value: Any
    step: int


@dataclass
class Recording:
    """One pass. `events` are in order of execution; `operations` pairs a step with an operation, in words."""

    output: Tensor
    events: list[Event] = field(default_factory=list)
    operations: list[tuple[int, str]] = field(default_factory=list)

    def event(self, path: str, way: str) -> Event | None:
        return next((event for event in self.events if (event.path, event.way) == (path, way)), None)

    def between(self, first: int, last: int) -> list[str]:
        """The operations after step `first` and before step `last` that change values."""
        return [words for step, words in self.operations if first < step < last]


Keep = Callable[[str, str, Tensor], Any]


def _copy(path: str, way: str, value: Tensor) -> Tensor:
    return value.detach().clone()


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module, paths: Iterable[str], keep: Keep) -> None:
        super().__init__()
        self.keep = keep
        self.recording = Recording(torch.empty(0))
        self.chosen = {module: path for path, module in model.named_modules() if path in set(paths)}
        self._step, self._looking = 0, False
        self._seen: set[tuple[str, str]] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self._looking:
            return func(*args, **(kwargs or {}))
        self._step += 1
        name = getattr(func, "__name__", str(func))
        if name.rstrip("_") not in SHAPING and not name.startswith("__"):
            self.recording.operations.append((self._step, _words(name, args, kwargs or {})))
        return func(*args, **(kwargs or {}))

    def note(self, module: nn.Module, way: str, values: Any) -> None:
        path, tensor = self.chosen[module], next(tensors_in(values), None)
        if tensor is not None and (path, way) not in self._seen:
            self._seen.add((path, way))
            self._step += 1
            self._looking = True  # what `keep` computes is none of the model's operations
            try:
                kept = self.keep(path, way, tensor)
            finally:
                self._looking = False
            self.recording.events.append(Event(path, way, kept, self._step))


def _words(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """`gelu(approximate=tanh)`: the operation, with the settings that change what it computes."""
    name = name.rstrip("_")
    given = dict(DEFAULTS.get(name, {}))
    given |= {key: args[place] for key, place in POSITIONS.get(name, {}).items() if place < len(args)}
    given |= {key: value for key, value in kwargs.items() if key not in SILENT}
    settings = ", ".join(
        f"{key}={value}" for key, value in given.items() if isinstance(value, str | int | float | tuple | list)
    )
    return f"{name}({settings})" if settings else name


def record(model: nn.Module, inputs: Tensor, paths: Iterable[str], keep: Keep = _copy) -> Recording:
    """Run `model` on `inputs` in evaluation mode without autograd, and leave it as it was.

    What goes into and comes out of the modules at `paths` is copied, which may take as much memory as training;
    `keep(path, way, value)` looks at each instead and returns what to keep of it.
    Raises whatever forward raises.
    """
    recorder = _Recorder(model, paths, keep)
    with undisturbed(model, training=False, attributes=True), torch.no_grad(), recorder:
        for module in recorder.chosen:
            module.register_forward_pre_hook(lambda m, a, k: recorder.note(m, "in", (a, k)), with_kwargs=True)
            module.register_forward_hook(lambda m, _, out: recorder.note(m, "out", out))
        recorder.recording.output = prediction(model(inputs))
    return recorder.recording
