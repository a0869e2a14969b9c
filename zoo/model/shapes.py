"""The input and output shape of every module, from a forward pass without computing, and the modules it never uses."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from zoo.contracts import Context, Preprocessing
from zoo.errors import InputError, WorkError
from zoo.model.module_spec import Place
from zoo.model.paths import get_module
from zoo.model.prediction import prediction
from zoo.model.trace import Shape, Trace, call_with, tensors_in
from zoo.model.undisturbed import undisturbed
from zoo.model.wiring import runs_in_order


class NoFakeTensorsError(RuntimeError):
    """This version of torch has its fake tensors elsewhere."""


NEEDS_VALUES: tuple[type[Exception], ...]
try:  # a private module of torch's, which may go
    from torch._subclasses import fake_tensor
except ImportError:
    fake_tensor = None  # type: ignore[assignment]
    NEEDS_VALUES = (NoFakeTensorsError,)
else:
    NEEDS_VALUES = (
        fake_tensor.DataDependentOutputException,
        fake_tensor.DynamicOutputShapeException,
        fake_tensor.UnsupportedFakeTensorException,
        fake_tensor.UnsupportedOperatorException,
    )
"""What stops a pass whose code looks at values, or one that cannot be made with fake tensors at all."""


@contextlib.contextmanager
def faking() -> Iterator[None]:
    """New tensors are fake in the block. Raises NoFakeTensorsError where there are none."""
    if fake_tensor is None:
        raise NoFakeTensorsError("torch has no fake tensors where zoo knows them")
    log = logging.getLogger("torch._subclasses.fake_tensor")  # prints a traceback for every shape that does not fit
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with fake_tensor.FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        log.setLevel(level)


BATCH = 2  # one sample would break batch normalisation in training mode
_NO_VALUES = ("meta tensors", "meta tensor;", "meta device type")  # item(), tolist(), numpy() on meta


class UndecidedError(WorkError):
    """A forward pass that looks at values, on a model that has none (it is on `meta`)."""


@dataclass
class DryRun:
    """What a forward pass in evaluation mode looks like.

    `output` is what the model gave, without values; `outputs` has the shapes in it by name or index. `shapes` maps a
    module's path to the shapes of its first tensor input and first tensor output, the batch dimension included.
    `uncalled` are the top-most modules with parameters or buffers that forward never uses; those it uses in training
    mode alone (auxiliary heads) are in `training_only`. `order` has the paths in the order they were called; `way`
    is "meta", "fake" or "real".
    """

    input_shape: Shape
    output: Any = field(repr=False)
    outputs: dict[str, Shape]
    shapes: dict[str, tuple[Shape | None, Shape | None]]
    uncalled: list[str]
    training_only: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    way: str = "meta"

    @property
    def output_shape(self) -> Shape:
        """[b, …] of the prediction. Raises InputError where the output leaves open which tensor that is."""
        return tuple(prediction(self.output).shape)


def input_shape(preprocessing: Preprocessing) -> Shape:
    """[b, c, h, w] of a small batch as `preprocessing` makes it."""
    return (BATCH, preprocessing.channels, *preprocessing.size)


def dry_run(model: nn.Module, shape: Shape | Preprocessing) -> DryRun:
    """Propagate shapes through `model` in evaluation mode.

    `shape` is the input's, the batch dimension included, or a Preprocessing's image.
    Raises InputError naming the module that fails when the input does not go through, UndecidedError when that
    cannot be found out without real numbers.
    """
    size = input_shape(shape) if isinstance(shape, Preprocessing) else tuple(shape)
    done = attempt(model, size)
    if done.error is not None:
        raise done.error
    trace, outputs = done.trace, named_shapes(done.output)
    run = DryRun(size, done.output, outputs, trace.shapes, trace.unused(), order=trace.order, way=done.way)
    if run.uncalled:
        _move_training_only(model, run)
    return run


@dataclass(frozen=True)
class Pass:
    """One forward pass: its trace, and its output or the error that stopped it."""

    trace: Trace
    way: str
    output: Any = None
    error: InputError | UndecidedError | None = None


def attempt(model: nn.Module, size: Shape, *, counting: bool = False) -> Pass:
    """A pass by the first way that works, or the last one tried with its error; shapes are known up to there.

    On `meta` nothing is computed, but a forward that looks at values fails; torch's fake tensors know devices and some
    of those values; real random numbers are the last resort. Parameters and buffers are never used themselves: copies
    or empty tensors stand in for them. `counting` is for the trace's `macs`.
    """
    on_meta = any(tensor.is_meta for tensor in _tensors(model))
    undecided: Pass | None = None
    for way in ("meta", "fake", "real"):
        trace = Trace(model, counting=counting)
        try:
            return Pass(trace, way, _run(model, size, way, trace))
        except Exception as failure:
            stopped = Pass(trace, way, error=_explain(failure, size, trace))
        if on_meta and isinstance(stopped.error, UndecidedError):
            undecided = undecided or stopped  # plain tensors of such a model are on meta and fit no fake ones
        if way == "fake" and (on_meta or not isinstance(stopped.error, UndecidedError)):
            break
    return undecided or stopped


def _explain(failure: Exception, size: Shape, trace: Trace) -> InputError | UndecidedError:
    if isinstance(failure, InputError):
        return failure
    if isinstance(failure, NEEDS_VALUES) or any(words in str(failure) for words in _NO_VALUES):
        return UndecidedError(f"forward looks at values, so shapes cannot be found on meta ({trace.where()})")
    cause = f"{type(failure).__name__}: {failure}".splitlines()[0]
    return InputError(f"an input {list(size)} does not go through the model: {trace.where()}: {cause}")


def named_shapes(output: Any) -> dict[str, Shape]:
    """The shapes of an output's tensors: a tensor is "0", others go by field name, key or index."""
    if isinstance(output, Tensor):
        return {"0": tuple(output.shape)}
    if hasattr(output, "_asdict"):  # a named tuple
        output = output._asdict()
    items = output.items() if hasattr(output, "items") else enumerate(tensors_in(output))
    return {str(key): tuple(value.shape) for key, value in items if isinstance(value, Tensor)}


def _move_training_only(model: nn.Module, run: DryRun) -> None:
    trace = Trace(model)
    try:
        _run(model, run.input_shape, run.way, trace, training=True)
    except InputError:  # a wire that cannot run on what its parent gives in training mode
        raise
    except Exception:  # what training needs beside an input, a dry run does not have
        return
    dead = set(trace.unused())
    run.training_only = [path for path in run.uncalled if path not in dead]
    run.uncalled = [path for path in run.uncalled if path in dead]


def _run(model: nn.Module, size: Shape, way: str, trace: Trace, *, training: bool = False) -> Any:
    """One forward pass on stand-ins for the model's tensors."""
    with undisturbed(model, attributes=True), torch.no_grad(), _setting(way):
        for module in model.modules():
            module.training = training  # frozen ones too: what forward calls in this mode is a matter of its code
        trace.stand_ins = {id(tensor): _stand_in(tensor, way) for tensor in _tensors(model)}
        like = next((t for t in trace.stand_ins.values() if t.is_floating_point()), torch.empty(0))
        generator = torch.Generator(like.device).manual_seed(0) if way == "real" else None
        value = torch.randn(size, generator=generator, dtype=like.dtype, device=like.device)
        with trace.watching():
            return call_with(model, trace.stand_ins, value)


@contextlib.contextmanager
def _setting(way: str) -> Iterator[None]:
    """Where new tensors are made in each way."""
    if way == "real":
        yield
    elif way == "meta":
        with torch.device("meta"):
            yield
    else:
        with faking():
            yield


def _stand_in(tensor: Tensor, way: str) -> Tensor:
    if way == "real":
        return tensor.detach().clone()
    device = "cpu" if way == "fake" and tensor.is_meta else "meta" if way == "meta" else tensor.device
    return torch.empty_like(tensor, device=device)


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers, shared ones once."""
    yield from model.parameters()
    yield from model.buffers()


def called_modules(model: nn.Module, context: Context | None = None) -> list[str]:
    """The paths of the modules that forward calls, in that order, found without computing; all of them where no likely
    input goes through.

    A layer that is not among them is dead weight, or its parent reads its weights itself, so that nothing that is put
    in its place runs.
    """
    furthest = ModuleShapes(model, context).furthest
    called = furthest.trace.order if furthest.error is None else furthest.trace.paths.values()
    return list(dict.fromkeys(called))


_SIDES = (224, 32, 28, 64, 96)  # of images, where nobody says: ImageNet, CIFAR, MNIST, and others in use


class ModuleShapes:
    """The shapes of what goes into and comes out of each module, found when first asked for.

    The input is what `context` says; where that does not go through, one with the channels or features of the model's
    first layer is tried. When none goes through, the pass that got furthest gives the shapes up to where it stopped:
    a chain of surgeries may leave a model that does not run until the last of them is done. The input has `batch`
    samples; `counting` is for the trace's `macs`.
    """

    def __init__(
        self, model: nn.Module, context: Context | None = None, *, batch: int = BATCH, counting: bool = False
    ) -> None:
        self.model, self.context, self.batch, self.counting = model, context, batch, counting

    @functools.cached_property
    def furthest(self) -> Pass:
        """The first pass that goes through, else the one that called the most modules."""
        best: Pass | None = None
        for size in dict.fromkeys(_likely_inputs(self.model, self.context)):
            done = attempt(self.model, (self.batch, *size[1:]), counting=self.counting)
            if done.error is None:
                return done
            if best is None or len(done.trace.order) > len(best.trace.order):
                best = done
        assert best is not None  # there is always one likely input
        return best

    def input_of(self, path: str) -> Shape:
        """The shape [b, …] of the input of the module at `path`. Raises InputError where it is not known."""
        return self._known(path, self._input(get_module(self.model, path)))

    def output_of(self, path: str) -> Shape:
        """The shape [b, …] of the output of the module at `path`. Raises InputError where it is not known."""
        return self._known(path, self._output(get_module(self.model, path)))

    def prediction(self) -> Shape | None:
        """The prediction's shape, None when no likely input goes through or the output leaves open which it is."""
        with contextlib.suppress(InputError):
            return tuple(prediction(self.furthest.output).shape) if self.furthest.error is None else None
        return None

    def place_of(self, path: str) -> Place:
        """The place of the module at `path`, for one that replaces it."""
        old = get_module(self.model, path)

        def incoming() -> Shape:
            try:
                return self.input_of(path)
            except InputError:
                if isinstance(old, nn.Linear):
                    return (BATCH, old.in_features)
                raise

        return Place(like=old, input_shape=incoming)

    def _input(self, module: nn.Module) -> Shape | None:
        """A module's input, or that of the first one of a Sequential whose parts are called one by one from outside."""
        trace, children = self.furthest.trace, list(module.children())
        shape = trace.inputs.get(trace.paths[module])
        return self._input(children[0]) if shape is None and children and runs_in_order(module) else shape

    def _output(self, module: nn.Module) -> Shape | None:
        trace, children = self.furthest.trace, list(module.children())
        shape = trace.shapes.get(trace.paths[module], (None, None))[1]
        return self._output(children[-1]) if shape is None and children and runs_in_order(module) else shape

    def _known(self, path: str, shape: Shape | None) -> Shape:
        if shape is not None:
            return shape
        if self.furthest.error is not None:
            raise InputError(str(self.furthest.error))
        raise InputError(f"forward never calls {path!r} with a tensor")


def _likely_inputs(model: nn.Module, context: Context | None) -> Iterator[Shape]:
    timm: Any = getattr(model, "default_cfg", None)  # timm's models say what they were made for
    first = next((layer for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)), None)
    channels = first.in_channels if isinstance(first, nn.Conv2d) else 3
    if context is not None:
        yield input_shape(context.preprocessing)
        yield (BATCH, channels, *context.preprocessing.size)
    elif isinstance(timm, dict) and timm.get("input_size"):
        yield (BATCH, *timm["input_size"])
    elif not isinstance(first, nn.Linear):
        yield from ((BATCH, channels, side, side) for side in _SIDES)
    if isinstance(first, nn.Linear):
        yield (BATCH, first.in_features)
        yield (BATCH, channels, _SIDES[0], _SIDES[0])
