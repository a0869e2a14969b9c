"""The step behind the name of every surgery: it changes what the network consists of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.model.operations import operate
from zoo.recipe import Step
from zoo.recipe.document import Document, Path, walk
from zoo.recipe.references import find_component
from zoo.recipe.step import check_arguments

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.preflight.rehearsal import Rehearsal


class Surgery(Step):
    """A surgery by its own name, with its arguments as options."""

    component: str
    """The surgery's full name."""
    arguments: dict[str, Any]
    """What it is called with."""

    replayed = True

    @classmethod
    def read(cls, document: Document, path: Path) -> Surgery | None:
        component = find_component(document, path, str(path[-1]), "surgeries", at_key=True)
        arguments = document.get(path)
        known = check_arguments(document, path, component, arguments, kind="surgeries")
        if component is None or known is None:
            return None
        return cls(component=component.name, arguments=arguments)

    def check_options(self, document: Document, earlier: Sequence[Step]) -> None:
        for place, value in walk(self.arguments) if document.get(("data",)) is None else ():
            if value == "auto" and place[-1:] == ("num_classes",):
                message = f"{self.place.action}: num_classes auto needs data, and the recipe has no data section"
                hint = "write the number of classes, or add a data section"
                document.add((*self.place.path, *place), message, hint)

    def check(self, rehearsal: Rehearsal) -> None:
        with rehearsal.restructured(self):
            operate(rehearsal.assembly, self.component, self.arguments, rehearsal.sample.context)

    def run(self, run: ActiveRun) -> None:
        said = len(run.assembly.notes)
        operate(run.assembly, self.component, self.arguments, run.context)
        for note in run.assembly.notes[said:]:
            run.listener.note(note)
