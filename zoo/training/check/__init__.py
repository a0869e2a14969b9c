"""A dry run of a whole recipe on `meta`: what finetune would meet, found before anything heavy starts."""

from zoo.training.check.flow import check
from zoo.training.check.verdict import Stage, Verdict

__all__ = ["Stage", "Verdict", "check"]
