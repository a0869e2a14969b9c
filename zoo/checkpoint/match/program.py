"""Writes the links that were found as a program of rules a person can read, and runs it to see that it is right."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from zoo.checkpoint.header import Entry
from zoo.checkpoint.match.groups import Block
from zoo.checkpoint.match.layout import RuleMapping, cut_rules, drop_rules, join_rules, shape_rules
from zoo.checkpoint.match.links import Link
from zoo.checkpoint.match.order import blank
from zoo.checkpoint.match.renaming import rename_rule
from zoo.checkpoint.match.units import split_name
from zoo.checkpoint.rules import parse_rules, run
from zoo.errors import InputError, WorkError

FEW = 16  # lines of a program short enough to look no further


def write_rules(
    links: Sequence[Link],
    source: Mapping[str, Entry],
    target: Mapping[str, Entry],
    blocks: Sequence[Block],
    dropped: Sequence[str] = (),
) -> list[RuleMapping]:
    """A short program that makes exactly these links of a source with these entries.

    `dropped` are names that have no place; integer tensors among them (index tables) are called derived. What is
    neither linked nor dropped stays unexpected. Raises WorkError where no program could be written.
    """
    tables = [name for name in dropped if split_name(name)[1] == "value" and source[name].dtype[0] in "IUB"]
    others = [name for name in dropped if name not in set(tables)]
    before = [
        *drop_rules(tables, source.keys() - {*tables}, derived=True),
        *drop_rules(others, source.keys() - {*dropped}, derived=False),
        *join_rules(links),
    ]
    behind = [*shape_rules(links), *cut_rules(links)]
    best: list[RuleMapping] | None = None
    for renames in _renames({link.source: link.target for link in links}, blocks):
        rules = [*before, *renames, *behind]
        if (best is None or _size(rules) < _size(best)) and _makes(rules, links, source, target):
            best = rules
        if best is not None and _size(best) <= FEW:
            break
    if best is None:
        raise WorkError(f"the {len(links)} links that were found could not be written as rules")
    return best


def _size(rules: Sequence[RuleMapping]) -> int:
    return sum(len(rule["rename"]) if "rename" in rule else 1 for rule in rules)


def _renames(whole: Mapping[str, str], blocks: Sequence[Block]) -> Iterator[list[RuleMapping]]:
    """Ways to write the renames: at once, or blocks first and then what is inside them, for each kind of block."""
    yield from _steps([whole])
    for kind in dict.fromkeys(blank(block.target.path) for block in blocks):
        bases = {b.source.path: b.target.path for b in blocks if b.target.path and blank(b.target.path) == kind}
        if len(bases) < 2:
            continue
        halfway = {old: _inside(old, bases) or new for old, new in whole.items()}
        if len(set(halfway.values())) == len(halfway):
            yield from _steps([halfway, {halfway[old]: new for old, new in whole.items()}])


def _inside(name: str, bases: Mapping[str, str]) -> str | None:
    """The name with its block renamed, or None where it is in none of the blocks."""
    base = next((base for base in bases if name.startswith(f"{base}.")), None)
    return None if base is None else bases[base] + name.removeprefix(base)


def _steps(steps: Sequence[Mapping[str, str]]) -> Iterator[list[RuleMapping]]:
    written = [rename_rule(step) for step in steps]
    if all(lines is not None for lines in written):
        yield [{"rename": lines} for lines in written if lines]


def _makes(
    rules: Sequence[RuleMapping], links: Sequence[Link], source: Mapping[str, Entry], target: Mapping[str, Entry]
) -> bool:
    """Whether the rules, run on the source's entries, make every link and fill nothing else of the target."""
    try:
        made = run(parse_rules(list(rules)), source).values
    except InputError:
        return False
    wanted = {name: link.sources for link in links for name in link.targets if name}
    filled = {name: value for name, value in made.items() if name in target}
    return filled.keys() == wanted.keys() and all(
        value.sources == wanted[name] and value.shape == tuple(target[name].shape) for name, value in filled.items()
    )
