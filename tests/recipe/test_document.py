"""Plain data that knows where each key and value was written."""

from __future__ import annotations

import pytest

from zoo.recipe.document import Document, FlagLocation, label, walk
from zoo.recipe.yaml_reader import parse

TEXT = "model: net\nsteps:\n  - train:\n      lr: 0.1\n      metrics: [f1, auroc]\n  - save\n"


@pytest.fixture
def document() -> Document:
    return parse(TEXT, "r.yaml")


def at(location) -> str:
    return str(location).removeprefix("r.yaml:")


def test_places_of_keys_and_values(document):
    lr = ("steps", 0, "train", "lr")
    assert (at(document.key(lr)), at(document.value(lr))) == ("4:7", "4:11")
    assert at(document.value(("steps", 0, "train", "metrics", 1))) == "5:21"
    assert at(document.key(("steps", 1))) == "6:5"


def test_what_is_not_written_is_at_its_nearest_written_parent(document):
    assert at(document.value(("steps", 0, "train", "epochs", "x"))) == at(document.value(("steps", 0, "train")))
    assert at(document.key(("data",))) == "1:1"


def test_values_by_path(document):
    assert document.get(("steps", 0, "train", "metrics", 1)) == "auroc"
    assert document.get(("steps", 5), "none") == "none"
    assert document.get(("model", "weights")) is None, "a name holds nothing"
    assert document.get(()) is document.data


def test_a_mistake_is_at_the_value_or_at_the_key(document):
    document.add(("steps", 0, "train", "lr"), "too high", "lower it")
    document.add(("steps", 0, "train", "lr"), "unknown", at_key=True)
    assert [str(problem) for problem in document.problems] == [
        "r.yaml:4:11: too high (lower it)",
        "r.yaml:4:7: unknown",
    ]


def test_a_value_from_the_command_line_is_said_to_be_there(document):
    train = ("steps", 0, "train")
    document.replace(train, {"lr": 1}, FlagLocation("--set train"))
    assert document.get((*train, "lr")) == 1
    assert str(document.value((*train, "lr"))) == str(document.key(train)) == "--set train"


def test_the_whole_document_may_be_replaced(document):
    document.replace((), {"model": "other"})
    assert document.get(("model",)) == "other"


def test_a_shorthand_written_out_keeps_its_place(document):
    document.wrap(("model",), "architecture")
    assert document.data["model"] == {"architecture": "net"}
    assert at(document.value(("model", "architecture"))) == "1:8"
    assert at(document.key(("model",))) == "1:1"


def test_every_value_parents_first():
    assert list(walk({"a": [1, {"b": 2}]})) == [
        ((), {"a": [1, {"b": 2}]}),
        (("a",), [1, {"b": 2}]),
        (("a", 0), 1),
        (("a", 1), {"b": 2}),
        (("a", 1, "b"), 2),
    ]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ((), ""),
        (("data", "batch_size"), "data.batch_size"),
        (("steps", 3, "train", "metrics", 0), "train.metrics[0]"),
        (("steps", 3), "steps[3]"),
    ],
)
def test_a_path_as_people_write_it(path, said):
    assert label(path) == said
