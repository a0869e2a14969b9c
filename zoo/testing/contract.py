"""What all components owe, whatever their kind."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, ClassVar

from zoo import registry


class Contract:
    """What all components owe: a typed signature, a docstring, and being found without being imported."""

    component: ClassVar[str]
    kind: ClassVar[str]
    arguments: ClassVar[Mapping[str, Any]] = {}

    def load(self) -> Any:
        return registry.load(self.component, self.kind)

    def test_it_is_listed(self) -> None:
        assert self.component in registry.names(self.kind)

    def test_it_is_documented(self) -> None:
        assert inspect.getdoc(self.load()), f"{self.component} has no docstring for zoo show"

    def test_its_parameters_are_annotated(self) -> None:
        parameters = list(inspect.signature(self.load()).parameters.values())[self._positional() :]
        bare = [parameter.name for parameter in parameters if parameter.annotation is parameter.empty]
        assert not bare, f"the signature is the schema of a recipe: annotate {', '.join(bare)}"

    def _positional(self) -> int:
        """How many parameters zoo supplies itself, in front."""
        return 0
