"""The rows of a verification: what was checked, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Result = Literal["confirmed", "failed", "not checked"]


@dataclass(frozen=True)
class Row:
    """One check. `detail` says what was compared, or why it was not; of a failed one also what was `expected` and
    `found`."""

    check: str
    result: Result
    detail: str
    expected: str | None = None
    found: str | None = None


@dataclass
class Rows:
    """All checks so far, in their order."""

    rows: list[Row] = field(default_factory=list)

    def confirm(self, check: str, detail: str) -> None:
        self.rows.append(Row(check, "confirmed", detail))

    def fail(self, check: str, detail: str, expected: Any = None, found: Any = None) -> None:
        texts = (None if value is None else str(value) for value in (expected, found))
        self.rows.append(Row(check, "failed", detail, *texts))

    def skip(self, check: str, why: str) -> None:
        self.rows.append(Row(check, "not checked", why))

    def equal(self, check: str, expected: Any, found: Any, detail: str, wrong: str) -> bool:
        """A row for two values that have to be the same: `detail` where they are, `wrong` where they are not."""
        if expected == found:
            self.confirm(check, detail)
        else:
            self.fail(check, wrong, expected, found)
        return bool(expected == found)

    @property
    def failed(self) -> bool:
        return any(row.result == "failed" for row in self.rows)

    def counts(self) -> Mapping[str, int]:
        results = [row.result for row in self.rows]
        return {key: results.count(key) for key in ("confirmed", "failed", "not checked")}

    def as_list(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.rows]
