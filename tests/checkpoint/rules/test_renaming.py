"""One line of a rename, forwards and backwards."""

from __future__ import annotations

import pytest

from zoo.checkpoint.rules.patterns import InversionError, PatternError
from zoo.checkpoint.rules.renaming import Renaming


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
