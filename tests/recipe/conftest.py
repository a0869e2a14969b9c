"""What recipe tests share: a recipe from text, and a check of the vocabulary of JSON Schema that zoo writes."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from zoo import registry
from zoo.recipe import Recipe, load_recipe

FIRST_PARTY = (
    "zoo-kit",
    "zoo-timm",
    "zoo-torchvision",
    "zoo-sklearn",
    "zoo-tensorboard",
    "zoo-tutorial",
    "zoo-efficientnet-lite",
    "zoo-peft",
)


@pytest.fixture(autouse=True)
def _first_party_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Suggestions come from what is installed: a stranger's plugin must not change what these tests expect."""
    rows = tuple(row for row in registry.entries() if row.distribution in FIRST_PARTY)
    monkeypatch.setattr(registry, "entries", lambda: rows)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recipe]:
    """Reads a recipe from its text, as `recipe.yaml` in an empty current directory."""
    monkeypatch.chdir(tmp_path)

    def read(text: str, *overrides: str) -> Recipe:
        Path("recipe.yaml").write_text(textwrap.dedent(text))
        return load_recipe("recipe.yaml", overrides)

    return read


KEYWORDS = {
    *("$schema", "$ref", "$defs", "title", "description", "default", "examples"),
    *("type", "enum", "const", "anyOf", "pattern"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("properties", "required", "additionalProperties", "minProperties", "maxProperties"),
    *("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "propertyNames", "format"),
}
TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value == int(value),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}


def accepts(schema: Any, value: Any, root: dict[str, Any]) -> bool:
    """Whether a value fits a schema, by the rules of draft 2020-12 for the keywords that zoo writes."""
    if isinstance(schema, bool):
        return schema
    assert set(schema) <= KEYWORDS, set(schema) - KEYWORDS
    if "$ref" in schema and not accepts(resolved(schema["$ref"], root), value, root):
        return False
    if "anyOf" in schema and not any(accepts(option, value, root) for option in schema["anyOf"]):
        return False
    if "enum" in schema and not any(value == known and type(value) is type(known) for known in schema["enum"]):
        return False
    if "const" in schema and value != schema["const"]:
        return False
    kinds = schema.get("type", [])
    if kinds and not any(TYPES[kind](value) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
        return False
    return fits_number(schema, value) and fits_object(schema, value, root) and fits_array(schema, value, root)


def resolved(reference: str, root: dict[str, Any]) -> Any:
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def fits_number(schema: dict[str, Any], value: Any) -> bool:
    if isinstance(value, str):
        return "pattern" not in schema or re.search(schema["pattern"], value) is not None
    if not TYPES["number"](value):
        return True
    return (
        value >= schema.get("minimum", value)
        and value <= schema.get("maximum", value)
        and value > schema.get("exclusiveMinimum", value - 1)
        and value < schema.get("exclusiveMaximum", value + 1)
    )


def fits_object(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    if not isinstance(value, dict):
        return True
    known, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    return (
        set(schema.get("required", ())) <= set(value)
        and schema.get("minProperties", 0) <= len(value) <= schema.get("maxProperties", len(value))
        and all(accepts(known.get(key, rest), item, root) for key, item in value.items())
        and all(accepts(schema.get("propertyNames", True), key, root) for key in value)
    )


def fits_array(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> bool:
    if not isinstance(value, list):
        return True
    prefix: Sequence[Any] = schema.get("prefixItems", ())
    return (
        schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        and all(accepts(kind, item, root) for kind, item in zip(prefix, value, strict=False))
        and all(accepts(schema.get("items", True), item, root) for item in value[len(prefix) :])
    )


@pytest.fixture(scope="session")
def recipe_schema() -> dict[str, Any]:
    from zoo.recipe.schema import recipe_schema

    return recipe_schema()


@pytest.fixture(scope="session")
def fits(recipe_schema: dict[str, Any]) -> Callable[[Any], bool]:
    """Whether plain data fits the schema of recipes."""
    return lambda value: accepts(recipe_schema, value, recipe_schema)
