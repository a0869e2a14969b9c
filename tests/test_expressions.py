"""Expressions are Python's, end within their time, and are refused where they cannot."""

import re
import time
from collections import deque

import pytest

from zoo import expressions
from zoo.expressions import Expression, SlowExpressionError

SLOW = r"(a*)(a*)(a*)(a*)\1\2\3\4b"


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (r"^blocks\.(\d+)\.", "blocks.12.attn"), ("norm", "a.norm.b"), (r"(?P<x>a)(?P=x)", "baa"), ("", "x"),
        (r"(?<=a)b", "ab"), (r"a{2,3}?", "aaa"), (r"[^.]+$", "a.b"), (r"\bfc\b", "x.fc.y"), (r"(a)?(?(1)b|c)", "c"),
        (r"(?i)CONV", "a.conv"), (r"a{e<2}", "a{e<2}"), (r"x{i", "x{i"), (r"[{]y}", "{y}"),
    ],
)  # fmt: skip
def test_it_finds_what_python_finds(expression, text):
    mine, its = Expression(expression).search(text), re.search(expression, text)
    assert mine.span() == its.span()
    assert mine.groups() == its.groups()
    assert Expression(expression).sub(r"<\g<0>>", text) == re.sub(expression, r"<\g<0>>", text)
    assert (Expression(expression).fullmatch(text) is None) == (re.fullmatch(expression, text) is None)


@pytest.mark.parametrize(
    "expression", ["(", "[a", "(?P<x>", "(?x)a b", "(a+)+", "a{1000000}", "(?:a{9}){9}", "a{1,9999}"]
)
def test_what_is_refused(expression):
    with pytest.raises(ValueError, match=r"regular expression|verbose|for ever|is the limit"):
        Expression(expression)


def test_one_that_takes_too_long_is_stopped():
    began = time.process_time()
    with pytest.raises(SlowExpressionError, match="takes too long on 'aaa"):
        Expression(SLOW).search("a" * 200 + "!b")
    assert time.process_time() - began < 5


def test_many_that_take_a_little_too_long_are_stopped_together(monkeypatch):
    monkeypatch.setattr(expressions, "BUDGET", 0.05)
    monkeypatch.setattr(expressions, "_CLOCK", expressions._Clock())
    expression = Expression(".*.*.*.*b")
    with pytest.raises(SlowExpressionError):
        deque(expression.search("a" * 300 + "!b" + "a" * 300) for _ in range(100_000))
    expression.search("ab")  # and the next one has its time again


def test_usual_work_is_never_stopped(monkeypatch):
    monkeypatch.setattr(expressions, "WINDOW", 100)
    monkeypatch.setattr(expressions, "_CLOCK", expressions._Clock())
    expression = Expression(r"^blocks\.(\d+)\.")
    assert all(expression.search(f"blocks.{n}.a") for n in range(1000))
    assert expressions._CLOCK.calls < 100
