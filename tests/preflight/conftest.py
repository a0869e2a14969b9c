"""A dry run from a recipe's text, without a network."""

from __future__ import annotations

import socket
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


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a dry run asked for the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
