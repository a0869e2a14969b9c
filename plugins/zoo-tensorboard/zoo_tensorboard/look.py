"""The step `look`: the graph, the samples, and what chosen modules make of them, as pictures for TensorBoard."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, cast

import torch
from accelerate import PartialState
from pydantic import Field
from torch import Tensor, nn

from zoo.api import InputError, Recording, Step, get_module, record, undisturbed
from zoo.errors import Problem
from zoo_tensorboard.drawing import feature_maps, photographs
from zoo_tensorboard.tracker import FOLDER, open_writer, require_tensorboard

if TYPE_CHECKING:
    from zoo.api import ActiveRun, Document, Rehearsal


class Look(Step):
    """`look:` writes pictures for TensorBoard: the samples, and what chosen modules make of them."""

    modules: str | list[str] = Field([])
    """Paths of modules whose inputs and outputs are drawn as feature maps."""
    samples: Annotated[int, Field(gt=0)] = 8
    """So many samples of the validation data."""
    graph: bool = True
    """Also the graph of the model's operations."""
    images: bool = True
    """Also the samples, as they looked before they were normalised."""

    needs_data = True
    fails_safely = True

    @property
    def files(self) -> frozenset[str]:
        return frozenset({FOLDER})

    def check_options(self, document: Document, earlier: Sequence[Step]) -> None:
        if not (self.modules or self.graph or self.images):
            hint = "write modules, graph: true or images: true"
            document.add(self.place.path, "look: there is nothing to look at", hint, at_key=True)

    def check(self, rehearsal: Rehearsal) -> None:
        path = self.place.path
        rehearsal.attempt(path, {"": require_tensorboard, "modules": lambda: self._find(rehearsal)})

    def _find(self, rehearsal: Rehearsal) -> None:
        """Warn of modules to look at that forward never calls. Raises InputError for those that are not there."""
        names, run = module_names(rehearsal.assembly.model, self.modules), rehearsal.shapes(self.place.path)
        for written in [written for written, name in names.items() if run and name not in run.shapes]:
            message = f"look: {written} is never called by the model's forward: there is nothing to draw"
            rehearsal.warn(self.place.path, InputError(message), about="modules")

    def run(self, run: ActiveRun) -> None:
        """In the main process alone. Model and random generators stay as they are."""
        began, model = time.perf_counter(), run.assembly.model
        if not PartialState().is_main_process:
            return
        names = module_names(model, self.modules)
        inputs, folder = _samples(run, self.samples), run.folder / FOLDER
        album = Album(open_writer(folder), run.optimizer_steps)
        model.to(run.device)
        with (
            contextlib.closing(album.writer),
            undisturbed(model, training=False, attributes=True),
            torch.no_grad(),
        ):
            if self.images:
                album.samples(inputs, run.data)
            failure = album.graph(model, inputs) if self.graph else None
            drawn = album.modules(_recorded(model, inputs, names), names, len(inputs))
        if failure:
            run.listener.note(f"look: the graph is left out: {failure}")
        for path in [path for path in names if path not in drawn]:
            run.listener.note(
                f"look: {path} has nothing to draw: forward does not call it with a tensor of the samples"
            )
        run.record(
            self,
            folder=str(folder),
            samples=len(inputs),
            graph=self.graph and failure is None,
            modules=drawn,
            seconds=time.perf_counter() - began,
        )
        run.listener.note(f"look: tensorboard --logdir {folder}")


def module_names(model: nn.Module, paths: str | Sequence[str]) -> dict[str, str]:
    """By path as written, the one of `named_modules` (a shared module has several). Raises InputError for lost ones."""
    names = {module: name for name, module in model.named_modules()}
    found: dict[str, str] = {}
    lost: list[Problem] = []
    for path in [paths] if isinstance(paths, str) else paths:
        try:
            found[path] = names[get_module(model, path)]
        except InputError as error:
            lost += error.problems
    if lost:
        raise InputError(lost)
    return found


class Album:
    """Pictures of one moment of a run, `step`, in the event file of `writer`."""

    def __init__(self, writer: Any, step: int) -> None:
        self.writer, self.step = writer, step

    def samples(self, inputs: Tensor, data: Any) -> None:
        """Images as they looked, anything else as maps."""
        if data.parts["validation"].preprocessing is not None and inputs.shape[1] in (1, 3):
            self._add("validation/images", photographs(inputs, data.preprocessing))
        else:
            self._add_maps("validation/inputs", inputs, len(inputs))

    def graph(self, model: nn.Module, inputs: Tensor) -> str | None:
        """The graph as torch.jit traces it, or why it could not be traced."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the tracer, which wants to be exact for any input
                # traced here, since add_graph prints what cannot be traced
                traced = torch.jit.trace(model, inputs[:1], strict=False)  # type: ignore[no-untyped-call]
                self.writer.add_graph(traced, inputs[:1])
        except OSError:
            raise
        except Exception as error:  # forward may do what cannot be traced
            said = str(error).strip().partition("\n")[0]
            return f"{type(error).__name__}: {said}"
        return None

    def modules(self, recording: Recording, names: dict[str, str], samples: int) -> dict[str, Any]:
        """Draws what went into and came out of each module; shape and range of what was drawn, by path."""
        drawn: dict[str, dict[str, Any]] = {}
        for path, name in names.items():
            for way, word in (("in", "input"), ("out", "output")):
                event = recording.event(name, way)
                if event is not None and self._add_maps(f"{path or 'model'}/{word}", event.value, samples):
                    drawn.setdefault(path, {})[word] = _described(event.value)
        return drawn

    def _add_maps(self, tag: str, values: Tensor, samples: int) -> bool:
        """One picture goes by the tag itself, one a sample by the tag and the sample's number."""
        pictures = feature_maps(values, samples)
        for index, picture in enumerate(pictures):
            self._add(tag if values.ndim < 3 and len(pictures) == 1 else f"{tag}/{index}", picture)
        return bool(pictures)

    def _add(self, tag: str, picture: Tensor) -> None:
        self.writer.add_image(tag, picture.cpu(), self.step)


def _described(values: Tensor) -> dict[str, Any]:
    """Shape, and the range that black and white stand for; None where nothing is finite."""
    finite = values[values.isfinite()].float()
    low, high = torch.stack(finite.aminmax()).tolist() if finite.numel() else (None, None)
    return {"shape": list(values.shape), "minimum": low, "maximum": high}


def _samples(run: ActiveRun, count: int) -> Tensor:
    batches = cast(Any, run.data).batches("validation", device=run.device, batch_size=count, shuffle=False, once=True)
    return cast(Tensor, next(batches.epoch(0)).inputs)


def _recorded(model: nn.Module, inputs: Tensor, names: dict[str, str]) -> Recording:
    return record(model, inputs, names.values()) if names else Recording(torch.empty(0))
