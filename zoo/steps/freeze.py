"""The step `freeze`: a policy chooses the parameters that do not train from here on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.errors import did_you_mean
from zoo.model.freezing import freeze
from zoo.plugin_calls import call, texts
from zoo.recipe import Step, references
from zoo.recipe.document import Document, Path
from zoo.recipe.signature import converted
from zoo.recipe.step import check_arguments
from zoo.recipe.validate import shown

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.preflight.rehearsal import Rehearsal


class Freeze(Step, extra="allow"):
    """Chooses which parameters are frozen from here on."""

    policy: str
    """The freezing policy; its own arguments stand beside it."""

    replayed = True

    @property
    def arguments(self) -> dict[str, Any]:
        """What the policy is called with beside the model."""
        return self.model_extra or {}

    @classmethod
    def read(cls, document: Document, path: Path) -> Freeze | None:
        given = document.get(path)
        policy = given.get("policy") if isinstance(given, dict) else None
        if not isinstance(policy, str):
            _no_policy(document, path, given)
            return None
        component = references.find_component(document, (*path, "policy"), policy, "freezing")
        arguments = {key: value for key, value in given.items() if key != "policy"}
        known = check_arguments(document, path, component, arguments, kind="freezing")
        if component is None or known is None:
            return None
        return cls(policy=component.name, **arguments)

    def check(self, rehearsal: Rehearsal) -> None:
        model = rehearsal.assembly.model
        rehearsal.assembly.frozen = freeze(model, self._names(model))

    def run(self, run: ActiveRun) -> None:
        run.assembly.frozen = freeze(run.assembly.model, self._names(run.assembly.model))

    def _names(self, model: Any) -> list[str]:
        component = registry.resolve(self.policy, "freezing")
        policy = registry.load(component)
        return texts(
            component, call(component, lambda: policy(model, **converted(policy, self.arguments))), "dotted names"
        )

    @classmethod
    def form(cls) -> dict[str, Any]:
        from zoo.recipe.schema import arguments_schema, chosen_by, sound, spellings

        alone: list[str] = []
        cases: list[tuple[list[str], dict[str, Any]]] = []
        for component, loaded in sound("freezing"):
            arguments = arguments_schema(loaded, "freezing", component)
            names = spellings("freezing", component)
            alone += [] if arguments["required"] else names
            properties = {"policy": {}, **arguments["properties"]}
            cases.append((names, {**arguments, "properties": properties}))
        return {"anyOf": [{"enum": alone}, chosen_by("policy", cases, {})], "description": cls.__doc__}


def _no_policy(document: Document, path: Path, given: Any) -> None:
    """A freeze step without a policy's name; the mapping may show which one was meant."""
    policies = registry.short_names("freezing")
    first = next(iter(given), "") if isinstance(given, dict) else ""
    if first in policies:
        known = references.parameters_of(registry.load(first, "freezing"), "freezing")
        key = f", {next(iter(known))}: {shown(given[first])}" if known else ""
        hint = f"write freeze: {{policy: {first}{key}}}"
    elif isinstance(given, list):
        hint = "write freeze: {policy: pattern, patterns: [...]}"
    else:
        hint = did_you_mean(str(first), ["policy"]) or f"policies: {', '.join(policies)}"
    got = "nothing" if given in ({}, None) else "no policy" if isinstance(given, dict) else shown(given)
    document.add(path, f"freeze: expected a policy's name, got {got}", hint, at_key=True)
