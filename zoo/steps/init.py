"""The step `init`: fresh values for chosen parameters, or one value for one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zoo.model.initializers import initialize
from zoo.recipe import Step
from zoo.recipe.document import Document
from zoo.recipe.options import InitializerName
from zoo.recipe.signature import json_schema
from zoo.recipe.step import check_expression

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.preflight.rehearsal import Rehearsal


class Init(Step):
    """`init:` fills parameters. `match` is a regular expression on module paths, `type` a module class's name;
    `weight` and `bias` are initializers. Or one `parameter` (a path in the state dict), at `index`, becomes `value`."""

    match: str | None = None
    """A regular expression on module paths."""
    type: str | None = None
    """The name of a module class."""
    weight: InitializerName | None = None
    """What fills the weights: a function of torch.nn.init or a plugin's."""
    bias: InitializerName | None = None
    """What fills the biases."""
    parameter: str | None = None
    """One parameter by its path in the state dict."""
    index: list[int] | None = None
    """The element of it that is set; all of it without."""
    value: float | None = None
    """What it is set to."""

    @classmethod
    def form(cls) -> dict[str, Any]:
        def any_of(*keys: str) -> dict[str, Any]:
            return {"anyOf": [{"required": [key]} for key in keys]}

        several = {**any_of("weight", "bias"), "not": any_of("parameter", "value", "index")}
        single = {"required": ["parameter", "value"], "not": any_of("match", "type", "weight", "bias")}
        return {**json_schema(cls), "anyOf": [several, single]}

    def check_options(self, document: Document, earlier: Sequence[Step]) -> None:
        """Two forms: initializers for chosen modules, or one parameter set to a value."""
        path = self.place.path
        single = [key for key in ("parameter", "value", "index") if getattr(self, key) is not None]
        several = [key for key in ("match", "type", "weight", "bias") if getattr(self, key) is not None]
        if single and several:
            message = f"init: {several[0]} fills modules and {single[0]} one parameter; a step does one of the two"
            document.add((*path, several[0]), message, "write two init steps", at_key=True)
        elif single:
            for needed in ("parameter", "value"):
                if needed not in single:
                    document.add(path, f"init: {needed} is missing", f"write {needed} beside {single[0]}", at_key=True)
        elif self.weight is None and self.bias is None:
            hint = "write weight or bias, for instance {weight: {normal: {std: 0.01}}}"
            document.add(path, "init: nothing to fill in with", hint, at_key=True)
        if self.match is not None:
            check_expression(document, (*path, "match"), self.match)

    def check(self, rehearsal: Rehearsal) -> None:
        initialize(rehearsal.assembly.model, self)

    def run(self, run: ActiveRun) -> None:
        run.record(self, parameters=initialize(run.assembly.model, self))
