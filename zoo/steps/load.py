"""The step `load`: a warm start from another checkpoint in the middle of a chain."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr

from zoo.model.load_into import LoadReport, load_into
from zoo.model.pretrained import check_architecture
from zoo.recipe import Step
from zoo.recipe.document import Document, Path
from zoo.recipe.options import Fraction
from zoo.recipe.references import WeightsReference, check_remap, check_weights
from zoo.remap.remaps import items

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.preflight.rehearsal import Rehearsal


@dataclass(frozen=True)
class _Found:
    """What a step's weights stand for, which does not count when steps are compared: they are what is written."""

    weights: WeightsReference | None = field(default=None, compare=False)


class Load(Step):
    """`load:` a warm start from another checkpoint in the middle of a chain."""

    weights: str | dict[str, dict[str, Any] | None]
    """A weights component (`{NAME: {…}}` gives it arguments), `hf://ORG/REPO[/FILE]`, or a file."""
    remap: str | dict[str, Any] | list[Any] | None = None
    """As in `model`."""
    min_coverage: Fraction = 1.0
    """The share of the parameters that the weights have to fill, and of the file that has to be used."""
    strict_shapes: bool = True
    """Whether a tensor of another shape is an error; otherwise it is left out and reported."""

    _found: _Found = PrivateAttr(default_factory=_Found)

    @property
    def found(self) -> WeightsReference:
        """What `weights` stands for."""
        assert self._found.weights is not None, "a step of a recipe without mistakes knows its weights"
        return self._found.weights

    @classmethod
    def read(cls, document: Document, path: Path) -> Load | None:
        step = super().read(document, path)
        weights = check_weights(document, (*path, "weights"), None)
        remap = check_remap(document, (*path, "remap"))
        if step is None or weights is None:
            return None
        step = step.model_copy(update={"weights": weights.name, "remap": remap})
        step._found = _Found(weights)
        return step

    def check(self, rehearsal: Rehearsal) -> None:
        rehearsal.plan_load(self)

    def run(self, run: ActiveRun) -> None:
        found = run.loads.get(self.place.index)  # looked up and planned by the check before the run
        weights = found.weights if found else self.found.look_up(run.assembly.architecture)
        check_architecture(weights, run.assembly.architecture, self.remap)
        report = load_into(
            run.assembly.model,
            weights.location,
            items(weights.remap, self.remap),
            min_coverage=self.min_coverage,
            strict_shapes=self.strict_shapes,
            classes=run.context.classes,
            sha256=weights.sha256,
            convert=weights.convert,
            planned=found.planned if found else None,
        )
        run.record(self, **coverage(self.found.name, report))

    @classmethod
    def row(cls, record: dict[str, Any]) -> dict[str, str]:
        return super().row(record) | {"metrics": f"{record['coverage']:.1%} of the parameters"}


def coverage(weights: str, report: LoadReport) -> dict[str, Any]:
    """What a report keeps of a load: all of the model that was not filled, and all of the file that found no place."""
    left = list(report.plan.leftovers)
    adapted = {"adapted": list(report.adapted)} if report.adapted else {}
    return {"weights": weights, "coverage": report.coverage, "missing": list(report.missing), "left": left, **adapted}
