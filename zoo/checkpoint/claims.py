"""Checks on the values what a plan could only assume on names: tensors of which one is kept must be equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zoo.checkpoint.expression import evaluate
from zoo.checkpoint.plan import Plan
from zoo.errors import Problem, WorkError

if TYPE_CHECKING:
    import numpy as np


def check_claims(plan: Plan, read: Callable[[str], np.ndarray[Any, Any]]) -> None:
    """Raises WorkError that names every pair of tensors that should be one and are not, bit for bit."""
    problems = []
    for claim in plan.claims:
        mine, other = evaluate(claim.value, read), evaluate(claim.canonical_value, read)
        if mine.tobytes() != other.tobytes():
            problems.append(
                Problem(
                    f"{claim.alias!r} and {claim.canonical!r} are one tensor in the target, but the source has two "
                    "different ones",
                    suggestion=f"choose: drop the one that is not wanted, for example `drop: ^{claim.alias}$`",
                )
            )
    if problems:
        raise WorkError(problems)
