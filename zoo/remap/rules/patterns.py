"""How rules choose and rename keys: templates with `{i}` placeholders, regular expressions, and their inverse."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from zoo.expressions import Expression

MAX_PATTERN = 1000  # characters; a longer pattern in a shared file is an accident or an attack
PLACEHOLDER = re.compile(r"\{([^{}\d,][^{}]*|\d+\*[^{}]*)\}")
_INTEGER = re.compile(r"(?:(\d+)\*)?([A-Za-z])(?:([+-])(\d+))?")
_WORD = re.compile(r"([A-Za-z_]\w+)(\*|=[^{}]*)?")

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
        return {"integer": r"0|[1-9]\d{0,17}", "component": r"[^./]+", "rest": r".+"}[self.kind]

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
    """A complete key with placeholders in it."""

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
                raise PatternError(f"{{{part.name}}} occurs twice in {self.text!r}, in two kinds")

    @property
    def placeholders(self) -> list[Placeholder]:
        return [part for part in self.parts if isinstance(part, Placeholder)]

    @property
    def names(self) -> frozenset[str]:
        return frozenset(part.name for part in self.placeholders)

    @cached_property
    def _expression(self) -> Expression:
        made = "".join(re.escape(p) if isinstance(p, str) else f"({p.regex()})" for p in self.parts)
        return Expression(made, written=self.text)

    def match(self, key: str) -> Bindings | None:
        """The placeholders' values that give `key`, or None."""
        found = self._expression.fullmatch(key)
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


def parse_regex(text: str) -> Expression:
    """The compiled expression. Raises PatternError for a bad one, and for one made to take for ever."""
    _check_length(text)
    try:
        return Expression(text)
    except ValueError as error:
        raise PatternError(str(error)) from error


def _check_length(text: str) -> None:
    if len(text) > MAX_PATTERN:
        raise PatternError(f"the pattern is {len(text):,} characters long; {MAX_PATTERN:,} is the limit")


@dataclass(frozen=True)
class Pattern:
    """Chooses keys: a template where the text has a placeholder, a regular expression otherwise."""

    text: str
    form: Template | Expression

    @classmethod
    def parse(cls, text: str) -> Pattern:
        return cls(text, Template.parse(text) if PLACEHOLDER.search(text) else parse_regex(text))

    def matches(self, key: str) -> bool:
        if isinstance(self.form, Template):
            return self.form.match(key) is not None
        return self.form.search(key) is not None

    def __str__(self) -> str:
        return self.text


_SPECIAL = set(".^$*+?{}[]|()")
_REFERENCE = re.compile(r"\\(?:g<(\d+)>|([1-9]\d?))")


@dataclass(frozen=True)
class Renaming:
    """`pattern` → `replacement`. A template's replacement is a template; a regular expression's may contain `\\1`."""

    pattern: Pattern
    replacement: Template | str

    @classmethod
    def parse(cls, pattern: str, replacement: str) -> Renaming:
        """Raises PatternError for a bad pattern, or a replacement that names what the pattern does not bind."""
        parsed = Pattern.parse(pattern)
        if isinstance(parsed.form, Template):
            return cls(parsed, parse_replacement(replacement, parsed.form))
        try:
            re.compile(f"(?:{pattern})|").sub(replacement, "")
        except (re.error, IndexError) as error:
            raise PatternError(f"the replacement {replacement!r} does not fit {pattern!r}: {error}") from error
        return cls(parsed, replacement)

    def apply(self, key: str) -> str | None:
        """The new key, or None where the pattern does not match."""
        form = self.pattern.form
        if isinstance(form, Template):
            bindings = form.match(key)
            assert isinstance(self.replacement, Template)
            return None if bindings is None else self.replacement.fill(bindings)
        return form.sub(str(self.replacement), key) if form.search(key) else None

    def inverse(self) -> Renaming:
        """The renaming that leads back. Raises InversionError where the old key cannot be derived from the new one."""
        if isinstance(self.pattern.form, Template):
            assert isinstance(self.replacement, Template)
            old, new = self.pattern.form, self.replacement
            if lost := sorted(old.names - new.names):
                raise InversionError(f"{new} does not say what {{{lost[0]}}} was in {old}")
            return Renaming(Pattern(new.text, new), old)
        try:
            return _inverse_regex(self.pattern.text, str(self.replacement))
        except PatternError as error:
            raise InversionError(f"the way back is no pattern: {error}") from error


def parse_replacement(text: str, pattern: Template) -> Template:
    """A template that is filled from what `pattern` binds. Raises PatternError where it needs more."""
    template = Template.parse(text).typed_like(pattern)
    if unbound := sorted(template.names - pattern.names):
        raise PatternError(f"{{{unbound[0]}}} in {text!r} is not bound by {str(pattern)!r}")
    return template


def _inverse_regex(pattern: str, replacement: str) -> Renaming:
    """Only literals, anchors and plain groups that the replacement repeats once each can be reversed."""
    start, end, pieces = _pieces(pattern)
    groups = [piece for piece in pieces if isinstance(piece, tuple)]
    back, order = _replacement_pieces(replacement, pattern)
    if sorted(order) != list(range(1, len(groups) + 1)):
        raise InversionError(f"{replacement!r} does not contain each group of {pattern!r} exactly once")
    body = "".join(re.escape(piece) if isinstance(piece, str) else f"({groups[piece - 1][0]})" for piece in back)
    if not body and not (start or end):
        raise InversionError(f"what {pattern!r} took away leaves no trace; anchor it with ^ or $")
    numbers = iter(range(1, len(groups) + 1))
    texts = [
        piece.replace("\\", r"\\") if isinstance(piece, str) else rf"\g<{order.index(next(numbers)) + 1}>"
        for piece in pieces
    ]
    text = f"{'^' * start}{body}{'$' * end}"
    return Renaming(Pattern(text, parse_regex(text)), "".join(texts))


def _pieces(pattern: str) -> tuple[bool, bool, list[str | tuple[str]]]:
    """Whether it is anchored at the start and at the end, and its literals and groups (each a tuple of its inside)."""
    start, rest = pattern.startswith("^"), pattern.removeprefix("^")
    end = rest.endswith("$") and not rest.endswith("\\$")
    rest = rest.removesuffix("$") if end else rest
    pieces: list[str | tuple[str]] = []
    while rest:
        if rest[0] == "(":
            inside, closed, rest = rest[1:].partition(")")
            if not closed or inside.startswith("?") or "(" in inside or inside.endswith("\\"):
                raise InversionError(f"a group of {pattern!r} is more than a plain (…)")
            pieces.append((inside,))
        elif rest[0] == "\\" and len(rest) > 1 and not rest[1].isalnum():
            pieces, rest = [*pieces, rest[1]], rest[2:]
        elif rest[0] == "." and rest[1:2] not in ("*", "+", "?", "{"):
            pieces, rest = [*pieces, "."], rest[1:]  # in a key's pattern a bare dot means a dot
        elif rest[0] in _SPECIAL or rest[0] == "\\":
            raise InversionError(
                f"{rest[0]!r} in {pattern!r} matches more than one text; write a template with {{i}} instead, "
                "or a backslash before it"
            )
        else:
            pieces, rest = [*pieces, rest[0]], rest[1:]
    return start, end, pieces


def _replacement_pieces(replacement: str, pattern: str) -> tuple[list[str | int], list[int]]:
    """Literals and group numbers of the replacement, and the numbers alone."""
    pieces: list[str | int] = []
    order: list[int] = []
    position = 0
    for found in _REFERENCE.finditer(replacement):
        pieces += [replacement[position : found.start()], int(found[1] or found[2])]
        order.append(int(found[1] or found[2]))
        position = found.end()
    pieces.append(replacement[position:])
    if any(isinstance(piece, str) and "\\" in piece for piece in pieces):
        raise InversionError(f"the replacement {replacement!r} of {pattern!r} contains a backslash")
    return [piece for piece in pieces if piece != ""], order
