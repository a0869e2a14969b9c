"""One line of a `rename` rule: a pattern, its replacement, and the way back."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zoo.checkpoint.rules.patterns import InversionError, Pattern, PatternError, Template, parse_regex

_SPECIAL = set(".^$*+?{}[]|()")
_REFERENCE = re.compile(r"\\(?:g<(\d+)>|([1-9]\d?))")


@dataclass(frozen=True)
class Renaming:
    """`pattern` → `replacement`. A template's replacement is a template; a regular expression's may hold `\\1`."""

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
        """The renaming that leads back. Raises InversionError where the old key cannot be told from the new one."""
        if isinstance(self.pattern.form, Template):
            assert isinstance(self.replacement, Template)
            old, new = self.pattern.form, self.replacement
            if lost := sorted(old.names - new.names):
                raise InversionError(f"{new} does not say what {{{lost[0]}}} was in {old}")
            return Renaming(Pattern(new.text, new), old)
        return _inverse_regex(self.pattern.text, str(self.replacement))


def parse_replacement(text: str, pattern: Template) -> Template:
    """A template that is filled from what `pattern` binds. Raises PatternError where it needs more."""
    template = Template.parse(text).typed_like(pattern)
    if unbound := sorted(template.names - pattern.names):
        raise PatternError(f"{{{unbound[0]}}} in {text!r} is not bound by {str(pattern)!r}")
    return template


def _inverse_regex(pattern: str, replacement: str) -> Renaming:
    """Only literals, anchors and plain groups that the replacement repeats once each can be told apart again."""
    start, end, pieces = _pieces(pattern)
    groups = [piece for piece in pieces if isinstance(piece, tuple)]
    back, order = _replacement_pieces(replacement, pattern)
    if sorted(order) != list(range(1, len(groups) + 1)):
        raise InversionError(f"{replacement!r} does not hold each group of {pattern!r} exactly once")
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
                f"{rest[0]!r} in {pattern!r} stands for more than one text; write a template with {{i}} instead, "
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
        raise InversionError(f"the replacement {replacement!r} of {pattern!r} holds a backslash")
    return [piece for piece in pieces if piece != ""], order
