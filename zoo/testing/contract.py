"""What all components owe, whatever their kind."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any, ClassVar

from zoo import registry

SMALL_CNN = "zoo/small_cnn"  # comes with zoo-kit: nothing else has to be installed


class Contract:
    """What all components owe: being found without being imported, a docstring, and a signature that is a schema."""

    component: ClassVar[str]
    kind: ClassVar[str]
    arguments: Mapping[str, Any] = {}

    def load(self) -> Any:
        return registry.load(self.component, self.kind)

    def call(self, *given: Any) -> Any:
        """What the component returns for `arguments`, which are converted as a recipe's are."""
        from zoo.recipe.signature import converted

        loaded = self.load()
        return loaded(*given, **converted(loaded, self.arguments))

    def recipe(self) -> dict[str, Any] | None:
        """A recipe that uses the component with `arguments`; None where zoo knows of none for it."""
        return None

    def test_its_entry_point_resolves(self) -> None:
        assert self.component in registry.names(self.kind), f"no {self.kind} component is called {self.component}"
        row = registry.examine([registry.resolve(self.component, self.kind)])[0].row
        assert row.status == "ok", row.cause

    def test_it_is_documented(self) -> None:
        assert inspect.getdoc(self.load()), f"{self.component} has no docstring for zoo show"

    def test_its_parameters_are_annotated(self) -> None:
        parameters = list(inspect.signature(self.load()).parameters.values())[self._positional() :]
        bare = [parameter.name for parameter in parameters if parameter.annotation is parameter.empty]
        assert not bare, f"the signature is the schema of a recipe: annotate {', '.join(bare)}"

    def test_its_signature_is_a_schema(self) -> None:
        from zoo.recipe.references import accepts_anything
        from zoo.recipe.schema import arguments_schema
        from zoo.recipe.signature import model_of

        loaded, known = self.load(), self._known()
        json.dumps(arguments_schema(loaded, self.kind), allow_nan=False)
        unwritable = [name for name, value in known.items() if value.required and value.kind is Any]
        assert not unwritable, f"no value in a recipe is what {', '.join(unwritable)} is annotated with"
        model = model_of(known, extra="allow" if accepts_anything(loaded) else "forbid", optional=self._filled())
        model.model_validate_json(json.dumps(dict(self.arguments)), strict=True)

    def test_it_works_under_zoo_check(self) -> None:
        if (recipe := self.recipe()) is not None:
            passes_check(recipe)

    def _known(self) -> dict[str, Any]:
        from zoo.recipe.references import parameters_of

        return parameters_of(self.load(), self.kind)

    def _positional(self) -> int:
        """How many parameters zoo supplies itself, in front."""
        return 0

    def _filled(self) -> bool:
        """Whether zoo works out arguments that are left out."""
        return False


def passes_check(recipe: Mapping[str, Any]) -> None:
    """Raises AssertionError with all mistakes that `zoo check` finds in a recipe."""
    from zoo.verbs.training import check

    if mistakes := [str(problem) for problem in check(recipe).errors]:
        raise AssertionError("\n".join(mistakes))
