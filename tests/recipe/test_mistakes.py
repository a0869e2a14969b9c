"""The corpus of broken recipes: every mistake at its line and column, with what to type instead.

`ZOO_WRITE_GOLDEN=1 pytest tests/recipe/test_mistakes.py` writes what is printed now into the corpus, to be read before
it is committed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from zoo.errors import InputError
from zoo.recipe import load_recipe

CORPUS = Path(__file__).with_name("mistakes.txt")
FILE = "recipe.yaml"


@dataclass
class Case:
    name: str
    recipe: str
    overrides: list[str]
    expected: str

    def __str__(self) -> str:
        return self.name


def cases() -> list[Case]:
    found = []
    for block in re.split(r"(?m)^=== ", CORPUS.read_text())[1:]:
        name, _, rest = block.partition("\n")
        written, _, expected = rest.partition(">>>\n")
        lines = written.splitlines(keepends=True)
        overrides = [line[2:].rstrip("\n") for line in lines if line.startswith("$ ")]
        recipe = "".join(line for line in lines if not line.startswith("$ "))
        found.append(Case(name, recipe, overrides, expected.strip("\n")))
    return found


def printed(case: Case, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(folder)
    Path(FILE).write_text(case.recipe)
    with pytest.raises(InputError) as caught:
        load_recipe(FILE, case.overrides)
    return "\n".join(str(problem) for problem in caught.value.problems)


@pytest.mark.parametrize("case", cases(), ids=str)
def test_every_mistake_is_printed_with_its_place(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = printed(case, tmp_path, monkeypatch)
    if os.environ.get("ZOO_WRITE_GOLDEN"):
        text = CORPUS.read_text()
        begin = text.index(f"=== {case.name}\n")
        start = text.index(">>>\n", begin) + 4
        end = text.find("\n=== ", start)
        CORPUS.write_text(text[:start] + said + "\n" + (text[end:] if end >= 0 else ""))
    else:
        assert said == case.expected


def test_there_are_enough_of_them() -> None:
    names = [case.name for case in cases()]
    assert len(set(names)) == len(names) >= 60


@pytest.mark.parametrize("case", cases(), ids=str)
def test_places_exist_in_the_file(case: Case) -> None:
    """A golden line that points past the text was written by mistake."""
    lines = case.recipe.split("\n")
    for line, column in re.findall(rf"(?m)^{FILE}:(\d+):(\d+): ", case.expected):
        assert int(line) <= len(lines)
        assert int(column) <= len(lines[int(line) - 1]) + 1
