"""docs/errors.md says what is printed, docs/recipes.md what the grammar is: both are compared with zoo itself.

`ZOO_WRITE_GOLDEN=1 pytest tests/recipe/test_pages.py` writes the pages anew, to be read before they are committed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from zoo import registry
from zoo.cli import run
from zoo.recipe import references
from zoo.recipe.catalogue import LOSSES, METRICS, SCHEDULES
from zoo.recipe.chain import first_option, meant, name_of, step_class, step_names
from zoo.recipe.load import Sections
from zoo.recipe.options import CheckpointOptions, DataOptions, ModelOptions
from zoo.recipe.signature import model_of, summary
from zoo.recipe.validate import expected, shown
from zoo.steps.train import Train

DOCS = Path(__file__).parents[2] / "docs"
ERRORS, RECIPES = DOCS / "errors.md", DOCS / "recipes.md"
EXAMPLE = re.compile(
    r"(?ms)^## (?P<title>[^\n]+)\n.*?^```yaml\n(?P<recipe>.*?)^```\n\n^```console\n(?P<said>.*?)^```\n"
)
TABLE = re.compile(r"(?ms)^<!-- table: (?P<name>[\w.]+) -->\n(?P<table>.*?)^<!-- end -->\n")


ELSEWHERE = ("zoo-openclip", "zoo-peft")  # plugins whose steps are described in their own README


def steps() -> list[str]:
    """The steps that the page of recipes describes."""
    return [name for name in step_names() if meant(name)[0].distribution not in ELSEWHERE]


def settle(page: Path, old: str, new: str) -> None:
    """Compare, or write what is true now."""
    if os.environ.get("ZOO_WRITE_GOLDEN"):
        text = page.read_text()
        assert text.count(old) == 1
        page.write_text(text.replace(old, new))
    else:
        assert new == old


def examples() -> list[re.Match[str]]:
    return list(EXAMPLE.finditer(ERRORS.read_text()))


def test_there_are_ten_broken_recipes() -> None:
    assert len(examples()) == 10


@pytest.mark.parametrize("example", examples(), ids=lambda example: example["title"])
def test_the_page_of_errors_says_what_is_printed(
    example: re.Match[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("broken.yaml").write_text(example["recipe"])
    code = run(["check", "broken.yaml"])
    said = capsys.readouterr().err
    assert code == (0 if all(line.startswith("warning: ") for line in said.splitlines()) else 2)
    assert said
    block = "```yaml\n{}```\n\n```console\n{}```\n"
    settle(ERRORS, block.format(example["recipe"], example["said"]), block.format(example["recipe"], said))


def cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")


def default(value: Any) -> str:
    return "" if value is None or value in ({}, []) else f"`{shown(value).strip(chr(39))}`"


def options_table(options: type[BaseModel]) -> str:
    """Key, what it takes, its default and what it means, a row a field; of a step that builds on train, those that are
    its own or have another default."""
    schema = options.model_json_schema()
    rows = ["| key | takes | default | |", "|---|---|---|---|"]
    base = Train.model_json_schema()["properties"] if issubclass(options, Train) and options is not Train else {}
    for key, field in schema["properties"].items():
        if field == base.get(key):
            continue
        given = "**required**" if key in schema.get("required", ()) else default(field.get("default"))
        rows.append(f"| `{key}` | {expected(field, schema.get('$defs'))} | {given} | {cell(field['description'])} |")
    return "\n".join(rows) + "\n"


def components_table(kind: str) -> str:
    """zoo's own components of a kind: what a recipe may give to each, and what it does."""
    rows = ["| name | takes | |", "|---|---|---|"]
    for component in registry.components(kind):
        if component.distribution == "zoo-kit":
            loaded = registry.load(component)
            name = component.name.partition("/")[2]
            rows.append(f"| `{name}` | {arguments(loaded, kind)} | {cell(summary(loaded))} |")
    return "\n".join(rows) + "\n"


def arguments(loaded: Callable[..., Any], kind: str) -> str:
    schema = model_of(references.parameters_of(loaded, kind)).model_json_schema()
    said = []
    for key, field in schema.get("properties", {}).items():
        given = "" if key in schema.get("required", ()) else f" = {shown(field.get('default'))}"
        said.append(f"`{key}`{given}: {expected(field, schema.get('$defs'))}")
    return "<br>".join(said)


def shorthands_table() -> str:
    rows = ["| written | stands for |", "|---|---|"]
    for action in ("model", "data", *steps(), "swap_head", "remove_module"):
        first = {"model": "architecture", "data": "source"}.get(action) or first_option(action)
        rows.append(f"| `{action}: X` | `{action}: {{{first}: X}}` |")
    return "\n".join(rows) + "\n"


def names_table() -> str:
    rows = ["| written | stands for |", "|---|---|"]
    rows += [f"| `{short}` | `{full}` |" for short, full in LOSSES.items()]
    return "\n".join([*rows, f"| {', '.join(f'`{name}`' for name in METRICS)} | metrics, by the data's task |"]) + "\n"


def schedules_table() -> str:
    rows = ["| written | made with | moves every | without arguments |", "|---|---|---|---|"]
    rows += [f"| `{name}` | `{full}` | {unit} | {text} |" for name, (full, unit, text) in SCHEDULES.items()]
    return "\n".join(rows) + "\n"


MAKERS: dict[str, Callable[[], str]] = {
    "recipe": lambda: options_table(Sections),
    "model": lambda: options_table(ModelOptions),
    "checkpoint": lambda: options_table(CheckpointOptions),
    "data": lambda: options_table(DataOptions),
    **{
        name: lambda name=name: options_table(step_class(name_of(meant(name)[0])))
        for name in steps()
        if name != "freeze"
    },  # type: ignore[misc,arg-type]
    "surgeries": lambda: components_table("surgeries"),
    "freezing": lambda: components_table("freezing"),
    "datasets": lambda: components_table("datasets"),
    "shorthands": shorthands_table,
    "names": names_table,
    "schedules": schedules_table,
}


def test_the_page_of_recipes_has_every_table_once() -> None:
    assert sorted(match["name"] for match in TABLE.finditer(RECIPES.read_text())) == sorted(MAKERS)


@pytest.mark.parametrize("name", MAKERS)
def test_the_page_of_recipes_is_true(name: str) -> None:
    match = next(match for match in TABLE.finditer(RECIPES.read_text()) if match["name"] == name)
    block = f"<!-- table: {name} -->\n{{}}<!-- end -->\n"
    settle(RECIPES, block.format(match["table"]), block.format(MAKERS[name]()))


def test_every_recipe_on_the_page_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.recipe import load_recipe

    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"(?ms)^```yaml\n(.*?)^```\n", RECIPES.read_text())
    assert blocks
    for block in blocks:
        Path("recipe.yaml").write_text(block)
        load_recipe("recipe.yaml")
