"""Checks a mapping of a document against a pydantic model and words every mistake for people."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from zoo.errors import any_of, did_you_mean, nearest
from zoo.recipe.document import Document, Path, label
from zoo.recipe.options import NAMES

Schema = Mapping[str, Any]

_BY_NAME = {
    "optimizers": "an optimizer",
    "schedulers": "a scheduler",
    "losses": "a loss",
    "metrics": "a metric",
    "initializers": "an initializer",
    "modules": "a module",
    "transforms": "a transform",
    "callbacks": "a callback",
    "trackers": "a tracker",
}
_LONGEST = 48  # characters of a value in an error message
ANYTHING = "anything"
_NOUNS = {
    "integer": ("an integer", "integers"),
    "number": ("a number", "numbers"),
    "string": ("a string", "strings"),
    "boolean": ("true or false", "true or false"),
    "null": ("null", "null"),
    "object": ("a mapping", "mappings"),
    "array": ("a list", "lists"),
}


def expected(schema: Schema, definitions: Schema | None = None, *, many: bool = False) -> str:
    """What `schema` accepts: `an integer above 0`, `a list of 2 numbers`, `none, flip or crop_flip`.

    That null is accepted goes unsaid. `definitions` are the `$defs` that references in the schema point to; `many`
    asks for the plural.
    """
    definitions = definitions or schema.get("$defs", {})
    if "$ref" in schema:
        return expected(_resolved(schema, definitions), definitions, many=many)
    if NAMES in schema:
        return _BY_NAME[schema[NAMES]] + " by name" if not many else f"{schema[NAMES]} by name"
    if "anyOf" in schema:
        options = [option for option in schema["anyOf"] if option.get("type") != "null"]
        return any_of(list(dict.fromkeys(expected(option, definitions, many=many) for option in options)))
    if "const" in schema or "enum" in schema:
        return any_of([str(value) for value in schema.get("enum", [schema.get("const")]) if value is not None])
    kind = schema.get("type")
    if not isinstance(kind, str):
        return ANYTHING
    noun = _NOUNS[kind][many]
    if kind == "array":
        return noun + _items(schema, definitions)
    examples = f" such as {any_of([str(example) for example in schema.get('examples', ())])}"
    return noun + _bounds(schema) + (examples if "examples" in schema else "")


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """What a reference in a JSON Schema points to; any other schema as it is."""
    found: Schema = definitions[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema
    return found


def _items(schema: Schema, definitions: Schema) -> str:
    if schema.get("minItems") and "prefixItems" not in schema:
        return " that is not empty"
    if "prefixItems" in schema:
        inner = list(dict.fromkeys(expected(item, definitions, many=True) for item in schema["prefixItems"]))
        return f" of {len(schema['prefixItems'])} {any_of(inner)}"
    inner_schema = schema.get("items", {})
    return f" of {expected(inner_schema, definitions, many=True)}" if inner_schema else ""


def _bounds(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {_number(low)} to {_number(high)}"
    words = [
        f"of at least {_number(low)}" if low is not None else "",
        f"above {_number(above)}" if above is not None else "",
        f"of at most {_number(high)}" if high is not None else "",
        f"below {_number(below)}" if below is not None else "",
    ]
    said = " and ".join(word for word in words if word)
    return f" {said}" if said else ""


def _number(value: float) -> str:
    return f"{value:g}" if value % 1 else f"{int(value)}"


def shown(value: Any) -> str:
    """A value as it would stand in YAML, cut short: `'3'` is a string, `3` is not."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, dict | list):
        return _shown_inside(value)
    if isinstance(value, float):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(str(value), f"{value!r}")
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]}…{text[-1]}"


def _shown_inside(value: dict[str, Any] | list[Any]) -> str:
    """A small mapping or list in full, a large one as what it is."""
    if len(value) > 4:
        return "a mapping" if isinstance(value, dict) else f"a list of {len(value)}"
    if isinstance(value, dict):
        text = "{" + ", ".join(f"{key}: {shown(inner)}" for key, inner in value.items()) + "}"
    else:
        text = "[" + ", ".join(shown(inner) for inner in value) + "]"
    return text if len(text) <= _LONGEST else "a mapping" if isinstance(value, dict) else "a list"


MODULE_FORM = "for instance ReLU or {Linear: {out_features: 10}}"
Model = TypeVar("Model", bound=BaseModel)


def validate(document: Document, path: Path, model: type[Model], value: Any = ...) -> Model | None:
    """The value at `path` as a `model`, or None when it has mistakes, which are added to the document.

    `value` is what a shorthand at `path` stands for, where one does.

    Values are checked as JSON in pydantic's strict mode: `3` is a number, `"3"` and `3.5` are no integers, true is
    no number, and a list serves as a tuple.
    """
    value = document.get(path) if value is ... else value
    if not isinstance(value, dict):
        document.add(path, f"{label(path)}: expected a mapping, got {shown(value)}")
        return None
    try:
        return model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        _explain(document, path, value, model, error)
        return None


def _explain(document: Document, path: Path, value: Any, model: type[BaseModel], error: ValidationError) -> None:
    """One problem a place: the members of a union fail one by one, but the reader wants one sentence."""
    schema = model.model_json_schema()
    missing: dict[Path, list[str]] = {}
    unknown: list[Path] = []
    wrong: list[Path] = []
    for kind, location in _mistakes(value, schema, error):
        place = _written(value, location)
        if kind == "missing" and len(place) == len(location) - 1:
            missing.setdefault(place, []).append(str(location[-1]))
        elif kind == "extra_forbidden":
            unknown.append(place)
        elif place not in wrong:
            wrong.append(place)
    for place in unknown:
        if len(place) == 1 and (now := getattr(model, "renamed", {}).get(place[0])):
            document.add((*path, *place), f"{label(path)}: {place[0]} is called {now}", f"write {now}", at_key=True)
            continue
        known = _descend(schema, place[:-1]).get("properties", {})
        lacking = missing.get(place[:-1], [])
        if meant := nearest(str(place[-1]), lacking, 1):
            lacking.remove(meant[0])  # misspelt, so not missing as well
        unknown_key(document, (*path, *place), meant or list(known))
    for place, keys in missing.items():
        for key in keys:
            _missing(document, (*path, *place), key, _descend(schema, (*place, key)))
    for place in wrong:
        got = functools.reduce(lambda inner, part: inner[part], place, value)
        _wrong(document, (*path, *place), got, _descend(schema, place))


def _mistakes(value: Any, schema: Schema, error: ValidationError) -> list[tuple[str, Path]]:
    """Kind and location of each mistake. Where a mapping stands for one model of a union, or a list for the list among
    its members, those of that member alone: that it is no number either is not what was meant."""
    found: list[tuple[str, Path, Path | None]] = []
    for mistake in error.errors(include_url=False):
        location: Path = mistake["loc"]
        inside = _written(value, location)
        member = location[len(inside)] if len(inside) < len(location) else None
        model = member in schema.get("$defs", {}) or _stands_for(functools.reduce(_at, inside, value), str(member))
        found.append(
            (mistake["type"], (*inside, *location[len(inside) + 1 :]) if model else location, inside if model else None)
        )
    unions = {place for _, _, place in found if place is not None}
    return [
        (kind, location)
        for kind, location, place in found
        if place is not None or _written(value, location) not in unions
    ]


def _at(value: Any, part: Any) -> Any:
    return value[part]


def _stands_for(value: Any, member: str) -> bool:
    """Whether a list or mapping is what pydantic calls `list[…]` or `dict[…]` among the members of a union."""
    return (isinstance(value, list) and member.startswith("list[")) or (
        isinstance(value, dict) and member.startswith("dict[")
    )


def _written(value: Any, location: Path) -> Path:
    """The part of a pydantic location that leads through the data; what follows names members of unions."""
    place: Path = ()
    for part in location:
        if part not in (range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()):
            break
        value, place = value[part], (*place, part)
    return place


def _descend(schema: Schema, place: Path) -> Schema:
    """The schema of the value at `place`, with the definitions its references need."""
    definitions: Schema = schema.get("$defs", {})
    for part in place:
        schema = _resolved(schema, definitions)
        kind = "array" if isinstance(part, int) else "object"
        options = [_resolved(option, definitions) for option in schema.get("anyOf", ())]
        schema = next((option for option in options if option.get("type") == kind), schema)
        if isinstance(part, int):
            prefix = schema.get("prefixItems", [])
            schema = prefix[part] if part < len(prefix) else schema.get("items", {})
        else:
            schema = schema.get("properties", {}).get(part) or schema.get("additionalProperties") or {}
        schema = schema if isinstance(schema, Mapping) else {}
    return {**schema, "$defs": definitions}


def _missing(document: Document, path: Path, key: str, schema: Schema) -> None:
    where = f"{label(path)}: " if path else ""
    said = expected(schema)
    hint = f"write {key}: …" if said == ANYTHING else f"expected {said}"
    document.add(path, f"{where}{key} is missing", hint, at_key=True)


def unknown_key(document: Document, path: Path, known: Sequence[str]) -> None:
    """Note that the key at the end of `path` is none of the `known` ones."""
    key, where = str(path[-1]), f"{label(path[:-1])}: " if path[:-1] else ""
    hint = did_you_mean(key, known) or (f"keys here: {', '.join(known)}" if known else "no keys belong here")
    document.add(path, f"{where}unknown key {key!r}", hint, at_key=True)


def _wrong(document: Document, path: Path, value: Any, schema: Schema) -> None:
    hint = _hint(value, schema)
    document.add(path, f"{label(path)}: expected {expected(schema)}, got {shown(value)}", hint)


def _hint(value: Any, schema: Schema) -> str | None:
    """What to type instead, where the value shows what was meant."""
    options = [schema, *schema.get("anyOf", [])]
    kinds = {option.get("type") for option in options}
    choices = [str(choice) for option in options for choice in option.get("enum", [option.get("const")]) if choice]
    if isinstance(value, float) and value.is_integer() and "integer" in kinds:
        return f"write {int(value)}"
    if any(option.get(NAMES) == "modules" for option in options):
        return MODULE_FORM
    if any(NAMES in option for option in options):
        return "write NAME, or {NAME: {ARGUMENT: VALUE}}"
    if isinstance(value, dict) and "array" in kinds:
        return "begin each entry with '- '"
    if isinstance(value, int) and 1 < value <= 100 and schema.get("maximum") == 1:
        return f"write {value / 100:g}"
    if not isinstance(value, str):
        return None
    if "boolean" in kinds and value.lower() in ("yes", "on", "y", "no", "off", "n", "true", "false"):
        return f"write {'true' if value.lower() in ('yes', 'on', 'y', 'true') else 'false'}"
    number = _number_in(value)
    if number and ("number" in kinds or ("integer" in kinds and number.lstrip("+-").isdecimal())):
        return f"write {number} without quotes"
    if value.lower() == "none" and "null" in kinds:
        return "write null"
    return did_you_mean(value, [*choices, *schema.get("examples", ())])


def _number_in(text: str) -> str | None:
    """The number that a text was meant to be: quoted, with groups of three, or with a decimal comma."""
    plain = re.sub(r"(?<=\d)[_,](?=\d{3}(\D|$))", "", text.strip())
    plain = plain.replace(",", ".", 1)
    return plain if re.fullmatch(r"[-+]?\d+(\.\d+)?([eE][-+]?\d+)?", plain) else None
