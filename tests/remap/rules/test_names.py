"""rename, strip_prefix, add_prefix, drop, keep, tie, untie."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import yaml

from zoo.errors import InputError
from zoo.remap.rules import Outcome, parse_rules, run

ONE = (1,)


def names(outcome: Outcome) -> dict[str, str]:
    """New name -> old one."""
    return {name: value.sources[0] for name, value in outcome.values.items()}


def test_rename_lines_are_alternatives_and_see_no_output_of_each_other(program: Callable[..., Outcome]) -> None:
    outcome = program("- rename: {^a$: b, ^b$: a, ^c: d}", {"a": ONE, "b": ONE, "cc": ONE})
    assert names(outcome) == {"b": "a", "a": "b", "dc": "cc"}
    assert not outcome.unused


def test_the_first_line_that_matches_wins(program: Callable[..., Outcome]) -> None:
    outcome = program("- rename: {a.0.x: first.x, 'a.{i}.x': 'rest.{i}.x'}", {"a.0.x": ONE, "a.1.x": ONE})
    assert list(outcome.values) == ["first.x", "rest.1.x"]


def test_rules_run_in_order(program: Callable[..., Outcome]) -> None:
    outcome = program("[{strip_prefix: module.}, {rename: {^fc: head}}, {add_prefix: m.}]", {"module.fc": ONE})
    assert names(outcome) == {"m.head": "module.fc"}


def test_an_unused_line_is_told(program: Callable[..., Outcome]) -> None:
    outcome = program("[{rename: {^a: b, ^nothing: c}}, {strip_prefix: x.}, {drop: [a, zzz]}]", {"a1": ONE})
    assert [part for _, part in outcome.unused] == ["^nothing", "x.", "a", "zzz"]
    assert [rule.kind for rule in outcome.idle] == ["strip_prefix", "drop"]


def test_a_program_that_does_nothing_is_idle(program: Callable[..., Outcome]) -> None:
    assert program("[{rename: {^x: y}}, {drop: q}]", {"a": ONE}).idle
    assert not program("- rename: {^x: y, ^a: b}", {"a": ONE}).idle


@pytest.mark.parametrize("text", ["- rename: {^b: a}", "- strip_prefix: b", "- rename: {'{leaf}': a}"])
def test_two_tensors_on_one_name_are_an_error(program: Callable[..., Outcome], text: str) -> None:
    with pytest.raises(InputError, match="puts two tensors on one name"):
        program(text, {"a": ONE, "ba": ONE, "b": ONE})


def test_the_error_names_rule_keys_and_place() -> None:
    from zoo.errors import Location
    from zoo.formats.entry import Entry

    rules = parse_rules([{"rename": {"^b$": "a"}}], Location("r.yaml", 3, 5))
    with pytest.raises(InputError, match=r"r.yaml:3:5: rule `rename: \{\^b\$: a\}` .* 'a' and 'b' both become 'a'"):
        run(rules, {"a": Entry("a", "F32", ONE), "b": Entry("b", "F32", ONE)})


def test_a_name_cannot_vanish(program: Callable[..., Outcome]) -> None:
    with pytest.raises(InputError, match="leaves nothing"):
        program("- strip_prefix: abc", {"abc": ONE})


def test_strip_prefix_leaves_other_keys(program: Callable[..., Outcome]) -> None:
    assert list(program("- strip_prefix: a.", {"a.x": ONE, "b.a.x": ONE}).values) == ["x", "b.a.x"]


def test_add_prefix_to_some(program: Callable[..., Outcome]) -> None:
    outcome = program("- add_prefix: {prefix: t., match: ^fc}", {"fc": ONE, "conv": ONE})
    assert list(outcome.values) == ["t.fc", "conv"]


def test_drop_and_keep(program: Callable[..., Outcome]) -> None:
    shapes = {"fc.weight": ONE, "fc.bias": ONE, "conv.weight": ONE, "head.0.x": ONE}
    assert list(program("- drop: [^fc, 'head.{i}.x']", shapes).values) == ["conv.weight"]
    outcome = program("- keep: bias$", shapes)
    assert list(outcome.values) == ["fc.bias"]
    assert set(outcome.dropped) == set(shapes) - {"fc.bias"}


def test_tie_keeps_one_tensor_and_asks_for_proof(program: Callable[..., Outcome]) -> None:
    outcome = program("- tie: {head.weight: embed.weight}", {"embed.weight": ONE, "head.weight": ONE})
    assert list(outcome.values) == ["embed.weight"]
    assert outcome.ties == {"head.weight": "embed.weight"}
    assert [(pair.first.sources, pair.second.sources) for pair in outcome.must_be_equal] == [
        (("head.weight",), ("embed.weight",))
    ]


def test_tie_follows_placeholders(program: Callable[..., Outcome]) -> None:
    outcome = program("- tie: {'b.{i}.w': 'a.{i}.w'}", {"a.0.w": ONE, "a.1.w": ONE})
    assert outcome.ties == {"b.0.w": "a.0.w", "b.1.w": "a.1.w"}
    assert not outcome.must_be_equal


def test_tying_other_shapes_is_an_error(program: Callable[..., Outcome]) -> None:
    with pytest.raises(InputError, match="other shape or dtype"):
        program("- tie: {b: a}", {"a": (2,), "b": (3,)})


def test_untie_gives_a_copy(program: Callable[..., Outcome]) -> None:
    outcome = program("- untie: {b: a}", {"a": (2,)})
    assert names(outcome) == {"a": "a", "b": "a"}
    assert not outcome.ties
    with pytest.raises(InputError, match="write over"):
        program("- untie: {b: a}", {"a": ONE, "b": ONE})


def test_aliases_of_the_source_follow_renames(entries: Callable) -> None:
    source = entries({"m.embed": (4, 2), "m.head": (4, 2)})
    outcome = run(parse_rules([{"strip_prefix": "m."}]), source, {"m.head": "m.embed"})
    assert list(outcome.values) == ["embed"]
    assert outcome.ties == {"head": "embed"}


def test_a_tied_tensor_survives_the_drop_of_its_canonical_name(entries: Callable) -> None:
    source = entries({"embed": (4, 2), "head": (4, 2)})
    outcome = run(parse_rules([{"drop": "embed"}]), source, {"head": "embed"})
    assert {name: value.sources for name, value in outcome.values.items()} == {"head": ("embed",)}


def test_untie_of_tied_names_makes_two_tensors(entries: Callable) -> None:
    source = entries({"embed": (4, 2), "head": (4, 2)})
    outcome = run(parse_rules([{"untie": {"head": "embed"}}]), source, {"head": "embed"})
    assert list(outcome.values) == ["embed", "head"]
    assert not outcome.ties


def test_every_rule_writes_what_it_reads() -> None:
    text = """
    - rename: {'^a\\.': 'b.', 'x.{i}.{leaf=weight|bias}': 'y.{i+1}.{leaf}'}
    - strip_prefix: m.
    - add_prefix: p.
    - add_prefix: {prefix: p., match: ^q}
    - drop: ^fc
    - drop: {match: [index$, mask$], derived: true}
    - keep: [a, b]
    - tie: {a: b}
    - untie: {'a.{i}': 'b.{i}'}
    """
    rules = parse_rules(yaml.safe_load(text))
    assert parse_rules([rule.as_mapping() for rule in rules]) == rules
