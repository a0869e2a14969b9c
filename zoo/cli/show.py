"""`zoo show`: everything there is to know about one component, read rather than imported where it can be read."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from zoo import registry
from zoo.cli.facts import facts_of, made_for
from zoo.cli.list import kind_called
from zoo.contracts import CONTRACTS, Preprocessing, Weights
from zoo.errors import listed
from zoo.plugin_calls import call, expect, texts
from zoo.recipe.signature import parameters
from zoo.registry import Component, describe

Facts = dict[str, Any]


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A full name, or a bare one while it is unique.")],
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Which kind, where several have the name.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show one component: signature, documentation, weights, input size, plugin and version.

    Examples:

        zoo show timm/resnet50            its weights' tags, input size, preprocessing
        zoo show swap_head                a surgery: what a recipe's step may say
        zoo show torchvision/CIFAR10      a dataset's arguments
        zoo show efficientnet-lite/lite0 --json
    """
    component = registry.resolve(name, kind_called(kind))
    facts = read(component)
    if as_json:
        print(json.dumps(facts | ask(component), indent=1))
        return
    print(as_text(facts), flush=True)  # asking may import a framework, which takes seconds
    print("".join(f"{line}\n" for line in _aligned(_rows(ask(component)))), end="")


def read(component: Component) -> Facts:
    """What can be read about a component: torch is not imported for it."""
    described = describe(component)
    row = {key: getattr(component, key) for key in ("name", "kind", "plugin", "version", "distribution", "target")}
    facts = row | {
        "status": component.status,
        "signature": described.signature,
        "documentation": described.documentation,
        "contract": CONTRACTS[component.kind],
    }
    if component.kind == "architectures":
        facts["tags"] = _tags(component)
        facts["weights"] = made_for(component.name)
        facts["parameters"] = facts_of(component).parameters
    return facts


def _tags(component: Component) -> list[str]:
    """The tags of an architecture's pretrained weights, from its source."""
    source: Any = registry.load_source(component) if component.member else None
    if not hasattr(source, "tags"):
        return []
    found = call(component, lambda: source.tags(component.member), failing="fails to list its weights")
    return texts(component, found, "a list of names", what="returned for its tags")


def ask(component: Component) -> Facts:
    """What only the plugin's own code knows: preprocessing, where weights lie, a remap's rules."""
    if component.kind == "weights":
        loaded = registry.load(component)
        if lacking := [name for name, known in parameters(loaded).items() if known.required]:
            return {"needs": lacking}
        found = call(component, loaded, failing="fails to say where its weights are")
        weights = expect(component, found, Weights)
        facts = {key: getattr(weights, key) for key in ("location", "architecture", "sha256", "license", "source")}
        facts |= {"remap": weights.remap, "classes": list(weights.classes or ())}
        return facts | {"preprocessing": weights.preprocessing.as_dict() if weights.preprocessing else None}
    if component.kind == "remaps":
        rules: Any = expect(component, call(component, registry.load(component)), (list, tuple), "a list of rules")
        return {"rules": list(rules)}
    if component.member and hasattr(source := registry.load_source(component), "preprocessing"):
        failing = "fails to say how images are prepared"
        stated = call(component, lambda: source.preprocessing(component.member, None), failing=failing)
        if stated is None:
            return {"preprocessing": None}
        expect(component, stated, Preprocessing, what="returned for its preprocessing")
        return {"preprocessing": stated.as_dict()}
    return {}


def as_text(facts: Facts) -> str:
    """What was read, for people."""
    documentation = "".join(f"\n  {line}".rstrip(" ") for line in facts["documentation"].splitlines())
    head = [facts["name"], f"  {facts['signature']}", documentation.removeprefix("\n"), ""]
    plugin = f"{facts['plugin']} {facts['version']} (distribution {facts['distribution']}, {facts['target']})"
    rows = {"kind": facts["kind"], "plugin": plugin, "contract": facts["contract"]}
    return "\n".join(
        [*head, *_aligned(rows | _rows({key: facts.get(key) for key in ("parameters", "tags", "weights")}))]
    )


def _rows(facts: Facts) -> dict[str, str]:
    """Facts as lines of text, those without content left out."""
    rows: dict[str, str] = {}
    for key, value in facts.items():
        if not value:
            continue
        if key == "preprocessing":
            rows |= _preprocessing(value)
        elif key == "parameters":
            rows[key] = f"{value:,}"
        elif key == "tags":
            rows[key] = f"{value[0]} (default){''.join(f', {tag}' for tag in value[1:])}"
        elif key == "classes":
            rows[key] = f"{len(value):,}: {listed(value, 3)}"
        elif key == "rules":
            rows[key] = "".join(f"\n    - {json.dumps(rule)}" for rule in value)
        else:
            rows[key] = ", ".join(value) if isinstance(value, list) else str(value)
    return rows


def _preprocessing(values: Facts) -> dict[str, str]:
    height, width = values["size"]
    return {
        "input": f"{values['channels']} x {height} x {width}",
        "mean, std": f"{_numbers(values['mean'])} and {_numbers(values['std'])}",
        "resize": f"{values['interpolation']}, the centre crop keeps {values['crop_fraction']:.4g}",
    }


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def _aligned(rows: dict[str, str]) -> list[str]:
    return [f"  {key:14}{value}" for key, value in rows.items()]
