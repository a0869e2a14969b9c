"""docs/remap.md: every example does what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from zoo.errors import InputError
from zoo.formats.dtypes import written_dtype
from zoo.formats.entry import Entry
from zoo.remap.expression import byte_spans
from zoo.remap.rules import RULES, invert, parse_rules, run

TEXT = (Path(__file__).parents[3] / "docs" / "remap.md").read_text()
EXAMPLES = dict(re.findall(r"### (\w+)\n.*?```yaml\n(.*?)```\n```text\n.*?```", TEXT, re.DOTALL))
TABLES = dict(re.findall(r"### (\w+)\n.*?```yaml\n.*?```\n```text\n(.*?)```", TEXT, re.DOTALL))
TENSOR = re.compile(
    r"(?P<name>\S+) \[(?P<shape>[\d, ]*)\](?: (?P<dtype>[a-z]+\d+))?(?: (?P<anew>anew))?(?: = (?P<tied>\S+))?"
)


def tensors(side: str) -> dict[str, re.Match[str]]:
    return {match["name"].lstrip(", "): match for match in TENSOR.finditer(side)}


def entry(name: str, match: re.Match[str]) -> Entry:
    shape = tuple(int(size) for size in match["shape"].split(",") if size)
    return Entry(name, str(written_dtype(match["dtype"] or "float32")), shape)


@pytest.mark.parametrize("kind", RULES)
def test_the_example_of_each_rule(kind: str) -> None:
    lines = [line.split("->") for line in TABLES[kind].strip().splitlines()]
    before = {name: match for left, _ in lines for name, match in tensors(left).items()}
    after = {name: match for _, right in lines for name, match in tensors(right).items()}
    outcome = run(parse_rules(yaml.safe_load(EXAMPLES[kind])), {name: entry(name, m) for name, m in before.items()})
    assert not outcome.unused
    made = {name: Entry(name, value.dtype, value.shape) for name, value in outcome.values.items()}
    assert made == {name: entry(name, match) for name, match in after.items()}
    assert outcome.ties == {match["tied"]: name for name, match in after.items() if match["tied"]}
    for name, match in after.items():
        if match["anew"]:
            assert byte_spans(outcome.values[name]) is None
    for left, right in lines:
        for name in tensors(right):
            assert set(outcome.values[name].sources) <= tensors(left).keys()


def test_the_table_of_what_runs_backwards() -> None:
    never = {"keep", "slice", "resample_pos_embed", "resample_rel_bias", "adapt_input", "adapt_classes"}
    for kind, example in EXAMPLES.items():
        rules = parse_rules(yaml.safe_load(example))
        if kind in never | {"drop", "cast"}:
            with pytest.raises(InputError):
                invert(rules)
        else:
            assert invert(rules)
