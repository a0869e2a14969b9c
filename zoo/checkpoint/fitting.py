"""Which installed remaps bring a key set whole to a target: what to suggest where `--remap auto` abstains."""

from __future__ import annotations

from collections.abc import Mapping

from zoo import registry
from zoo.checkpoint.header import Entry
from zoo.checkpoint.moves import Target
from zoo.checkpoint.plan import make_plan
from zoo.checkpoint.rules import parse_rules


def fitting_remaps(source: Mapping[str, Entry], target: Mapping[str, Entry]) -> list[str]:
    """Names of the remaps that fill all of the target's parameters and leave nothing of the source unused."""
    return [name for name in registry.names("remaps") if _fits(name, source, target)]


def _fits(name: str, source: Mapping[str, Entry], target: Mapping[str, Entry]) -> bool:
    try:
        plan = make_plan(source, parse_rules(registry.load(name, "remaps")()), Target(target))
    except Exception:  # rules that do not fit, or a plugin's own code that fails: neither is worth suggesting
        return False
    return plan.coverage == 1.0 == plan.use
