"""Checks on the values what a plan could only assume on names: that what it leaves away is really there twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.checkpoint.expression import evaluate
from zoo.checkpoint.plan import Plan
from zoo.errors import Problem, WorkError

if TYPE_CHECKING:
    import numpy as np


def check_claims(plan: Plan, read: Callable[[str], np.ndarray[Any, Any]]) -> None:
    """Raises WorkError that names every claim that does not hold."""
    problems = []
    for claim in plan.claims:
        first, second = evaluate(claim.first, read), evaluate(claim.second, read)
        if first.tobytes() != second.tobytes():
            problems.append(Problem(claim.message, suggestion=claim.suggestion))
    if problems:
        raise WorkError(problems)
