"""What recipe tests share: a recipe from text, and the schema of recipes."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

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


@pytest.fixture(scope="session")
def recipe_schema() -> dict[str, Any]:
    from zoo.recipe.schema import recipe_schema

    return recipe_schema()


@pytest.fixture(scope="session")
def validator(recipe_schema: dict[str, Any]) -> Draft202012Validator:
    """Of recipes as plain data."""
    Draft202012Validator.check_schema(recipe_schema)
    return Draft202012Validator(recipe_schema)


@pytest.fixture(scope="session")
def fits(validator: Draft202012Validator) -> Callable[[Any], bool]:
    """Whether plain data fits the schema of recipes."""
    return validator.is_valid
