"""The step `thresholds`: from which probability on each label of a multilabel network counts as there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import torch
from pydantic import Field

from zoo.data.open_data import OpenData
from zoo.errors import InputError, Problem, did_you_mean, listed
from zoo.recipe import Step
from zoo.recipe.document import Document, Path
from zoo.recipe.options import Fraction
from zoo.recipe.step import require_data, shown
from zoo.training.class_weights import class_names
from zoo.training.devices import to_layout
from zoo.training.labels import THRESHOLD, best_threshold, said
from zoo.training.metrics import make_metrics
from zoo.training.predictions import Predictions, predict_parts

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.preflight.rehearsal import Rehearsal

TUNED = "tuned"
MOST = 12  # labels that a line names with their thresholds


class Thresholds(Step):
    """`thresholds:` sets from which probability on labels of a multilabel network count as there. The checkpoint keeps
    them, and whatever judges labels goes by them."""

    value: Fraction | Literal["tuned"] = "tuned"
    """One for every label, or `tuned`: of each the one with the highest F-beta on the validation data."""
    by_class: dict[str, Fraction] = Field({})
    """Those of single labels, by their names, in place of `value`."""
    beta: Annotated[float, Field(gt=0)] = 1.0
    """What tuning weighs recall with: 1 is F1; with 2, F2, a label that is missed counts more than a false one."""

    fails_safely = True

    @classmethod
    def read(cls, document: Document, path: Path) -> Thresholds | None:
        given = document.get(path)
        written = given.items() if isinstance(given, dict) else ()
        strange = [key for key, one in written if isinstance(one, int | float) and key not in cls.model_fields]
        for key in strange:
            hint = f"of one label: by_class: {{{key}: {given[key]}}}"
            document.add((*path, key), f"thresholds has no option {key!r}", hint, at_key=True)
        return None if strange else super().read(document, path)

    @property
    def chooses(self) -> str:
        return "thresholds: tuned" if self.value == TUNED else ""

    def check_options(self, document: Document, earlier: Sequence[Step]) -> None:
        if self.value == TUNED:
            require_data(document, self.place)

    def check(self, rehearsal: Rehearsal) -> None:
        assembly, data = rehearsal.assembly, rehearsal.verdict.data
        _require_labels(rehearsal.sample.context.task if data is not None else assembly.task)
        names = class_names(data) if data is not None else assembly.classes
        if strange := [each for each in self.by_class if names and each not in names]:
            raise InputError(
                Problem(f"thresholds: there is no label {each!r}", None, did_you_mean(each, names) or listed(names))
                for each in strange
            )
        if data is not None:
            rehearsal.fits(self)
        assembly.thresholds = dict.fromkeys(names, THRESHOLD)

    def run(self, run: ActiveRun) -> None:
        """Sets them; every process tunes on the same predictions."""
        assembly = run.assembly
        if run.data is not None:
            assembly.classes, assembly.task = run.data.classes, run.data.task
            assembly.evaluation = assembly.evaluation or {"loss": "auto", "metrics": None}
        _require_labels(assembly.task)
        if self.value == TUNED:
            self._tune(run)
            return
        names = class_names(run.data) if run.data is not None else assembly.classes
        assembly.thresholds = {**dict.fromkeys(names, float(self.value)), **self.by_class}
        run.record(self, thresholds=assembly.thresholds)
        run.listener.note(f"thresholds: {_in_words(assembly.thresholds)}")

    def _tune(self, run: ActiveRun) -> None:
        assembly = run.assembly
        model = assembly.model.to(run.device)
        to_layout(model, torch.contiguous_format)  # what training may have left; the file is measured in the plain one
        found = predict_parts(model, cast(OpenData, run.data), ("validation",), run.device)
        before = found.judged(assembly.thresholds)
        scores, there = found.scores, said(found.targets)
        best = [best_threshold(scores[:, at], there[:, at], self.beta) for at in range(scores.shape[1])]
        named = dict(zip(found.class_names, best, strict=True))
        unseen = [name for name, value in named.items() if value is None and name not in self.by_class]
        kept = {name: THRESHOLD if value is None else value for name, value in named.items()}
        assembly.thresholds = {**kept, **self.by_class}
        was, now = _f1(before), _f1(found.judged(assembly.thresholds))
        run.record(
            self,
            thresholds=assembly.thresholds,
            beta=self.beta,
            without_samples=unseen,
            samples=len(found),
            f1_before=was,
            metrics={"f1": now},
        )
        tuned = f"tuned on {len(found):,} validation samples, F1 {shown(was)} -> {shown(now)}"
        run.listener.note(f"thresholds: {tuned}: {_in_words(assembly.thresholds)}")
        if unseen:
            run.listener.note(f"thresholds: no validation sample shows {listed(unseen)}: {THRESHOLD} as without tuning")

    @classmethod
    def row(cls, record: dict[str, Any]) -> dict[str, str]:
        if "metrics" not in record:
            return super().row(record) | {"metrics": _in_words(record["thresholds"], 4)}
        return super().row(record) | {"metrics": f"f1 {shown(record['f1_before'])} -> {shown(record['metrics']['f1'])}"}


def _require_labels(task: str) -> None:
    if task != "multilabel":
        why = {"classification": "the likeliest class is the answer"}.get(task, "values are no probabilities")
        message = f"thresholds belong to a multilabel network, and this one is for {task}: {why}"
        raise InputError(message, suggestion="remove the step")


def _f1(predictions: Predictions) -> float:
    """The mean of the labels' F1 at these thresholds, as `metrics: [f1]` measures it."""
    width = predictions.outputs.shape[1]
    metrics = make_metrics(["f1"], predictions.task, width, local=True, thresholds=predictions.thresholds)
    metrics.update(predictions.outputs, predictions.targets)
    return metrics.compute()["f1"]


def _in_words(thresholds: dict[str, float], most: int = MOST) -> str:
    """`cat 0.31, dog 0.5`; one number where all are the same."""
    if len(set(thresholds.values())) == 1:
        return f"{next(iter(thresholds.values())):g} for every label"
    return listed([f"{name} {value:.3g}" for name, value in thresholds.items()], most)
