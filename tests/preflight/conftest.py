"""A dry run from a recipe's text."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from zoo.preflight import Verdict, check
from zoo.recipe import load_recipe

Check = Callable[..., Verdict]


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """The verdict on a recipe's text, which stands as `recipe.yaml` in the current directory."""
    monkeypatch.chdir(tmp_path)

    def verdict(text: str, *overrides: str) -> Verdict:
        Path("recipe.yaml").write_text(textwrap.dedent(text))
        return check(load_recipe("recipe.yaml", overrides))

    return verdict
