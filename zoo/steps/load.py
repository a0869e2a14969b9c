"""The step `load`: a warm start from another checkpoint in the middle of a chain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.model.load_into import LoadReport, load_into
from zoo.model.pretrained import find_weights
from zoo.recipe import Step
from zoo.recipe.document import Document, Path
from zoo.recipe.options import Fraction
from zoo.recipe.references import check_remap, check_weights
from zoo.remap.remaps import items

if TYPE_CHECKING:
    from zoo.finetuning.run import Run
    from zoo.preflight.rehearsal import Rehearsal


class Load(Step):
    """`load:` a warm start from another checkpoint in the middle of a chain."""

    weights: str
    """A weights component, `hf://ORG/REPO[/FILE]`, or a file."""
    remap: str | dict[str, Any] | list[Any] | None = None
    """As in `model`."""
    min_coverage: Fraction = 1.0
    """The share of the parameters that the weights have to fill, and of the file that has to be used."""
    strict_shapes: bool = True
    """Whether a tensor of another shape is an error; otherwise it is left out and reported."""

    @classmethod
    def read(cls, document: Document, path: Path) -> Load | None:
        step = super().read(document, path)
        weights = check_weights(document, (*path, "weights"), None)
        remap = check_remap(document, (*path, "remap"))
        return step and step.model_copy(update={"weights": weights and weights.name, "remap": remap})

    def check(self, rehearsal: Rehearsal) -> None:
        rehearsal.plan_load(self)

    def run(self, run: Run) -> None:
        weights = find_weights(self.weights, run.assembly.architecture)
        report = load_into(
            run.assembly.model,
            weights.location,
            items(weights.remap, self.remap),
            min_coverage=self.min_coverage,
            strict_shapes=self.strict_shapes,
            classes=run.context.classes,
            sha256=weights.sha256,
            convert=weights.convert,
        )
        run.record(self, **coverage(self.weights, report))

    @classmethod
    def row(cls, record: dict[str, Any]) -> dict[str, str]:
        return super().row(record) | {"metrics": f"{record['coverage']:.1%} of the parameters"}


def coverage(weights: str, report: LoadReport) -> dict[str, Any]:
    """What a report keeps of a load."""
    return {"weights": weights, "coverage": report.coverage, "missing": list(report.missing)}
