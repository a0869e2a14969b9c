"""A dry run of a complete recipe on `meta`: what finetune would meet, found before anything heavy starts."""

from zoo.preflight.check import check
from zoo.preflight.verdict import Stage, Verdict

__all__ = ["Stage", "Verdict", "check"]
