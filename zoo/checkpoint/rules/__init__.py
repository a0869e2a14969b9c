"""The rule language that moves names and tensors from one layout to another; docs/remap.md is its reference.

Everything here works on names, dtypes and shapes alone and imports neither numpy nor torch.
"""

from zoo.checkpoint.rules.base import Claim, Rule, State, Surroundings
from zoo.checkpoint.rules.inversion import check_inverse, invert
from zoo.checkpoint.rules.parsing import RULES, dump_rules, load_rules, parse_rules
from zoo.checkpoint.rules.patterns import InversionError, Pattern, PatternError, Template
from zoo.checkpoint.rules.program import Outcome, run

__all__ = [
    "RULES",
    "Claim",
    "InversionError",
    "Outcome",
    "Pattern",
    "PatternError",
    "Rule",
    "State",
    "Surroundings",
    "Template",
    "check_inverse",
    "dump_rules",
    "invert",
    "load_rules",
    "parse_rules",
    "run",
]
