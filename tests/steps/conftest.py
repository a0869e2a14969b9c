"""A step by itself: read from a recipe's text, checked, and run on a model without a whole run around it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from listeners import Notes
from zoo.contracts import Context
from zoo.data.open_data import open_data
from zoo.errors import InputError
from zoo.finetuning.run import ActiveRun
from zoo.model.build import build
from zoo.preflight import check
from zoo.recipe import Recipe, load_recipe
from zoo.training.state import StateFolder


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recipe]:
    """Reads a recipe from its text, as `recipe.yaml` in the current directory."""
    monkeypatch.chdir(tmp_path)

    def read_it(text: str) -> Recipe:
        Path("recipe.yaml").write_text(textwrap.dedent(text))
        return load_recipe("recipe.yaml")

    return read_it


@pytest.fixture
def mistakes(read) -> Callable[[str], list[str]]:
    """What reading and checking a recipe finds wrong with it."""

    def found(text: str) -> list[str]:
        with pytest.raises(InputError) as caught:
            check(read(text)).require()
        return [str(problem) for problem in caught.value.problems]

    return found


@pytest.fixture
def started(read, tmp_path: Path) -> Callable[[str], ActiveRun]:
    """The run of a recipe with the model built and the data opened, in front of its first step."""

    def start(text: str) -> ActiveRun:
        recipe = read(text)
        torch.manual_seed(recipe.seed)
        assembly = build(recipe.model.architecture, recipe.model.arguments)
        state = StateFolder(tmp_path / "state", recipe.resolved)
        run = ActiveRun(recipe, tmp_path, state, Notes(), assembly, torch.device("cpu"), "float32")
        if recipe.data is not None:
            run.data = open_data(recipe.data, assembly.preprocessing, seed=recipe.seed)
            run.context = run.data.context
        else:
            run.context = Context(None, assembly.classes, assembly.preprocessing, assembly.task)
        return run

    return start
