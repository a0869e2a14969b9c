"""Rules from YAML values, files and the command line; every mistake at once, with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo.errors import InputError, Location
from zoo.remap.rules import RULES, dump_rules, load_rules, parse_rules

GOOD = """\
# DINO's wrapper off, its head away
- strip_prefix: 'module.backbone.'
- drop: ^head\\.
- concat:
    into: 'b.{i}.qkv'
    from: ['b.{i}.q', 'b.{i}.k', 'b.{i}.v']
- reshape: {match: gamma$, from: [0, 1, 1], to: [0]}
"""


def test_a_file_is_read_with_places(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(GOOD)
    rules = load_rules(path)
    assert [rule.kind for rule in rules] == ["strip_prefix", "drop", "concat", "reshape"]
    assert [str(rule.location) for rule in rules] == [f"{path}:{line}:3" for line in (2, 3, 4, 7)]


def test_rules_may_stand_under_remap(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("remap:\n- drop: a\n- {cast: bfloat16}\n")
    assert [rule.kind for rule in load_rules(path)] == ["drop", "cast"]


def test_what_is_written_reads_back_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    rules = load_rules(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text(dump_rules(rules))
    assert load_rules(tmp_path / "b.yaml") == rules


def test_all_mistakes_come_at_once_each_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "- renam: {a: b}\n"
        "- drop: '('\n"
        "- reshape:\n    match: a\n    too: [1]\n"
        "- cast: bflot16\n"
        "- permute: {match: a, axes: [0, 0]}\n"
        "- [1, 2]\n"
        "- rename:\n    'a.{i}': b\n    'c.{i}': 'd.{j}'\n"
        "- strip_prefix: 3\n"
    )
    with pytest.raises(InputError) as caught:
        load_rules(path)
    told = [(problem.location.line, problem.message, problem.suggestion) for problem in caught.value.problems]
    assert [line for line, *_ in told] == [1, 2, 5, 6, 7, 8, 11, 12]
    assert told[0][2] == "did you mean rename?"
    assert told[2][2] == "did you mean to?"
    assert told[3][2] == "did you mean bfloat16, float16 or float64?"
    assert "{j}" in told[6][1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not None"),
        ("[]", "contains no rules"),
        ("just text", "is no rule"),
        ("- a: [", "not YAML"),
        ("- {a: b, c: d}", "one key"),
        ("- !!python/object/apply:os.system [echo]", "not YAML"),
        ("3", "expected a list"),
    ],
)
def test_files_that_are_no_rules(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=why):
        load_rules(tmp_path / "bad.yaml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "huge.yaml").write_bytes(b" " * 1_000_001)
    for name in ("none.yaml", "binary.yaml", "huge.yaml"):
        with pytest.raises(InputError):
            load_rules(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"^model\.=", {"rename": {r"^model\.": ""}}),
        ("^=backbone.", {"rename": {"^": "backbone."}}),
        ("a.{i}=b.{i+1}", {"rename": {"a.{i}": "b.{i+1}"}}),
        (r"drop: ^fc\.", {"drop": r"^fc\."}),
        ("keep: [ab]$", {"keep": "[ab]$"}),
        ("cast: bfloat16", {"cast": "bfloat16"}),
        ("reshape: {match: x, to: [-1]}", {"reshape": {"match": "x", "to": [-1]}}),
        ("adapt_input: 'conv1.weight'", {"adapt_input": "conv1.weight"}),
    ],
)
def test_inline(text: str, expected: dict) -> None:
    assert [rule.as_mapping() for rule in parse_rules(text)] == [expected]


@pytest.mark.parametrize("text", ["nothing", "=b", "reshape: {match: x", "drop: {match: [}"])
def test_inline_that_is_none(text: str) -> None:
    with pytest.raises(InputError):
        parse_rules(text)


def test_one_place_for_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"r\.yaml:4:9: "):
        parse_rules([{"nope": 1}], Location("r.yaml", 4, 9))


def test_the_reference_names_every_rule() -> None:
    reference = (Path(__file__).parents[3] / "docs" / "remap.md").read_text()
    for kind in RULES:
        assert f"### {kind}" in reference, f"docs/remap.md says nothing about {kind}"
