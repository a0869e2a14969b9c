"""The rule language that moves names and tensors from one layout to another; docs/remap.md is its reference.

Everything here works on names, dtypes and shapes alone and imports neither numpy nor torch.
"""

from zoo.remap.rules.base import MustBeEqual, Outcome, Rule, State, Surroundings, run
from zoo.remap.rules.invert import check_inverse, invert
from zoo.remap.rules.parse import RULES, dump_rules, load_rules, parse_rules
from zoo.remap.rules.patterns import InversionError, Pattern, PatternError, Template

__all__ = [
    "RULES",
    "InversionError",
    "MustBeEqual",
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
