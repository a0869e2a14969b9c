"""Many renames as few lines: which numbers become placeholders, and which do not."""

from __future__ import annotations

import pytest

from zoo.remap.auto.templates import Line, lines, literal_lines


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


def test_several_names_that_are_there_share_their_numbers():
    rows = [(f"l.{i}.q", f"l.{i}.k", f"b.{i + 1}.qk") for i in range(3)]
    assert [line.texts for line in lines(rows, given=2)] == [("l.{i}.q", "l.{i}.k", "b.{i+1}.qk")]


def test_names_that_differ_in_more_than_numbers_take_a_line_each():
    rows = [("a.0.w", "b.0.w"), ("a.1.w", "b.1.w"), ("c.0.w", "d.0.w")]
    assert lines(rows) == [Line(("a.{i}.w", "b.{i}.w"), tuple(rows[:2])), Line(("c.0.w", "d.0.w"), tuple(rows[2:]))]


def test_no_number_that_is_there_gets_lost():
    """Two sources cannot become one name, so the number that tells them apart has to stand in it."""
    rows = [("a.0.0", "b.0"), ("a.0.1", "b.1"), ("a.1.0", "b.2"), ("a.1.1", "b.3")]
    assert [line.texts for line in lines(rows)] == [("a.0.{i}", "b.{i}"), ("a.1.{i}", "b.{i+2}")]


def test_literal_lines_keep_every_row():
    assert literal_lines([("a.0", "b.0"), ("a.1", "b.1")]) == [
        Line(("a.0", "b.0"), (("a.0", "b.0"),)),
        Line(("a.1", "b.1"), (("a.1", "b.1"),)),
    ]
