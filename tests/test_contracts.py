"""The dataclasses that plugins and zoo share."""

from __future__ import annotations

import json

from zoo.contracts import CONTRACTS, ArchitectureSource, Context, Data, Preprocessing
from zoo.registry import KINDS


def test_every_kind_has_a_contract() -> None:
    assert set(CONTRACTS) == set(KINDS)


def test_preprocessing_goes_through_json() -> None:
    described = Preprocessing((32, 48), (0.5,), (0.25,), "bicubic", 1.0, 1)
    assert Preprocessing.from_dict(json.loads(json.dumps(described.as_dict()))) == described


def test_a_source_of_architectures_needs_no_base_class() -> None:
    class Source:
        def names(self) -> list[str]:
            return ["net"]

        def build(self, name: str, **arguments: object) -> object:
            return object()

    assert isinstance(Source(), ArchitectureSource)
    assert not isinstance(object(), ArchitectureSource)


def test_what_is_left_out() -> None:
    assert (Data([]).task, Data([]).inputs, Data([]).validation, Data([]).test) == (
        "classification",
        "image",
        None,
        None,
    )
    first, second = Context(), Context()
    first.resolved["heads"] = 1
    assert second.resolved == {}
