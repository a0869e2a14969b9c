"""A JSON Schema, or a value, in a few words: what error messages and the recipe page say was expected and found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo.errors import any_of
from zoo.recipe.steps import NAMES

Schema = Mapping[str, Any]

_BY_NAME = {
    "optimizers": "an optimizer",
    "schedulers": "a scheduler",
    "losses": "a loss",
    "metrics": "a metric",
    "initializers": "an initializer",
    "modules": "a module",
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
        return expected(definitions[schema["$ref"].rsplit("/", 1)[-1]], definitions, many=many)
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
