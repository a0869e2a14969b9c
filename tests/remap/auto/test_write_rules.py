"""Renames as few lines: what they rename, that they can be read backwards, and that a person can read them."""

from __future__ import annotations

import pytest

from zoo.formats.entry import Entry
from zoo.remap.auto.templates import lines
from zoo.remap.auto.write_rules import rename_rule
from zoo.remap.rules import invert, parse_rules, run


def applied(rules, names):
    entries = {name: Entry(name, "F32", ()) for name in names}
    return {value.source: name for name, value in run(rules, entries).values.items()}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([(f"a.{i}.w", f"b.{i}.w") for i in range(4)], [("a.{i}.w", "b.{i}.w")]),
        ([(f"a.{i + 1}", f"b.{i}") for i in range(3)], [("a.{i+1}", "b.{i}")]),
        ([(f"a.{2 * i + 1}.{j}", f"b.{i}.{j}") for i in range(3) for j in range(2)], [("a.{2*i+1}.{j}", "b.{i}.{j}")]),
        ([(f"b{i}.b{i}-{j}", f"s{i}.{j + 1}") for i in (1, 2, 3) for j in range(3)], [("b{i}.b{i}-{j}", "s{i}.{j+1}")]),
        ([("a.0", "b.3")], [("a.0", "b.3")]),
    ],
)
def test_numbers_that_hang_together_become_placeholders(rows, expected):
    assert [line.texts for line in lines(rows)] == expected


def test_two_values_do_not_make_a_multiple():
    assert [line.texts for line in lines([("a.0", "b.1"), ("a.3", "b.2")])] == [("a.0", "b.1"), ("a.3", "b.2")]


def test_tight_lines_begin_where_their_rows_do():
    (line,) = lines([(f"a.{i}", f"b.{i - 1}") for i in (4, 5, 6)], tight=True)
    assert line.texts == ("a.{i+4}", "b.{i+3}")


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
