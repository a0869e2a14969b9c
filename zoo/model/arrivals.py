"""Which shapes arrive where in a model: forward passes without computing, on inputs that are likely to fit."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator

from torch import nn

from zoo.api import Context
from zoo.errors import InputError
from zoo.model.dry_run import BATCH, Pass, attempt, input_shape
from zoo.model.infer import Place
from zoo.model.paths import get_module
from zoo.model.prediction import prediction
from zoo.model.trace import Shape
from zoo.model.wiring import runs_in_order

_SIDES = (224, 32, 28, 64, 96)  # of images, where nobody says: ImageNet, CIFAR, MNIST, and others in use


class Arrivals:
    """Shapes inside `model`, found when first asked for.

    The input is what `context` says; where that does not go through, one with the channels or features of the model's
    first layer is tried. When none goes through, the pass that got furthest tells the shapes up to where it stopped:
    a chain of surgeries may leave a model that does not run until the last of them is done.
    """

    def __init__(self, model: nn.Module, context: Context | None = None) -> None:
        self.model, self.context = model, context

    @functools.cached_property
    def furthest(self) -> Pass:
        best: Pass | None = None
        for size in dict.fromkeys(_likely_inputs(self.model, self.context)):
            done = attempt(self.model, size)
            if done.error is None:
                return done
            if best is None or len(done.trace.order) > len(best.trace.order):
                best = done
        assert best is not None  # there is always one likely input
        return best

    def at(self, path: str) -> Shape:
        """The shape [b, …] of the tensor that reaches the module at `path`. Raises InputError."""
        return self._known(path, self._arrived(get_module(self.model, path)))

    def behind(self, path: str) -> Shape:
        """The shape [b, …] of the tensor that the module at `path` gives. Raises InputError."""
        return self._known(path, self._left(get_module(self.model, path)))

    def output(self) -> Shape | None:
        """The prediction's shape, None when no likely input goes through or the output leaves open which it is."""
        with contextlib.suppress(InputError):
            return tuple(prediction(self.furthest.output).shape) if self.furthest.error is None else None
        return None

    def replacing(self, path: str) -> Place:
        """The place of the module at `path`, for one that replaces it."""
        old = get_module(self.model, path)

        def arriving() -> Shape:
            try:
                return self.at(path)
            except InputError:
                if isinstance(old, nn.Linear):
                    return (BATCH, old.in_features)
                raise

        return Place(like=old, arriving=arriving)

    def _arrived(self, module: nn.Module) -> Shape | None:
        """What reaches a module, or the first one of a Sequential whose parts are called one by one from outside."""
        trace, children = self.furthest.trace, list(module.children())
        shape = trace.arrived.get(trace.paths[module])
        return self._arrived(children[0]) if shape is None and children and runs_in_order(module) else shape

    def _left(self, module: nn.Module) -> Shape | None:
        trace, children = self.furthest.trace, list(module.children())
        shape = trace.shapes.get(trace.paths[module], (None, None))[1]
        return self._left(children[-1]) if shape is None and children and runs_in_order(module) else shape

    def _known(self, path: str, shape: Shape | None) -> Shape:
        if shape is not None:
            return shape
        if self.furthest.error is not None:
            raise InputError(str(self.furthest.error))
        raise InputError(f"forward never calls {path!r} with a tensor")


def _likely_inputs(model: nn.Module, context: Context | None) -> Iterator[Shape]:
    told = getattr(model, "default_cfg", None)
    first = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)), None)
    channels = first.in_channels if isinstance(first, nn.Conv2d) else 3
    if context is not None:
        yield input_shape(context.preprocessing)
        yield (BATCH, channels, *context.preprocessing.size)
    elif isinstance(told, dict) and told.get("input_size"):  # timm's models say what they were made for
        yield (BATCH, *told["input_size"])
    elif not isinstance(first, nn.Linear):
        yield from ((BATCH, channels, side, side) for side in _SIDES)
    if isinstance(first, nn.Linear):
        yield (BATCH, first.in_features)
        yield (BATCH, channels, _SIDES[0], _SIDES[0])
