"""The JSON Schema (draft 2020-12) of recipes, put together from the installed plugins: for editors and for people."""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from zoo import registry
from zoo.errors import InputError
from zoo.file_name import PATTERN as FILE_NAME
from zoo.recipe import option_names, references
from zoo.recipe.catalogue import SUPPLIED, find, names, supplied
from zoo.recipe.chain import actions_of
from zoo.recipe.load import Sections
from zoo.recipe.options import NAMES, CheckpointOptions, DataOptions, ModelOptions
from zoo.recipe.signature import is_open, json_schema, model_of, parameters, summary, with_shorthand
from zoo.recipe.step import is_step

Schema = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ADDRESS = "^(?!hf://)|^hf://[^/@]+/[^/@]+"  # what is one at the hub names an organisation and a repository
NOTHING: Schema = {"not": {}}  # rather than false: then the mistake is placed at the key
SCALAR: Schema = {"type": ["string", "number", "boolean"]}


def recipe_schema() -> Schema:
    """The schema of recipes: every installed component's arguments included, every shorthand allowed.

    It accepts what `load_recipe` accepts and refuses what one value by itself shows to be wrong. Imports torch and the
    plugins, but no architecture; a broken plugin is left out.
    """
    top = json_schema(Sections)
    top["anyOf"] = [{"required": top.pop("required")}, {"required": ["extends"]}]  # which may have all sections
    top["properties"]["name"] |= {"pattern": FILE_NAME}
    top["properties"]["model"] = _model()
    top["properties"]["data"] = _data()
    top["properties"]["steps"]["items"] = {"$ref": "#/$defs/step"}
    definitions = {"data": json_schema(DataOptions), "step": _step(), **{kind: _named(kind) for kind in SUPPLIED}}
    schema: Schema = _linked(
        {"$schema": DIALECT, "title": "zoo recipe", **top, **_without_data(), "$defs": definitions}
    )
    return schema


def _without_data() -> Schema:
    """A recipe without data, its own or that of one it extends, has no step that needs some."""
    needing = [word for row, step in sound("steps") if is_step(step) and step.needs_data for word in actions_of(row)]
    none = {"enum": needing, "type": "string"}
    mapping = {"type": "object", "properties": dict.fromkeys(needing, NOTHING)}
    step = {"anyOf": [{"not": {"type": "object"}}, mapping], "not": none}
    no_data = {"not": {"required": ["data"], "properties": {"data": {"not": {"type": "null"}}}}}
    alone = {"not": {"required": ["extends"]}}
    return {"if": {"allOf": [no_data, alone]}, "then": {"properties": {"steps": {"items": step}}}}


def _model() -> Schema:
    section = json_schema(ModelOptions)
    architectures = {"enum": spellings("architectures")}
    section["properties"]["architecture"] |= architectures
    section["properties"]["weights"] |= {"pattern": _ADDRESS}
    return {"anyOf": [architectures, section, json_schema(CheckpointOptions)]}


def _data() -> Schema:
    """The common options, and beside them, or under `arguments`, those of the dataset that `source` names."""
    own = {key: {"$ref": f"#/$defs/data/properties/{key}"} for key in DataOptions.model_fields}
    alone: list[str] = []
    cases: list[tuple[list[str], Schema]] = []
    for component, loaded in sound("datasets"):
        arguments = arguments_schema(loaded, "datasets", component)
        written = spellings("datasets", component)
        beside = {key: value for key, value in arguments["properties"].items() if key not in own}
        alone += [] if arguments["required"] else written
        under = {"required": ["arguments"], "properties": {"arguments": {"required": []}}}
        needed = [
            {"anyOf": [{"required": [key]}, {**under, "properties": {"arguments": {"required": [key]}}}]}
            for key in arguments["required"]
        ]
        twice = {key: {"properties": {"arguments": {"properties": {key: NOTHING}}}} for key in beside}
        section = {
            "title": component.name,
            "description": arguments["description"],
            "properties": {**beside, **own, "arguments": {**arguments, "required": []}},
            "additionalProperties": arguments["additionalProperties"],
            "allOf": needed,
            "dependentSchemas": twice,
        }
        cases.append((written, {key: value for key, value in section.items() if value != [] and value != {}}))
    return {"anyOf": [{"type": "null"}, {"enum": alone}, chosen_by("source", cases, own)]}


def chosen_by(key: str, cases: list[tuple[list[str], Schema]], common: Schema) -> Schema:
    """A mapping whose `key` names one of several, which then says what else may be in it. No alternatives side by side:
    a mistake in one is then placed where it is, and not at the whole of them."""
    names = [name for written, _ in cases for name in written]
    conditions = [
        {"if": {"properties": {key: {"enum": written}}, "required": [key]}, "then": section}
        for written, section in cases
    ]
    properties = {**common, key: {**common.get(key, {}), "enum": names}}
    return {"type": "object", "properties": properties, "required": [key], "allOf": conditions}


def _step() -> Schema:
    """A step: a bare name, or a mapping of one name to its options."""
    forms: dict[str, Schema] = {}
    for component, loaded in sound("surgeries"):
        first = next(iter(references.parameters_of(loaded, "surgeries")), None)
        form = with_shorthand(arguments_schema(loaded, "surgeries", component), first)
        forms |= dict.fromkeys(actions_of(component), form)
    for component, step in sound("steps"):
        if is_step(step):
            form = {"title": component.name, **step.form()}
            forms |= dict.fromkeys(actions_of(component), form)
    bare = [action for action, form in forms.items() if {"type": "null"} in form["anyOf"]]
    mapping = {
        "type": "object",
        "properties": forms,
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    }
    return {"anyOf": [{"enum": bare}, mapping]}


def _named(kind: str) -> Schema:
    """A name, or a mapping of one name to its arguments. What cannot be used here is left out."""
    bare: list[str] = []
    given: dict[str, Schema] = {}
    for name in names(kind):
        try:
            factory = find(kind, name)
        except InputError:
            continue
        options: Schema = {"type": "object"} if factory is None else _options(kind, name, factory)
        if not options.get("required"):
            bare.append(name)
        given[name] = options
    if kind == "modules":
        short: list[Schema] = [{"type": "null"}, SCALAR, {"type": "array"}]
        given = {name: {"anyOf": [options, *short]} for name, options in given.items()}
        given["Sequential"] = _sequential()
    else:
        given = {name: _or_first(options) if options.get("properties") else options for name, options in given.items()}
    mapping = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False}
    return {"anyOf": [{"enum": bare}, {**mapping, "properties": given}]}


def _or_first(options: Schema) -> Schema:
    """A mapping of arguments, or a lone value, which is the first of them; not side by side (see `chosen_by`)."""
    return {"if": {"type": "object"}, "then": options, "else": {"anyOf": [SCALAR, {"type": "array"}]}}


def _options(kind: str, name: str, factory: Callable[..., Any]) -> Schema:
    """The arguments of what `name` stands for; what zoo works out itself may be left out."""
    first, by_name = supplied(kind, factory)
    known = parameters(factory, first=first, skip=by_name, auto=kind == "modules")
    worked_out = option_names.filled(kind, name, known)
    known |= {key: replace(known[key], required=False) for key in worked_out if key in known}
    model = model_of(known, extra="allow" if is_open(factory) else "forbid")
    return {"title": name, "description": summary(factory), **json_schema(model)}


def _sequential() -> Schema:
    module: Schema = {"$ref": "#/$defs/modules"}
    return {"anyOf": [{"type": "array", "items": module}, {"type": "object", "additionalProperties": module}]}


def sound(kind: str) -> Iterator[tuple[registry.Component, Callable[..., Any]]]:
    """Every component of a kind that can be loaded."""
    for component in registry.components(kind):
        try:
            yield component, registry.load(component)
        except InputError:
            continue


def spellings(kind: str, component: registry.Component | None = None) -> list[str]:
    """The names of a kind, or of one component: in full, and in short where nothing else is called so."""
    rows = [row for row in registry.components(kind) if row.status == "ok"]
    uses = collections.Counter(row.short for row in rows)
    chosen = [component] if component else rows
    return [*(row.short for row in chosen if uses[row.short] == 1), *(row.name for row in chosen)]


def arguments_schema(loaded: Callable[..., Any], kind: str, component: registry.Component | None = None) -> Schema:
    """The schema of a component's arguments, its keys `properties`, `required`, … always there."""
    extra = "allow" if references.accepts_anything(loaded) else "forbid"
    model = model_of(references.parameters_of(loaded, kind), extra=extra)  # type: ignore[arg-type]
    title = {"title": component.name} if component else {}
    return {**title, "required": [], "properties": {}, **json_schema(model), "description": summary(loaded)}


def _linked(value: Any) -> Any:
    """Every value that names something refers to the definition that lists the names."""
    if isinstance(value, list):
        return [_linked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if isinstance(kind := value.get(NAMES), str):
        kept = {key: value[key] for key in ("description", "default") if key in value}
        return {"$ref": f"#/$defs/{kind}", **kept}
    return {key: _linked(inner) for key, inner in value.items()}
