"""The corpus of broken recipes held against the JSON Schema: an editor marks what `zoo check` names, where it can know.

`AT_CHECK` are the mistakes that no schema can see, with the reason; all others are refused at one of the places that
`zoo check` prints.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from zoo.errors import InputError
from zoo.recipe.document import Document
from zoo.recipe.yaml_reader import parse

FILES, TWO, NUMBER = "what is on the disk", "one value speaks of another", "JSON has no such number"
AT_CHECK = {
    "weights of an installed plugin misspelt": FILES,
    "weights by a tag that the architecture does not have": "tags are asked of the library",
    "weights in a file that is not there": FILES,
    "a remap that is not installed": FILES,
    "a whole float for a batch size": "16.0 is an integer to JSON Schema",
    "means and deviations that do not pair": TWO,
    "a learning rate that is not a number": NUMBER,
    "numbers that a checkpoint could not record": NUMBER,
    "a learning rate without end": NUMBER,
    "smoothed labels where there are no classes": TWO,
    "a factor for names that are no regular expression": "expressions are Python's",
    "a number of classes without data": TWO,
    "an init step with a broken expression": "expressions are Python's",
    "one file saved twice": TWO,
    "only what trains, without base weights": TWO,
    "a saved file that the finished model replaces": "model.safetensors and Model, too",
    "a dataset fetched into a stranger's choice of folder": TWO,
    "a dataset fetched into an absolute folder": TWO,
}
NOT_AT_THE_KEY = {  # marked as one step, where check names the key that is one too many
    "a step with two names",
    "an init step of both forms",
}


def corpus() -> ModuleType:
    path = Path(__file__).with_name("test_mistakes.py")
    spec = importlib.util.spec_from_file_location("mistakes_corpus", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def readable() -> Iterator[Any]:
    """The cases whose mistakes are in what the YAML says, not in the YAML or in `--set`."""
    for case in corpus().cases():
        try:
            document = parse(case.recipe, "recipe.yaml")
        except InputError:
            continue
        if not case.overrides and not document.problems:
            yield case


CASES = {case.name: case for case in readable()}


def causes(error: ValidationError) -> Iterator[ValidationError]:
    """What is wrong inside the alternatives that are of the value's own type; the error itself where none is."""
    inner = [
        each
        for each in error.context or ()
        if each.validator not in ("type", "enum", "const") or each.absolute_path != error.absolute_path
    ]
    if not inner:
        yield error
    for each in inner:
        yield from causes(each)


def places(error: ValidationError, document: Document) -> set[tuple[int, int]]:
    """Where an editor would mark it: the value or its key; for an unknown key that key."""
    path = tuple(error.absolute_path)
    found = [document.key(path), document.value(path)]
    if error.validator == "additionalProperties":
        found += [document.key((*path, key)) for key in error.instance if repr(key) in error.message]
    return {(place.line, place.column) for place in found}


@pytest.mark.parametrize("name", CASES)
def test_it_fails_where_check_does(name: str, validator: Draft202012Validator) -> None:
    case = CASES[name]
    document = parse(case.recipe, "recipe.yaml")
    errors = list(validator.iter_errors(document.data))
    if name in AT_CHECK:
        assert not errors, "the schema knows it now: take it off the list"
        return
    said = {(int(m[1]), int(m[2])) for m in re.finditer(r"(?m)^recipe\.yaml:(\d+):(\d+)", case.expected)}
    marked = {place for error in errors for cause in causes(error) for place in places(cause, document)}
    assert errors, "the schema accepts it"
    assert bool(said & marked) is (name not in NOT_AT_THE_KEY), (said, marked)


def test_the_lists_are_of_cases_that_there_are() -> None:
    assert not (AT_CHECK.keys() | NOT_AT_THE_KEY) - CASES.keys()
    assert len(CASES) > 100
