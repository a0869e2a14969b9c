"""The step `lr_finder`: which learning rate the train step that follows would do well with."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from accelerate import PartialState
from accelerate.utils.memory import clear_device_cache
from pydantic import Field
from torch import nn

from zoo.errors import WorkError
from zoo.formats.files import atomic_file, write_all
from zoo.model.freezing import FrozenPart
from zoo.model.undisturbed import generators_kept, undisturbed
from zoo.recipe import Step
from zoo.recipe.document import Document
from zoo.steps.train_job import make_job
from zoo.training.callbacks import Listener
from zoo.training.job import fill, unfrozen_tensors
from zoo.training.lr_sweep import Point, Sweep, smoothed, suggestions

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.finetuning.run import ActiveRun
    from zoo.steps.train import Train

NAME = "lr_finder"
Rate = Annotated[float, Field(gt=0)]


class LrFinder(Step):
    """`lr_finder:` trains with a growing learning rate as the next train step would, says which one to take, and leaves
    model, random numbers and order as they were."""

    steps: Annotated[int, Field(ge=20)] = 100
    """Optimizer steps from the lowest rate to the highest."""
    start: Rate = 1e-7
    """The lowest rate."""
    end: Rate = 10.0
    """The highest rate; it ends before that where the loss breaks."""
    suggest: Literal["steepest", "minimum"] = "steepest"
    """What `lr: found` takes: the rate at which the loss falls fastest, or a tenth of that at which it is lowest."""

    needs_data: ClassVar[bool] = True
    fails_safely: ClassVar[bool] = True

    @property
    def files(self) -> frozenset[str]:
        number = self.place.index + 1
        return frozenset({f"{NAME}-{number}.csv", f"{NAME}-{number}.svg"})

    def check_options(self, document: Document, earlier: Sequence[Step]) -> None:
        path = self.place.path
        if self.start >= self.end:
            document.add((*path, "start"), f"lr_finder.start: {self.start:g} is not below end, {self.end:g}")
        later = document.get(("steps",))[self.place.index + 1 :]
        if not any(isinstance(step, dict) and "train" in step for step in later):
            message = "lr_finder: no train step follows, whose options it would train with"
            document.add(path, message, "put it in front of a train step", at_key=True)

    def run(self, run: ActiveRun) -> None:
        """Every process takes its share of each batch, and all find the same."""
        began = time.monotonic()
        train = self._train(run)
        model, frozen = run.assembly.model, run.assembly.frozen or FrozenPart()
        with generators_kept():
            job = make_job(run, train.model_copy(update={"lr": self.start}), frozen)
            with undisturbed(model, attributes=True, buffers=True), _parameters_kept(model, frozen):
                sweep = Sweep(job, run.state, Listener(), start=self.start, end=self.end, steps=self.steps)
                points, ended = sweep.sweep(), sweep.ended
        del sweep
        clear_device_cache(garbage_collection=True)  # hooks of several processes on the parameters, among other things
        if PartialState().is_main_process:
            _write(run.folder / f"{NAME}-{self.place.index + 1}.csv", points)
        self._conclude(run, train, points, ended, time.monotonic() - began)

    def _train(self, run: ActiveRun) -> Train:
        later = run.recipe.steps[self.place.index + 1 :]
        return cast("Train", next(step for step in later if step.place.name == "train"))

    def _conclude(self, run: ActiveRun, train: Train, points: list[Point], ended: str, seconds: float) -> None:
        found = suggestions(points)
        taken = train.lr == "found"
        run.record(
            self,
            lr=found.get(self.suggest),
            suggest=self.suggest,
            suggestions=found,
            taken=taken and bool(found),
            ended=ended or f"the rate came to {self.end:g}",
            points=_rows(points),
            seconds=seconds,
        )
        if not found:
            message = f"lr_finder: the loss did not clearly fall between {self.start:g} and {self.end:g}"
            if taken:
                raise WorkError(message, suggestion="write a number for lr, or give the lr_finder more steps")
            run.listener.note(f"warning: {message}")
            return
        if taken:
            run.pins.setdefault(str(train.place.index), {})["lr"] = found[self.suggest]
        names = {"steepest": "where the loss falls fastest", "minimum": "a tenth of where it is lowest"}
        told = ", ".join(f"{found[how]:g} {name}" for how, name in names.items())
        does = f"train takes {found[self.suggest]:g}" if taken else f"train keeps {train.lr:g} (lr: found takes it)"
        run.listener.note(f"lr_finder: {told}; {does}")

    @classmethod
    def row(cls, record: dict[str, Any]) -> dict[str, str]:
        cells = super().row(record)
        if record["lr"] is not None:
            cells["metrics"] = f"lr {record['lr']:g} ({record['suggest']})"
        return cells


@contextmanager
def _parameters_kept(model: nn.Module, frozen: FrozenPart) -> Iterator[None]:
    """What may train has its values again afterwards, wherever it is in memory then: several processes move it."""
    own = {name: tensor.detach().clone() for name, tensor in unfrozen_tensors(model, frozen).items()}
    try:
        yield
    finally:
        fill(model.state_dict(), own)


def _rows(points: Sequence[Point]) -> list[list[float]]:
    smooth = smoothed(points).tolist() if points else []
    return [[*point, value] for point, value in zip(points, smooth, strict=True)]


def _write(path: Path, points: Sequence[Point]) -> None:
    """Every step's learning rate, loss and smoothed loss, a row each."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("lr", "loss", "smoothed"))
    writer.writerows(_rows(points))
    with atomic_file(path) as file:
        write_all(file, text.getvalue().encode(), 0)
