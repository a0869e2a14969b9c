"""Plans as people read them: a few patterns for hundreds of names."""

from __future__ import annotations

from collections.abc import Callable

from zoo.formats.names import grouped, pattern, shared
from zoo.remap.explain import render
from zoo.remap.plan import Target, make_plan
from zoo.remap.rules import parse_rules


def test_indices_are_taken_out_of_names() -> None:
    assert pattern("features.10.block.3.conv1.weight") == "features.*.block.*.conv1.weight"
    assert pattern("encoder_layer_11.mlp") == "encoder_layer_*.mlp"
    assert pattern("block1.block1-2.f") == "block1.block1-*.f"


def test_indices_that_are_the_same_stay() -> None:
    assert shared(["b.0.mlp.3", "b.1.mlp.3"]) == "b.*.mlp.3"
    assert shared(["b.0.mlp.3"]) == "b.0.mlp.3"


def test_leaves_are_joined() -> None:
    names = [f"layer.{i}.bn.{leaf}" for i in range(3) for leaf in ("weight", "bias", "running_mean")]
    assert {text: len(found) for text, found in grouped([*names, "fc.weight", "fc.bias", "token"]).items()} == {
        "layer.*.bn.*": 9,
        "fc.{weight,bias}": 2,
        "token": 1,
    }


def test_a_plan_in_patterns(entries: Callable) -> None:
    shapes = {f"m.l.{i}.{p}.{leaf}": (4,) for i in range(12) for p in "qkv" for leaf in ("weight", "bias")}
    shapes |= {"m.fc.weight": (1000, 4), "m.extra": (3,), "m.gone.0.x": (1,)}
    rules = parse_rules(
        [
            {"strip_prefix": "m."},
            {"drop": "^gone"},
            {"concat": {"into": "b.{i}.qkv.{leaf=weight|bias}", "from": [f"l.{{i}}.{p}.{{leaf}}" for p in "qkv"]}},
        ]
    )
    wanted = {f"b.{i}.qkv.{leaf}": (12,) for i in range(12) for leaf in ("weight", "bias")}
    target = Target(entries(wanted | {"fc.weight": (10, 4), "norm.weight": (4,), "norm.running_mean": (4,)}))
    text = render(make_plan(entries(shapes), rules, target))
    assert text.splitlines() == [
        "moves       24 tensors, 0.0 MB: 24 copied, 0 made anew",
        "coverage    86.75% of the parameters (288 of 332 elements)",
        "buffers     0%",
        "use         98.97% of the file",
        "  m.l.*.q.{weight,bias} + m.l.*.k.{weight,bias} + m.l.*.v.{weight,bias} → b.*.qkv.{weight,bias}  concat 24×",
        "missing     2 parameters",
        "  fc.weight",
        "  norm.weight",
        "missing     1 buffers",
        "  norm.running_mean",
        "unexpected  1 tensors of the file",
        "  extra",
        "mismatched  1 tensors",
        "  fc.weight  [1000, 4] in the file, [10, 4] in the target",
        "dropped     1 tensors of the file",
        "  gone.0.x",
    ]


def test_long_lists_are_cut_and_verbose_shows_all(entries: Callable) -> None:
    shapes = {f"{chr(97 + a)}{chr(97 + b)}.weight": (1,) for a in range(10) for b in range(10)}
    rules = parse_rules([{"add_prefix": "x."}])
    short = render(make_plan(entries(shapes), rules))
    assert len(short.splitlines()) == 32
    assert "and 70 more patterns (--verbose shows all)" in short
    assert len(render(make_plan(entries(shapes), rules), verbose=True).splitlines()) == 101


def test_names_that_stay_are_counted(entries: Callable) -> None:
    text = render(make_plan(entries({"a.weight": (2,), "b": (2,)}), parse_rules([{"cast": "float16"}])))
    assert "  2 names stay as they are, 2 of the tensors are cast" in text


def test_ties_and_new_rows_are_told(entries: Callable) -> None:
    rules = parse_rules(
        [{"tie": {"head": "embed"}}, {"adapt_classes": {"match": "^fc", "from": ["a", "b"], "to": ["b", "c"]}}]
    )
    text = render(make_plan(entries({"embed": (2,), "fc.weight": (2, 3)}), rules))
    assert "  head = embed (tied)" in text
    assert "initialised fc.weight: 1 of 2 rows, to mean: c" in text
