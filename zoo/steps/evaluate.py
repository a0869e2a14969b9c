"""The step `evaluate`: loss and metrics on the validation data, or on all data of another source."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch

from zoo.data.open_data import OpenData, Part
from zoo.errors import ZooError
from zoo.recipe import Step
from zoo.recipe.document import Document, Path, label
from zoo.recipe.options import MetricName, ViewName
from zoo.recipe.references import find_component, is_file
from zoo.recipe.step import require_data, shown
from zoo.training.devices import to_layout
from zoo.training.evaluate import asked, measured_of, other_data
from zoo.training.metrics import make_metrics
from zoo.training.predictions import predict_parts
from zoo.training.tta import Views

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.preflight.rehearsal import Rehearsal


class Evaluate(Step):
    """`evaluate:` measures on the validation data, or on all data of another source."""

    data: str | None = None
    """All of another dataset: a component, a folder of images or a CSV file; the validation data without it."""
    metrics: list[MetricName] | None = None
    """Classes of torchmetrics; those of the train step before it, else of the data's task, without it."""
    tta: ViewName | list[ViewName] | None = None
    """Test-time augmentation: views of each image whose probabilities (a regression's values) are averaged. Of several
    words all combinations: `[five_crop, flip]` are ten views. The checkpoint's own numbers stay without."""

    fails_safely = True

    @classmethod
    def read(cls, document: Document, path: Path) -> Evaluate | None:
        step = super().read(document, path)
        _check_other_data(document, (*path, "data"))
        return step

    @property
    def views(self) -> Views:
        return Views.of(self.tta)

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
        rehearsal.attempt(self.place.path, {"tta": lambda: self.views.preprocessing(assembly.preprocessing)})
        if self.tta and rehearsal.verdict.data is not None:
            rehearsal.attempt(self.place.path, {"tta": lambda: self.views.data(cast(OpenData, rehearsal.verdict.data))})
        make_metrics(self.metrics, assembly.task, rehearsal.sample.outputs or 2, classes=assembly.classes)

    def run(self, run: ActiveRun) -> None:
        assembly = run.assembly
        # training may have left the layout that was fastest; the file's numbers are those of the plain one
        model = assembly.model.to(run.device)
        to_layout(model, torch.contiguous_format)
        metrics, loss = asked(assembly)
        parts: tuple[Part, ...] = ("validation",)
        if self.data is None:
            data = cast(OpenData, run.data)
            if len(assembly.classes) != data.outputs:
                assembly.classes, assembly.task = data.classes, data.task
            assembly.evaluation = {"loss": loss, "metrics": self.metrics or metrics}
        else:
            data = other_data(self.data, assembly, run.recipe.seed)
            parts = tuple(data.parts)
        began = time.perf_counter()
        found = predict_parts(model, data, parts, run.device, views=self.views).judged(assembly.thresholds)
        seconds = time.perf_counter() - began
        measured = measured_of(found, self.metrics or metrics, loss)
        run.record(
            self, **measured.as_dict(), seconds=seconds, **({"tta": list(self.views.words)} if self.views else {})
        )
        how = f" ({' x '.join(self.views.words)})" if self.views else ""
        said = ", ".join(f"{name} {shown(value)}" for name, value in measured.metrics.items())
        run.listener.note(f"evaluate{how}: {said}")

    @classmethod
    def row(cls, record: dict[str, Any]) -> dict[str, str]:
        cells = super().row(record)
        if record.get("tta"):
            cells["metrics"] += f" ({' x '.join(record['tta'])})"
        return cells


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
