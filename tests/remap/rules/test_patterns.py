"""Patterns: templates with placeholders, regular expressions, and what is refused."""

from __future__ import annotations

import time

import pytest

from zoo.expressions import Expression
from zoo.remap.rules.patterns import (
    MAX_PATTERN,
    InversionError,
    Pattern,
    PatternError,
    Renaming,
    Template,
    parse_placeholder,
    parse_regex,
)


@pytest.mark.parametrize(
    ("template", "key", "bindings"),
    [
        ("blocks.{i}.norm.weight", "blocks.12.norm.weight", {"i": 12}),
        ("blocks.{i}.norm.weight", "blocks.12.norm.bias", None),
        ("blocks.{i}.norm.weight", "xblocks.12.norm.weight", None),
        ("blocks.{i}.norm.weight", "blocks.012.norm.weight", None),
        ("blocks.{i}x", "blocks.1.norm.1x", None),
        ("a.{i+1}", "a.3", {"i": 2}),
        ("a.{i+1}", "a.0", None),
        ("a.{2*i+1}", "a.5", {"i": 2}),
        ("a.{2*i+1}", "a.4", None),
        ("a.{i-2}", "a.0", {"i": 2}),
        ("block{i}.block{i}-{j}", "block3.block3-1", {"i": 3, "j": 1}),
        ("block{i}.block{i}-{j}", "block3.block4-1", None),
        ("fc.{leaf}", "fc.weight", {"leaf": "weight"}),
        ("fc.{leaf}", "fc.a.weight", None),
        ("x/{leaf}", "x/kernel", {"leaf": "kernel"}),
        ("fc.{leaf=weight|bias}", "fc.bias", {"leaf": "bias"}),
        ("fc.{leaf=weight|bias}", "fc.running_mean", None),
        ("layer.{i}.{rest*}", "layer.1.a.b.c", {"i": 1, "rest": "a.b.c"}),
        ("layer.{i}.{rest*}", "layer.1.", None),
        ("a+b.{i}", "a+b.1", {"i": 1}),
        ("plain.name", "plain.name", {}),
        ("plain.name", "plainxname", None),
    ],
)
def test_template_matches_whole_keys(template: str, key: str, bindings: dict | None) -> None:
    assert Template.parse(template).match(key) == bindings


@pytest.mark.parametrize("template", ["a.{i+1}.{leaf}", "{3*k-2}.x", "a.{rest*}", "{leaf=a|b}{i}"])
@pytest.mark.parametrize("number", range(1, 5))
def test_fill_and_match_are_inverse(template: str, number: int) -> None:
    parsed = Template.parse(template)
    values = {"i": number, "k": number, "leaf": "a", "rest": "p.q"}
    bindings = {name: values[name] for name in parsed.names}
    key = parsed.fill(bindings)
    assert key is not None
    assert parsed.match(key) == bindings


def test_arithmetic_below_zero_gives_no_key() -> None:
    assert Template.parse("a.{i-2}").fill({"i": 1}) is None


@pytest.mark.parametrize("text", ["{}", "{i*2}", "{0*i}", "{a-b}", "{i+}", "{leaf|x}", "{i+j}"])
def test_bad_placeholders_are_refused(text: str) -> None:
    with pytest.raises(PatternError):
        parse_placeholder(text[1:-1])


def test_one_placeholder_cannot_be_of_two_kinds() -> None:
    with pytest.raises(PatternError, match="two kinds"):
        Template.parse("{leaf}.{leaf*}")


@pytest.mark.parametrize("text", [r"^a\.(\d{3})$", r"x{2,}", r"x{,3}", "weight$", r"layer[1-4]\.0"])
def test_braces_of_quantifiers_are_no_placeholders(text: str) -> None:
    assert isinstance(Pattern.parse(text).form, Expression)


def test_regex_is_searched_template_is_whole() -> None:
    assert Pattern.parse("norm").matches("a.norm.weight")
    assert not Pattern.parse("{leaf}").matches("a.norm.weight")


@pytest.mark.parametrize("text", ["(", "[a", "*a", r"(?P<x", "a" * (MAX_PATTERN + 1)])
def test_bad_regexes_are_refused(text: str) -> None:
    with pytest.raises(PatternError):
        parse_regex(text)


@pytest.mark.parametrize("text", [r"(a+)+$", r"(a*)*b", r"(x|a+){2,}$", r"(?:\w+\s?)*$", r"((a+))+$", r"(a|aa)+$"])
def test_patterns_that_take_for_ever_are_refused(text: str) -> None:
    began = time.monotonic()
    with pytest.raises(PatternError, match="for ever"):
        Pattern.parse(text).matches("a" * 60 + "!")
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "text", [r"([^]]+)+", r"(?:a{2,})*", r"((?:ab|c))+", r"(?P<x>a+?)+?", r"(?i:a*){3}", r"(?=a+)+", r"(?#x)(a+)(?#y)*"]
)
def test_so_are_their_other_spellings(text: str) -> None:
    with pytest.raises(PatternError, match="for ever"):
        Pattern.parse(text)


@pytest.mark.parametrize("text", ["(?x)(a+) +", "(?x: (a+) + )", "(?ix)a"])
def test_verbose_mode_is_refused(text: str) -> None:
    with pytest.raises(PatternError, match=r"without \(\?x\)"):
        Pattern.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        r"^(module\.)+", r"^(one|two)\.", r"(\d+)\.(\d+)", r"\(a+\)+", r"(x\d+)?$", r"(a|b|[cd])+", r"(a{1})+",
        r"(a+){1}", r"[(a+]+\)+", r"(?<=a)b+", r"(a)?(?(1)b+|c)", r"(a++)+", r"(?P<n>a)(?P=n)+", r"([]a+])+",
    ],
)  # fmt: skip
def test_harmless_repetitions_are_taken(text: str) -> None:
    Pattern.parse(text)


@pytest.mark.parametrize(
    ("old", "new", "key", "expected"),
    [
        (r"^_conv_stem\.", "conv_stem.", "_conv_stem.weight", "conv_stem.weight"),
        (r"^_conv_stem\.", "conv_stem.", "a._conv_stem.weight", None),
        (r"^(blocks\.\d+)\._bn0\.", r"\1.bn1.", "blocks.3._bn0.bias", "blocks.3.bn1.bias"),
        (r"^model\.", "", "model.fc.weight", "fc.weight"),
        (r"^", "backbone.", "fc.weight", "backbone.fc.weight"),
        (r"(\d+)-(\d+)$", r"\2.\1", "a.1-2", "a.2.1"),
        (r"weight$", r"\g<0>_g", "a.weight", "a.weight_g"),
        ("features.{i}.{j}.block.{rest*}", "blocks.{i-1}.{j}.{rest}", "features.2.0.block.x.y", "blocks.1.0.x.y"),
        ("features.{i}.{j}.block.{rest*}", "blocks.{i-1}.{j}.{rest}", "features.0.0.block.x.y", None),
        ("s{i}.{leaf}", "{leaf}/{2*i}", "s3.weight", "weight/6"),
    ],
)
def test_apply(old: str, new: str, key: str, expected: str | None) -> None:
    assert Renaming.parse(old, new).apply(key) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [("a.{i}", "b.{j}"), (r"^a(\d+)", r"\2"), ("a", r"\q<"), (r"^a", r"\g<x>"), ("{leaf=a|b}.x", "{other}.x")],
)
def test_replacements_that_need_more_are_refused(old: str, new: str) -> None:
    with pytest.raises(PatternError):
        Renaming.parse(old, new)


@pytest.mark.parametrize(
    ("old", "new", "keys"),
    [
        (r"^_conv_stem\.", "conv_stem.", ["_conv_stem.weight"]),
        (r"^(blocks\.\d+)\._bn0\.", r"\1.bn1.", ["blocks.3._bn0.bias", "blocks.10._bn0.weight"]),
        (r"^model\.", "", ["model.fc.weight", "model.model.fc.weight"]),
        ("^vit.embeddings.", "", ["vit.embeddings.cls_token"]),
        (r"\.gamma$", ".weight", ["a.gamma"]),
        (r"^x(\d+)_(\d+)\.", r"y.\2.\g<1>.", ["x1_2.w"]),
        (r"^layer\[(\d+)\]", r"layer.\1", ["layer[3].w"]),
        ("f.{i}.{j}.{rest*}", "b.{i-1}.{j}.{rest}", ["f.1.0.a.b", "f.7.2.c"]),
        ("p.{i}.{leaf=weight|bias}", "q.{leaf}.{3*i+1}", ["p.0.weight", "p.4.bias"]),
    ],
)
def test_inverse_leads_back(old: str, new: str, keys: list[str]) -> None:
    renaming = Renaming.parse(old, new)
    inverse = renaming.inverse()
    for key in keys:
        renamed = renaming.apply(key)
        assert renamed is not None
        assert inverse.apply(renamed) == key


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (r"^conv.*\.", "x.", "more than one text"),
        (r"^a(\d+)\.", "a.", "each group"),
        (r"^(a|(b))\.", r"\1.", "plain"),
        (r"_bn", "", "no trace"),
        (r"\d+", "x", "more than one text"),
        ("a.{i}.{j}", "b.{i}", "{j}"),
    ],
)
def test_what_cannot_be_inverted_says_why(old: str, new: str, reason: str) -> None:
    with pytest.raises(InversionError, match=reason):
        Renaming.parse(old, new).inverse()
