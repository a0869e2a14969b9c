"""Watch one forward pass: which modules run, with which shapes, and which parameters are used at all."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Shape = tuple[int, ...]


class Trace(TorchFunctionMode):
    """Notes of one forward pass, taken while the body of `watching` runs.

    `shapes` maps a path to the first tensor's shape going in and coming out, `arrived` has those going in even where
    the pass then stopped, `order` the paths as they were called.

    A module counts as used when its forward ran or an operation was given one of its own tensors: attention layers
    read the weights of children they never call. `stand_ins` maps the id of a model's tensor to the tensor that took
    its place in the pass.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.paths = {module: path for path, module in model.named_modules()}
        self.shapes: dict[str, tuple[Shape | None, Shape | None]] = {}
        self.arrived: dict[str, Shape | None] = {}
        self.order: list[str] = []
        self.stand_ins: dict[int, Tensor] = {}
        self._touched: dict[int, None] = {}  # in order of first use
        self._running: list[nn.Module] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        self._touched.update(dict.fromkeys(id(tensor) for tensor in tensors_in((args, kwargs))))
        return func(*args, **(kwargs or {}))

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on every module for as long as the body runs."""
        hooks = [module.register_forward_pre_hook(self._enter, with_kwargs=True) for module in self.paths]
        hooks += [module.register_forward_hook(self._leave, with_kwargs=True) for module in self.paths]
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def unused(self) -> list[str]:
        """The top-most modules that hold parameters or buffers and of which nothing was used."""
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
        self.arrived.setdefault(self.paths[module], _first_shape((args, kwargs)))

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self._running.pop()
        self.shapes.setdefault(self.paths[module], (self.arrived[self.paths[module]], _first_shape(output)))


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
    return next(module.parameters(), None) is not None or next(module.buffers(), None) is not None
