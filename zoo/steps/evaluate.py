"""The step `evaluate`: loss and metrics on the validation data, or on all data of another source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from zoo.data.open_data import OpenData
from zoo.errors import ZooError
from zoo.recipe import Step
from zoo.recipe.document import Document, Path, label
from zoo.recipe.options import MetricName
from zoo.recipe.references import find_component, is_file
from zoo.recipe.step import require_data
from zoo.training.evaluate import HELD_OUT, WHOLE, measure_parts, other_data
from zoo.training.metrics import make_metrics

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.preflight.rehearsal import Rehearsal


class Evaluate(Step):
    """`evaluate:` measures on the validation data, or on all data of another source."""

    data: str | None = None
    """All of another dataset: a component, a folder of images or a CSV file; the validation data without it."""
    metrics: list[MetricName] | None = None
    """Classes of torchmetrics; those of the data's task without it."""

    fails_safely = True

    @classmethod
    def read(cls, document: Document, path: Path) -> Evaluate | None:
        step = super().read(document, path)
        _check_other_data(document, (*path, "data"))
        return step

    def check_options(self, document: Document, earlier: Sequence[Step]) -> None:
        if self.data is None:
            require_data(document, self.place)

    def check(self, rehearsal: Rehearsal) -> None:
        assembly = rehearsal.assembly
        if self.data is None:
            rehearsal.fits(self)
        else:
            try:
                other_data(self.data, assembly, rehearsal.recipe.seed)
            except ZooError as error:
                rehearsal.note((*self.place.path, "data"), error)
        make_metrics(self.metrics, assembly.task, rehearsal.sample.outputs or 2)

    def run(self, run: ActiveRun) -> None:
        model = run.assembly.model.to(run.device)
        if self.data is None:
            data, parts = cast(OpenData, run.data), HELD_OUT
        else:
            data, parts = other_data(self.data, run.assembly, run.recipe.seed), WHOLE
        metrics, samples = measure_parts(model, data, parts, run.device, self.metrics)
        run.record(self, metrics=metrics, samples=samples)
        run.listener.note(f"evaluate: {', '.join(f'{name} {value:.4f}' for name, value in metrics.items())}")


def _check_other_data(document: Document, path: Path) -> None:
    """Note data to evaluate on that is neither a folder, nor a CSV file, nor a dataset."""
    name = document.get(path)
    if not isinstance(name, str) or is_file(name):
        return
    if "/" in name and (name.startswith((".", "/", "~")) or name.endswith((".csv", "/"))):
        message = f"{label(path)}: there is no folder or file {name}"
        document.add(path, message, "paths count from the current directory")
    else:
        find_component(document, path, name, "datasets")
