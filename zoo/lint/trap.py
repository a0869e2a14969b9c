"""The finding of a check: what is wrong, where, and what to do."""

from __future__ import annotations

from dataclasses import dataclass

from zoo.errors import Location, Problem


@dataclass(frozen=True)
class Trap:
    """Something that makes training useless; with `fatal`, none is possible at all.

    `kind` is `no_gradient`, `hidden_state`, `unregistered`, `activation`, `optimizer` or `scheduler`; `where` are paths
    in the model (or group numbers of an optimizer).
    """

    kind: str
    where: tuple[str, ...]
    message: str
    suggestion: str
    fatal: bool = False

    def problem(self, location: Location | None = None) -> Problem:
        """The finding as a warning, or a mistake, at a place in a recipe."""
        return Problem(self.message, location, self.suggestion)
