"""Renames as few lines: what they rename, that they can be read backwards, and that a person can read them."""

from __future__ import annotations

import pytest

from zoo.formats.entry import Entry
from zoo.remap.auto.renames import rename_rule
from zoo.remap.rules import invert, parse_rules, run


def applied(rules, names):
    entries = {name: Entry(name, "F32", ()) for name in names}
    return {value.source: name for name, value in run(rules, entries).values.items()}


WANTED = {
    "stages": {f"f.{i}.c.{leaf}": f"s.{i // 3}.{i % 3}.{leaf}" for i in range(9) for leaf in ("weight", "bias")},
    "first differs": {"b.0.0.weight": "b.0.dw.weight"} | {f"b.{i}.0.weight": f"b.{i}.pw.weight" for i in (1, 2, 3)}
    | {f"b.{i}.1.weight": f"b.{i}.dw.weight" for i in (1, 2, 3)},
    "swapped": {"a.weight": "b.weight", "b.weight": "a.weight", "c.weight": "c.weight"},
    "bare": {"class_token": "cls_token", "encoder.pos": "pos_embed", "head.weight": "fc.weight"},
    "kept in the way": {f"x.{i}.weight": f"y.{i}.weight" for i in range(4)} | {"x.4.weight": "x.4.weight"},
}  # fmt: skip


@pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED.keys())
def test_the_rule_renames_as_wanted_and_back(wanted):
    rules = parse_rules([{"rename": rename_rule(wanted)}])
    assert applied(rules, wanted) == wanted
    assert applied(invert(rules), wanted.values()) == {new: old for old, new in wanted.items()}


def test_stages_take_one_line_each():
    assert list(rename_rule(WANTED["stages"])) == ["f.{i+6}.c.{leaf}", "f.{i+3}.c.{leaf}", "f.{i}.c.{leaf}"]


def test_nothing_to_rename_is_no_line():
    assert rename_rule({"a.weight": "a.weight"}) == {}
