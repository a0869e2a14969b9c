"""The step `finetune_from_probe`: a linear probe, fine-tuning from there, and the best point between the two.

LP-FT (Kumar et al., 2022, "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution") with the
line search of WiSE-FT (Wortsman et al., 2022) at its end, so that it never ends below its probe on the validation data.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from pydantic import Field
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.model.averaging import ALPHAS, average
from zoo.model.evaluation_mode import chance_modules, running_statistics
from zoo.model.freezing import frozen_too
from zoo.model.paths import join
from zoo.model.prediction import prediction
from zoo.model.undisturbed import undisturbed
from zoo.recipe import Step
from zoo.recipe.document import Document
from zoo.recipe.step import shown
from zoo.steps.probe import Probe, linear_head, solve_probe
from zoo.steps.train import Train
from zoo.training.choosing import Criterion
from zoo.training.job import fill
from zoo.training.trainer import Trainer

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.preflight.rehearsal import Rehearsal
    from zoo.training.trainer import Trainer

SMALL = 0.125  # of the probe's head: docs/lp-ft.md has what was tried
SAME = 1e-3  # of the largest output: less is rounding, or a norm that computes its batch otherwise


class FinetuneFromProbe(Train):
    """`finetune_from_probe:` solves a linear head on the features as they are, trains everything from there, and keeps
    the best of the line between probe and fine-tuned network. It takes the options of `train`."""

    lr: Annotated[float, Field(gt=0)] = 5e-4
    """Learning rate at its highest, that of the head."""
    warmup: Annotated[float, Field(ge=0)] = 0.1
    """Steps over which the learning rate rises (1 or more), or their share of all steps (below 1)."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = 0.9
    """Each layer's learning rate is the next one's times this; null for one rate."""
    l2: Annotated[float, Field(ge=0)] = 1e-2
    """In the probe, the weight of 0.5 * |w|^2 beside the mean loss."""
    head_scale: Annotated[float, Field(gt=0, le=1)] | Literal["auto"] = "auto"
    """What the probe's head is multiplied by as fine-tuning begins: 1, 0.5, 0.25, 0.125 … Which class is
    first stays as it was, and steps that a large head would make larger do not undo the features. `auto` is 0.125, and
    1 of a regression, whose values would be an eighth."""
    batch_norm: Literal["fixed", "train"] = "fixed"
    """Whether batch norms keep the statistics that the probe saw, or normalise by the batch and learn new ones."""
    dropout: bool = False
    """Whether dropout and stochastic depth, which the probe did not see, are on in training."""
    alpha: Annotated[float, Field(ge=0, le=1)] | Literal["search"] = "search"
    """What is kept: (1 - alpha) * probe + alpha * fine-tuned; `search` takes the best of 0, 0.1 … 1 on the validation
    data, by the first metric or by what `keep` names, and of equal ones the smallest."""

    @property
    def chooses(self) -> str:
        line = "alpha" if self.alpha == "search" else ""
        return ", ".join(filter(None, (super().chooses, line)))

    @property
    def measures_exactly(self) -> bool:
        return True

    def check_options(self, document: Document, earlier: Sequence[Step]) -> None:
        super().check_options(document, earlier)
        if self.head_scale != "auto" and math.frexp(self.head_scale)[0] != 0.5:
            message = f"{self.place.action}.head_scale: {self.head_scale:g} is no power of a half"
            # which a division takes back without rounding: the line begins at the very probe
            document.add((*self.place.path, "head_scale"), message, "write 1, 0.5, 0.25, 0.125 …")

    def scale(self, task: str | None) -> float:
        """`head_scale` as a number."""
        if self.head_scale == "auto":
            return 1.0 if task == "regression" else SMALL
        return self.head_scale

    def check(self, rehearsal: Rehearsal) -> None:
        model = rehearsal.assembly.model
        path, head = linear_head(model)
        own = {id(parameter) for parameter in head.parameters()}
        trained = {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
        if not own <= trained:
            raise InputError(
                f"{self.place.action}: the head {path} is frozen", suggestion="freeze: none in front of it"
            )
        if not trained - own:
            backbone = any(id(parameter) not in own for parameter in model.parameters())
            why = "everything in front of the head is frozen" if backbone else "the model is a head without a backbone"
            hint = "freeze less in front of it, or write probe, which solves the head alone"
            raise InputError(f"{self.place.action}: {why}", suggestion=hint)
        super().check(rehearsal)

    def run(self, run: ActiveRun) -> None:
        """Solve, train and search, with what was frozen before frozen again behind it."""
        assembly, before = run.assembly, run.assembly.frozen
        try:
            with frozen_too(assembly.model, self._held(assembly.model)) as assembly.frozen:
                super().run(run)
        finally:
            assembly.frozen = before

    def _held(self, model: nn.Module) -> list[str]:
        """What stays in evaluation mode, as the probe saw it."""
        norms = running_statistics(model) if self.batch_norm == "fixed" else []
        return norms + ([] if self.dropout else chance_modules(model))

    def prepared(self, run: ActiveRun) -> dict[str, Any]:
        probe = Probe(l2=self.l2, class_weights=self.class_weights, feature_precision=self.feature_precision)
        solved = solve_probe(run, probe.at(self.place))
        if self.batch_norm == "fixed" and not self.dropout and not _trains_as_evaluated(run):
            run.listener.note(
                f"warning: {self.place.name}: in training the network answers otherwise than the probe saw it, by "
                "something in its forward that is neither batch norm nor a dropout module: the first loss is another"
            )
        _scale_head(run.assembly.model, self.scale(run.assembly.task))
        return {"probe": solved}

    def undone(self, run: ActiveRun) -> None:
        _scale_head(run.assembly.model, 1 / self.scale(run.assembly.task))

    def concluded(self, run: ActiveRun, trainer: Trainer, prepared: Mapping[str, Any]) -> dict[str, Any]:
        line, began = Line(trainer, self._start(run, trainer)), time.monotonic()
        searches = self.alpha == "search"
        points = line.measured(ALPHAS if searches else sorted({0.0, cast(float, self.alpha), 1.0}))
        chosen = best_point(points, trainer.criterion)
        if not searches:
            chosen = next(point for point in points if point["alpha"] == self.alpha)
        line.put(chosen["alpha"])
        metric = trainer.criterion.metric
        trainer.listener.note(f"{trainer.job.label}: {_told(points, chosen, metric)}")
        return {
            "metrics": chosen["metrics"],
            "alpha": chosen["alpha"],
            "line": {"metric": metric, "points": points},
            **_spent(prepared["probe"], time.monotonic() - began),
        }

    def _start(self, run: ActiveRun, trainer: Trainer) -> dict[str, Tensor]:
        """What trains, as the probe left it: from the state that was written when training began, the head in full."""
        found = [run.state.beginning() if PartialState().is_main_process else {}]
        if PartialState().num_processes > 1:
            broadcast_object_list(found)
        path, head = linear_head(run.assembly.model)
        scaled = {join(path, name) for name, _ in head.named_parameters()}
        return {
            name: value / self.scale(trainer.job.task) if name in scaled else value
            for name, value in found[0].items()
            if name in trainer.unfrozen
        }

    @classmethod
    def row(cls, record: dict[str, Any]) -> dict[str, str]:
        cells = super().row(record)
        if "alpha" in record:
            cells["epochs"] += f" (alpha {record['alpha']:g})"
        return cells


def _scale_head(model: nn.Module, factor: float) -> None:
    """Multiply the head, weight and bias, by a power of two: nothing is rounded."""
    _, head = linear_head(model)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(factor)


def _trains_as_evaluated(run: ActiveRun) -> bool:
    """Whether the network gives in training mode what it gives in evaluation mode, up to rounding."""
    model, example = run.assembly.model, run.example()
    assert example is not None
    example = example.to(run.device)
    answers = []
    for mode in (False, True):
        with undisturbed(model, training=mode, buffers=True), torch.no_grad():
            answers.append(prediction(model(example)).float())
    evaluated, trained = answers
    return bool((evaluated - trained).abs().max() <= SAME * evaluated.abs().max())


def _spent(probe: Mapping[str, Any], line: float) -> dict[str, Any]:
    """The seconds that more data would take more of, as the estimate of `zoo check` reads them."""
    passes = dict(probe.get("passes", {}))
    passes["validation"] = passes.get("validation", 0.0) + line
    return {"passes": passes, "solving": probe.get("solving", 0.0)}


def _told(points: list[Point], chosen: Point, metric: str) -> str:
    """The outcome in a sentence."""
    values = {point["alpha"]: shown(point["metrics"][metric]) for point in points}
    ends = f"the probe has {metric} {values[0.0]}, fine-tuned it is {values[1.0]}"
    if chosen["alpha"] == 0:
        return f"{ends}: fine-tuning gained nothing, the probe is what remains"
    if chosen["alpha"] == 1:
        return f"{ends}: the fine-tuned network remains"
    return f"{ends}: alpha {chosen['alpha']:g} between them remains, with {values[chosen['alpha']]}"


Point = dict[str, Any]


class Line:
    """The straight line from the tensors called `start` to those that `trainer` has trained: `put` any point of it into
    the network. The loss seldom rises on the way, and points of it are often better than both ends (WiSE-FT).

    Floating-point tensors, running statistics among them, are (1 - alpha) * start + alpha * trained, computed in
    float64; others are those of the nearer end. At 0 and 1 they are the ends' own, bit for bit.
    """

    def __init__(self, trainer: Trainer, start: Mapping[str, Tensor]) -> None:
        self.trainer, self.start = trainer, start
        self.live = {name: trainer.unfrozen[name] for name in start}
        self.end = {name: tensor.detach().cpu().clone() for name, tensor in self.live.items()}

    def put(self, alpha: float) -> None:
        fill(self.live, average([self.start, self.end], (1 - alpha, alpha), self.start))

    def measured(self, alphas: Iterable[float]) -> list[Point]:
        """`{"alpha": a, "metrics": {"loss": …, metric: …}}` of each point, as the finished file will be measured."""
        points = []
        for alpha in alphas:
            self.put(alpha)
            points.append({"alpha": alpha, "metrics": self.trainer.measure_exactly()})
        return points


def best_point(points: Sequence[Point], criterion: Criterion) -> Point:
    """The point whose metric is best, of equal ones the first: with rising alphas the one nearest to the start."""
    best, found = points[0], None
    for point in points:
        value = criterion.value({"validation": point["metrics"]})
        if criterion.better(value, found):
            best, found = point, value
    return best
