"""Regular expressions that others wrote: refused where they are made to take for ever, and stopped where they do.

Python's own engine can be kept busy for years by forty letters. What repeats a repetition is refused when it is read;
all else runs in the `regex` library, which can be stopped.
"""

from __future__ import annotations

import re
import time
import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError

if TYPE_CHECKING:
    import regex

_TOKEN = re.compile(
    r"""(?P<open> \( (?: \? (?: P<\w+> | <?[=!] | [a-zA-Z-]*: | > | P= | [a-zA-Z]+ | (?=\() ) )? )
      | (?P<close> \) )
      | (?P<bar> \| )
      | (?P<repeat> (?: [*+?] | \{ (?: \d+ (?:,\d*)? | ,\d* ) \} ) [?+]? )
      | (?P<one> \\. | \[ \^? \]? (?: \\. | [^\]\\] )* \] | . )""",
    re.VERBOSE | re.DOTALL,
)
_VERBOSE = re.compile(r"\(\?[a-zA-Z]*x")
_COMMENT = re.compile(r"\(\?#[^)]*\)")

MOST_REPEATS = 1000
"""The largest number in a quantifier like `{2,100}`, as the engine writes such a part out that often."""

LONGEST = 1.0
"""Seconds that one expression may take for one text."""

BUDGET, WINDOW = 3.0, 20_000
"""Seconds of processor time that all expressions together may take for as many texts."""


class SlowExpressionError(InputError):
    """An expression takes too long on a text."""


class _Clock:
    """What matching took lately."""

    spent = 0.0
    calls = 0

    def took(self, seconds: float) -> bool:
        """Count one match; whether matching takes too long altogether."""
        self.spent += seconds
        self.calls += 1
        if self.spent > BUDGET:
            self.spent, self.calls = 0.0, 0
            return True
        if self.calls >= WINDOW:
            self.spent, self.calls = 0.0, 0
        return False


_CLOCK = _Clock()


@dataclass(frozen=True)
class Expression:
    """A regular expression in Python's syntax, whose matching ends. `written` is what the user wrote for it.

    Raises ValueError for text that is no expression, or one that repeats a repetition.
    """

    text: str
    written: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        try:
            with warnings.catch_warnings(action="ignore"):  # of what a later Python may read in another way
                re.compile(self.text)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"{self.text!r} is not a regular expression: {error}") from error
        if self.written is None:
            _check(self.text)

    @cached_property
    def _compiled(self) -> regex.Pattern[str]:
        import regex  # not needed to list or to read

        try:
            return regex.compile(_without_fuzziness(self.text))
        except regex.error as error:
            raise InputError(f"{self.written or self.text!r} is no expression that can be matched: {error}") from error

    def search(self, text: str) -> regex.Match[str] | None:
        """The first match in `text`, or None. Raises SlowExpressionError where that takes too long."""
        return self._timed("search", text, text)

    def fullmatch(self, text: str) -> regex.Match[str] | None:
        """The match of all of `text`, or None."""
        return self._timed("fullmatch", text, text)

    def sub(self, replacement: str, text: str) -> str:
        """`text` with every match replaced."""
        made: str = self._timed("sub", text, replacement, text)
        return made

    def _timed(self, method: str, text: str, *arguments: str) -> Any:
        began = time.thread_time()  # not what other processes take of a busy machine
        try:
            found = getattr(self._compiled, method)(*arguments, timeout=LONGEST)
        except TimeoutError:
            _CLOCK.took(LONGEST)
            raise self._too_slow(text) from None
        if _CLOCK.took(time.thread_time() - began):
            raise self._too_slow(text)
        return found

    def _too_slow(self, text: str) -> SlowExpressionError:
        return SlowExpressionError(
            f"{self.written or self.text!r} takes too long on {text[:60]!r}: it can match the same letters in too many "
            "ways",
            suggestion="write it with fewer repetitions, or with letters between them that only match one way",
        )


def _without_fuzziness(text: str) -> str:
    """The expression, braces escaped that are no quantifier: `regex` takes `a{e<2}` for an approximate match."""
    tokens = _TOKEN.finditer(_COMMENT.sub("", text))
    return "".join(rf"\{token[0]}" if token["one"] in ("{", "}") else token[0] for token in tokens)


def _check(text: str) -> None:
    """Raises ValueError for what Python takes and this does not."""
    if _VERBOSE.search(text):
        raise ValueError(f"{text!r} asks for verbose mode; write it without (?x)")
    if _explodes(text):
        raise ValueError(
            f"{text!r} repeats a group that contains a repetition or alternatives, which can take for ever; write it "
            "without nesting"
        )


@dataclass
class _Group:
    """A group that is being read: whether it contains a repetition or alternatives; the parts of each alternative."""

    nested: bool = False
    alternatives: list[list[str]] = field(default_factory=lambda: [[]])

    def closed(self) -> bool:
        """As `nested`, when all of it is read. Alternatives of one character each are a set: `a|b`, `[ab]`."""
        several = len(self.alternatives) > 1 and any(parts != ["one"] for parts in self.alternatives)
        return self.nested or several


def _explodes(text: str) -> bool:
    """Whether a repetition has in it another one, or alternatives: what makes matching exponential in the key.

    `text` is a valid expression, and not verbose.
    """
    groups, last_nested = [_Group()], False
    for token in _TOKEN.finditer(_COMMENT.sub("", text)):
        kind, group = str(token.lastgroup), groups[-1]
        if kind == "open":
            groups.append(_Group())
        elif kind == "close":
            last_nested = groups.pop().closed()
            groups[-1].nested |= last_nested
            groups[-1].alternatives[-1].append("group")
        elif kind == "bar":
            group.alternatives.append([])
        elif kind == "repeat":
            group.alternatives[-1].append("repeat")
            if _largest(token[0]) > MOST_REPEATS:
                raise ValueError(f"{text!r} repeats something {token[0]} times; {MOST_REPEATS:,} is the limit")
            if _most(token[0]) > 1:
                if last_nested:
                    return True
                group.nested = True
        else:
            last_nested = False
            group.alternatives[-1].append("one")
    return False


def _most(repeat: str) -> float:
    """How often the quantifier lets its part come; a possessive one (`a++`) never tries again, and counts as once."""
    if len(repeat) > 1 and repeat[-1] == "+":
        return 1
    if repeat[0] != "{":
        return 1 if repeat[0] == "?" else float("inf")
    return float(repeat.rstrip("?")[1:-1].rpartition(",")[2] or "inf")


def _largest(repeat: str) -> int:
    """The largest finite number in the quantifier."""
    return max(map(int, re.findall(r"\d+", repeat)), default=0)
