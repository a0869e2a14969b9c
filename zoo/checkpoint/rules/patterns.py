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
from dataclasses import dataclass, field, replace
from functools import cached_property

MAX_PATTERN = 1000  # characters; a longer pattern in a shared file is an accident or an attack
PLACEHOLDER = re.compile(r"\{([^{}\d,][^{}]*|\d+\*[^{}]*)\}")
_INTEGER = re.compile(r"(?:(\d+)\*)?([A-Za-z])(?:([+-])(\d+))?")
_WORD = re.compile(r"([A-Za-z_]\w+)(\*|=[^{}]*)?")

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
        compiled = re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(f"{text!r} is no regular expression: {error}") from error
    if _VERBOSE.search(text):
        raise PatternError(f"{text!r} asks for verbose mode; write it without (?x)")
    if _explodes(text):
        raise PatternError(
            f"{text!r} repeats a group that holds a repetition or alternatives, which can take for ever; write it "
            "without nesting"
        )
    return compiled


@dataclass
class _Group:
    """A group that is being read: whether it holds a repetition or alternatives; the parts of each alternative."""

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
