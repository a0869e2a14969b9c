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


SAID = re.compile(rf"^{FILE}:(?P<line>\d+):(?P<column>\d+): (?P<message>.*) \((?P<hint>[^()]*)\)$")
WORD = re.compile(r"""'[^']*'|"[^"]*"|[^\s,\]}:#]+""")


@dataclass
class Cure:
    """A line of the corpus whose hint says what to type in the place it names."""

    case: Case
    line: int
    column: int
    message: str
    typed: str

    def __str__(self) -> str:
        return f"{self.case.name}: {self.typed}"

    def applied(self) -> str:
        """The recipe with the wrong word replaced; a step that is rewritten takes the whole line."""
        lines = self.case.recipe.split("\n")
        before, after = lines[self.line - 1][: self.column - 1], lines[self.line - 1][self.column - 1 :]
        step = self.typed.partition(": ")[0] + ":"
        rest = "" if after.startswith(step) else WORD.sub("", after, count=1)
        lines[self.line - 1] = before + self.typed + rest
        return "\n".join(lines)


def typed(hint: str) -> list[str]:
    """What a hint offers to type in place of the wrong word; none where it names a place or a choice to make."""
    if meant := re.fullmatch(r"did you mean (.+)\?", hint):
        return re.split(", | or ", meant[1])
    if "…" in hint or "..." in hint or "NAME" in hint:
        return []
    written = re.fullmatch(r"write (freeze: .+|[^\s,]+)( without quotes)?", hint)
    return [written[1]] if written else []


def cures() -> list[Cure]:
    found = []
    for case in cases():
        for match in filter(None, map(SAID.match, case.expected.splitlines())):
            place = int(match["line"]), int(match["column"])
            found += [Cure(case, *place, match["message"], text) for text in typed(match["hint"])]
    return found


def test_most_kinds_of_hints_are_tried() -> None:
    assert len(cures()) >= 40


@pytest.mark.parametrize("cure", cures(), ids=str)
def test_what_a_message_says_to_type_is_right(cure: Cure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(FILE).write_text(cure.applied())
    try:
        load_recipe(FILE, cure.case.overrides)
    except InputError as error:
        left = [
            problem.message for problem in error.problems if problem.location and problem.location.line == cure.line
        ]
        assert cure.message not in left
        assert not [said for said in left if f"is called {cure.typed!r}" in said], "the cure is a mistake"
