"""Several networks in one file (MoCo's two encoders, averaged weights beside the model, two towers): which is meant.

A network is what is under one prefix. By names it is the target where every tensor of the target is under the prefix,
in its shape; `large_enough` finds the prefixes that are worth a match where names differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from zoo.errors import WorkError, any_of, listed
from zoo.formats.dtypes import FLOATING
from zoo.formats.entry import Entry
from zoo.formats.names import ancestors
from zoo.remap.plan import Target
from zoo.remap.rules import Rule, parse_rules

Entries = Mapping[str, Entry]

ENOUGH = 0.9  # of the target's elements; the rest may be a head that the file lacks


def filling(entries: Entries, target: Target) -> list[str]:
    """The prefixes (`encoder_q.`, or nothing) under which everything that the target needs stands, in its shape."""
    needed = {name: entry.shape for name, entry in target.entries.items() if _is_needed(name, entry, target)}
    if not needed:
        return []
    longest = max(needed, key=len)
    prefixes = [name.removesuffix(longest) for name in entries if f".{name}".endswith(f".{longest}")]
    return [prefix for prefix in prefixes if all(_has(entries, prefix + n, shape) for n, shape in needed.items())]


def _is_needed(name: str, entry: Entry, target: Target) -> bool:
    counts = target.is_parameter(name) or entry.dtype in FLOATING
    return counts and name not in target.tied and not target.ignores(name)


def _has(entries: Entries, name: str, shape: tuple[int, ...]) -> bool:
    return name in entries and entries[name].shape == shape


def only_network(entries: Entries, target: Target) -> str | None:
    """The one prefix that fills the target; None where none does, several do, or the names do as they are."""
    prefixes = filling(entries, target)
    return prefixes[0] if len(prefixes) == 1 and prefixes[0] else None


def large_enough(entries: Entries, target: Target) -> list[list[str]]:
    """Where as many elements as the target has are together: for each such place the prefixes that it has, the
    outermost first. None of them is in front of all names, and no two places share one."""
    wanted = ENOUGH * sum(entry.elements for name, entry in target.entries.items() if not target.ignores(name))
    sizes: dict[str, int] = {}
    for name, entry in entries.items():
        for path in ancestors(name)[1:]:
            sizes[f"{path}."] = sizes.get(f"{path}.", 0) + entry.elements * (entry.dtype in FLOATING)
    large = [prefix for prefix, size in sizes.items() if size >= wanted > 0]
    large = [prefix for prefix in large if not all(name.startswith(prefix) for name in entries)]
    inner = [one for one in large if not any(other != one and other.startswith(one) for other in large)]
    chains = [[prefix for prefix in large if one.startswith(prefix)] for one in inner]
    shared = {prefix for prefix in large if sum(prefix in chain for chain in chains) > 1}
    return [[prefix for prefix in sorted(chain, key=len) if prefix not in shared] for chain in chains]


def under(entries: Entries, prefix: str) -> dict[str, Entry]:
    """What is under a prefix, by the names without it."""
    return {
        name.removeprefix(prefix): Entry(name.removeprefix(prefix), entry.dtype, entry.shape)
        for name, entry in entries.items()
        if name.startswith(prefix)
    }


def taking(prefix: str) -> list[Rule]:
    """The rules that take what is under a prefix, and leave the rest."""
    return parse_rules([{"keep": f"^{re.escape(prefix)}"}, {"strip_prefix": prefix}])


def taken(prefix: str, entries: Entries) -> str:
    """What is said where one prefix decides."""
    rest = [name for name in entries if not name.startswith(prefix)]
    tops = dict.fromkeys(name.partition(".")[0] for name in rest)
    beside = f"; {len(rest)} tensors beside it are left out ({listed(tops, 4)})" if rest else ""
    return f"the network under {prefix.rstrip('.')!r} fills the target{beside}"


def several_networks(prefixes: Sequence[str], stripped: str = "") -> WorkError:
    """That the file has the target several times; what to type takes one of them. `stripped` came off every name."""
    where = [f"under {stripped}{prefix[:-1]}" if prefix else "under the names as they are" for prefix in prefixes]
    return WorkError(
        f"the file contains {len(prefixes)} networks that fill the target: {' and '.join(where)}",
        suggestion=how_to_choose(prefixes, stripped),
    )


def how_to_choose(prefixes: Sequence[str], stripped: str = "") -> str:
    """What to type for one of several networks: an option, and a rule."""
    options = [f"--key {stripped}{prefix[:-1]}" for prefix in prefixes if prefix]
    if "" in prefixes:
        rest = "|".join(re.escape(prefix) for prefix in prefixes if prefix)
        rule = f"drop: ^{rest}" if len(prefixes) == 2 else f"drop: ^(?:{rest})"
        return f"choose: {any_of(options)} for that one, or the rule `{rule}` for what is outside"
    rule = f"keep: ^{re.escape(stripped + prefixes[0])}"
    return f"choose one: {any_of(options)}; in a recipe or in Python with remap: ['{rule}', …]"
