"""How rules choose and rename keys: templates with `{i}` placeholders, and regular expressions.

A text with at least one placeholder is a template; it stands for the whole key and everything outside the braces is
literal. Any other pattern is a regular expression, searched for anywhere in the key.

    {i}             one letter: an integer >= 0, written without leading zeros
    {i+1} {2*i-1}   arithmetic on it, on either side: MULTIPLIER*NAME±OFFSET
    {leaf}          a longer name: one path component, that is text without `.` and `/`
    {leaf=a|b}      one of the texts listed
    {rest*}         any text, dots and all, but not none
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from re import _parser  # type: ignore[attr-defined]
from typing import Any

MAX_PATTERN = 1000  # characters; a longer pattern in a shared file is an accident or an attack
PLACEHOLDER = re.compile(r"\{([^{}\d,][^{}]*|\d+\*[^{}]*)\}")
_INTEGER = re.compile(r"(?:(\d+)\*)?([A-Za-z])(?:([+-])(\d+))?")
_WORD = re.compile(r"([A-Za-z_]\w+)(\*|=[^{}]*)?")

_REPEATS = ("MAX_REPEAT", "MIN_REPEAT")

Bindings = Mapping[str, int | str]


class PatternError(ValueError):
    """The text is not a pattern; the message says why."""


class InversionError(ValueError):
    """The rule cannot run backwards; the message says why."""


@dataclass(frozen=True)
class Placeholder:
    """`name`; of an integer also `multiplier` and `offset`; of a text the `choices` it is limited to.

    `kind` is `integer`, `component`, `choice` or `rest`.
    """

    name: str
    kind: str
    multiplier: int = 1
    offset: int = 0
    choices: tuple[str, ...] = ()

    def regex(self) -> str:
        if self.kind == "choice":
            return "|".join(map(re.escape, self.choices))
        return {"integer": r"0|[1-9]\d*", "component": r"[^./]+", "rest": r".+"}[self.kind]

    def read(self, text: str) -> int | str | None:
        """The value that `text` stands for; None where no value gives it."""
        if self.kind != "integer":
            return text
        value, rest = divmod(int(text) - self.offset, self.multiplier)
        return value if rest == 0 and value >= 0 else None

    def write(self, value: int | str) -> str | None:
        if self.kind != "integer":
            return str(value)
        number = self.multiplier * int(value) + self.offset
        return str(number) if number >= 0 else None


def parse_placeholder(text: str) -> Placeholder:
    if match := _INTEGER.fullmatch(text):
        multiplier, name, sign, offset = match.groups()
        if multiplier is not None and int(multiplier) == 0:
            raise PatternError(f"{{{text}}} is 0 times {name}, which says nothing about {name}")
        return Placeholder(name, "integer", int(multiplier or 1), int(f"{sign or ''}{offset or 0}"))
    if match := _WORD.fullmatch(text):
        name, detail = match.groups()
        if detail is None:
            return Placeholder(name, "component")
        if detail == "*":
            return Placeholder(name, "rest")
        return Placeholder(name, "choice", choices=tuple(detail[1:].split("|")))
    raise PatternError(f"{{{text}}} is no placeholder; write {{i}}, {{i+1}}, {{name}}, {{name=a|b}} or {{name*}}")


@dataclass(frozen=True)
class Template:
    """A whole key with placeholders in it."""

    text: str
    parts: tuple[str | Placeholder, ...]

    @classmethod
    def parse(cls, text: str) -> Template:
        """Raises PatternError for a placeholder that is none."""
        _check_length(text)
        pieces = PLACEHOLDER.split(text)
        parts = [parse_placeholder(piece) if odd % 2 else piece for odd, piece in enumerate(pieces)]
        template = cls(text, tuple(part for part in parts if part))
        template._check_kinds()
        return template

    def _check_kinds(self) -> None:
        kinds: dict[str, str] = {}
        for part in self.placeholders:
            if kinds.setdefault(part.name, part.kind) != part.kind:
                raise PatternError(f"{{{part.name}}} stands twice in {self.text!r}, in two kinds")

    @property
    def placeholders(self) -> list[Placeholder]:
        return [part for part in self.parts if isinstance(part, Placeholder)]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(part.name for part in self.placeholders)

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return re.compile("".join(re.escape(p) if isinstance(p, str) else f"({p.regex()})" for p in self.parts))

    def match(self, key: str) -> Bindings | None:
        """The placeholders' values that give `key`, or None."""
        found = self._regex.fullmatch(key)
        if found is None:
            return None
        bindings: dict[str, int | str] = {}
        for part, text in zip(self.placeholders, found.groups(), strict=True):
            value = part.read(text)
            if value is None or bindings.setdefault(part.name, value) != value:
                return None
        return bindings

    def fill(self, bindings: Bindings) -> str | None:
        """The key that the values give, or None where arithmetic leads below zero."""
        pieces = [part if isinstance(part, str) else part.write(bindings[part.name]) for part in self.parts]
        return None if any(piece is None for piece in pieces) else "".join(map(str, pieces))

    def typed_like(self, other: Template) -> Template:
        """Placeholders written bare here (`{leaf}`) take the limits they have in `other` (`{leaf=weight|bias}`)."""
        kinds = {part.name: part for part in other.placeholders if part.kind in ("choice", "rest")}
        parts = tuple(
            kinds[part.name]
            if isinstance(part, Placeholder) and part.kind == "component" and part.name in kinds
            else part
            for part in self.parts
        )
        return replace(self, text=_text(parts), parts=parts)

    def __str__(self) -> str:
        return self.text


def _text(parts: Iterable[str | Placeholder]) -> str:
    return "".join(part if isinstance(part, str) else f"{{{_spell(part)}}}" for part in parts)


def _spell(part: Placeholder) -> str:
    if part.kind == "integer":
        times = f"{part.multiplier}*" if part.multiplier != 1 else ""
        return f"{times}{part.name}" + (f"{part.offset:+d}" if part.offset else "")
    return part.name + {"component": "", "rest": "*", "choice": "=" + "|".join(part.choices)}[part.kind]


def parse_regex(text: str) -> re.Pattern[str]:
    """The compiled expression. Raises PatternError for a bad one, and for one made to take for ever."""
    _check_length(text)
    try:
        if _explodes(_parser.parse(text), repeated=False):
            raise PatternError(
                f"{text!r} repeats a group that holds a repetition or alternatives, which can take for ever; write it "
                "without nesting"
            )
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(f"{text!r} is no regular expression: {error}") from error


def _explodes(node: Any, repeated: bool) -> bool:
    """Whether a repetition has in it another one, or alternatives: what makes matching exponential in the key."""
    if isinstance(node, tuple) and len(node) == 2 and str(node[0]) in _REPEATS:
        most, inside = node[1][1], node[1][2]
        return (repeated and most > 1) or _explodes(inside, repeated or most > 1)
    if isinstance(node, tuple) and len(node) == 2 and str(node[0]) == "BRANCH" and repeated:
        return True
    children = node if isinstance(node, list | tuple | _parser.SubPattern) else ()
    return any(_explodes(child, repeated) for child in children if not isinstance(child, str | int))


def _check_length(text: str) -> None:
    if len(text) > MAX_PATTERN:
        raise PatternError(f"the pattern is {len(text):,} characters long; {MAX_PATTERN:,} is the limit")


@dataclass(frozen=True)
class Pattern:
    """Chooses keys: a template where the text has a placeholder, a regular expression otherwise."""

    text: str
    form: Template | re.Pattern[str]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        return cls(text, Template.parse(text) if PLACEHOLDER.search(text) else parse_regex(text))

    def matches(self, key: str) -> bool:
        if isinstance(self.form, Template):
            return self.form.match(key) is not None
        return self.form.search(key) is not None

    def __str__(self) -> str:
        return self.text
