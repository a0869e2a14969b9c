"""Record one forward pass: what goes in and comes out of chosen modules, and the operations in between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from zoo.model.prediction import prediction
from zoo.model.trace import tensors_in

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
    """A chosen module's first input or output, at `step` in the pass."""

    path: str
    way: str  # "in" or "out"
    value: Tensor
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


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module, paths: Iterable[str]) -> None:
        super().__init__()
        self.recording = Recording(torch.empty(0))
        self._chosen = {module: path for path, module in model.named_modules() if path in set(paths)}
        self._step = 0
        self._seen: set[tuple[str, str]] = set()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._step += 1
        name = getattr(func, "__name__", str(func))
        if name.rstrip("_") not in SHAPING and not name.startswith("__"):
            self.recording.operations.append((self._step, _words(name, args, kwargs or {})))
        return func(*args, **(kwargs or {}))

    def note(self, module: nn.Module, way: str, values: Any) -> None:
        path, tensor = self._chosen[module], next(tensors_in(values), None)
        if tensor is not None and (path, way) not in self._seen:
            self._seen.add((path, way))
            self._step += 1
            self.recording.events.append(Event(path, way, tensor.detach().clone(), self._step))


def _words(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """`gelu(approximate=tanh)`: the operation, with the settings that change what it computes."""
    name = name.rstrip("_")
    told = dict(DEFAULTS.get(name, {}))
    told |= {key: args[place] for key, place in POSITIONS.get(name, {}).items() if place < len(args)}
    told |= {key: value for key, value in kwargs.items() if key not in SILENT}
    settings = ", ".join(
        f"{key}={value}" for key, value in told.items() if isinstance(value, str | int | float | tuple | list)
    )
    return f"{name}({settings})" if settings else name


def record(model: nn.Module, inputs: Tensor, paths: Iterable[str]) -> Recording:
    """Run `model` on `inputs` in evaluation mode without autograd; modes are put back.

    Raises whatever forward raises.
    """
    recorder = _Recorder(model, paths)
    hooks = [m.register_forward_pre_hook(lambda m, a, k: recorder.note(m, "in", (a, k)), with_kwargs=True)
             for m in recorder._chosen]  # fmt: skip
    hooks += [m.register_forward_hook(lambda m, _, out: recorder.note(m, "out", out)) for m in recorder._chosen]
    modes = {module: module.training for module in model.modules()}
    try:
        with torch.no_grad(), recorder:
            recorder.recording.output = prediction(model.eval()(inputs))
    finally:
        for module, mode in modes.items():
            module.training = mode
        for hook in hooks:
            hook.remove()
    return recorder.recording
