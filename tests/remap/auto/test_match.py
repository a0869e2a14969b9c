"""Small state dicts made for one difficulty each."""

from __future__ import annotations

import pytest

from zoo.errors import WorkError
from zoo.remap.auto import match


def linear(path, rows, columns):
    return {f"{path}.weight": (rows, columns), f"{path}.bias": (rows,)}


def norm(path, width):
    shape = (width,)
    statistics = {f"{path}.running_mean": shape, f"{path}.running_var": shape, f"{path}.num_batches_tracked": ()}
    return {f"{path}.weight": shape, f"{path}.bias": shape, **statistics}


def test_query_key_and_value_are_fused(make):
    source = {
        **linear("layers.0.attention.query", 8, 8), **linear("layers.0.attention.key", 8, 8),
        **linear("layers.0.attention.value", 8, 8), **linear("layers.0.attention.out", 8, 8),
    }  # fmt: skip
    target = {**linear("blocks.0.attn.qkv", 24, 8), **linear("blocks.0.attn.proj", 8, 8)}
    result = match(make(source), make(target))
    assert result.status == "unique"
    parts = tuple(f"layers.0.attention.{part}.weight" for part in ("query", "key", "value"))
    assert result.mapping["blocks.0.attn.qkv.weight"] == parts
    assert "query, key and value" in result.assumptions[0]


def test_a_fused_projection_is_split(make):
    source = {**linear("blocks.0.attn.qkv", 24, 8), **linear("blocks.0.attn.proj", 8, 8)}
    target = {
        **linear("layers.0.self_attn.q_proj", 8, 8), **linear("layers.0.self_attn.k_proj", 8, 8),
        **linear("layers.0.self_attn.v_proj", 8, 8), **linear("layers.0.self_attn.o_proj", 8, 8),
    }  # fmt: skip
    result = match(make(source), make(target))
    assert result.status == "unique"
    assert result.mapping["layers.0.self_attn.v_proj.bias"] == ("blocks.0.attn.qkv.bias",)
    assert any("split" in rule for rule in result.rules)


def test_a_layer_scale_loses_its_axes_and_a_linear_layer_becomes_a_convolution(make):
    source = {"a.scale": (8, 1, 1), **linear("a.head", 10, 72), **linear("a.last", 5, 10)}
    target = {"b.gamma": (8,), "b.conv.weight": (10, 8, 3, 3), "b.conv.bias": (10,), **linear("b.fc", 5, 10)}
    result = match(make(source), make(target))
    assert result.status == "unique"
    reshaped = {rule["reshape"]["match"]: rule["reshape"] for rule in result.rules if "reshape" in rule}
    assert reshaped[r"^b\.gamma$"]["to"] == [0]
    assert reshaped[r"^b\.conv\.weight$"]["to"] == [0, 8, 3, 3]


def test_a_role_seen_elsewhere_outranks_the_order(make):
    """The shortcut stands first on one side and last on the other, with the main branch's shape (RegNet)."""
    source, target = {}, {}
    for place, width in enumerate((4, 8)):
        wide = 2 * width
        source |= {f"s{place}.0.shortcut.weight": (wide, width), f"s{place}.0.f.a.weight": (wide, width)}
        source |= {f"s{place}.0.f.c.weight": (wide, wide)}
        source |= {f"s{place}.1.f.a.weight": (wide, wide), f"s{place}.1.f.c.weight": (wide, wide)}
        source |= {f"s{place}.{block}.f.se.weight": (3, wide) for block in (0, 1)}
        target |= {f"t{place}.0.one.weight": (wide, width), f"t{place}.0.two.weight": (wide, wide)}
        target |= {f"t{place}.0.down.weight": (wide, width)}
        target |= {f"t{place}.1.one.weight": (wide, wide), f"t{place}.1.two.weight": (wide, wide)}
        target |= {f"t{place}.{block}.se.weight": (3, wide) for block in (0, 1)}
    result = match(make(source), make(target))
    assert result.status == "unique"
    assert result.mapping["t1.0.down.weight"] == ("s1.0.shortcut.weight",)
    assert result.mapping["t0.1.two.weight"] == ("s0.1.f.c.weight",)


def test_twins_without_evidence_are_named(make):
    source = {**linear("body.left", 4, 4), **linear("body.right", 4, 4), **linear("head", 2, 4)}
    target = {**linear("net.port", 4, 4), **linear("net.starboard", 4, 4), **linear("fc", 2, 4)}
    result = match(make(source), make(target))
    assert result.status == "ambiguous"
    (group,) = result.groups
    assert group.sources == ("body.left", "body.right")
    assert group.targets == ("net.port", "net.starboard")
    with pytest.raises(WorkError, match="more than one answer") as caught:
        result.answer()
    assert "body.left" in str(caught.value)
    assert r"--remap '\bleft\b=port' if it is port, --remap '\bleft\b=starboard' if it is starboard" in str(
        caught.value
    )


def twins(make):
    source = {**linear("body.left", 4, 4), **linear("body.right", 4, 4), **linear("head", 2, 4)}
    target = {**linear("net.port", 4, 4), **linear("net.starboard", 4, 4), **linear("fc", 2, 4)}
    return make(source), make(target)


def test_a_transposed_table_is_not_settled_by_shapes(make):
    source = make({"a.table": (49, 3), **linear("a.fc", 4, 3)})
    target = make({"b.bias_table": (3, 7, 7), **linear("b.head", 4, 3)})
    assert match(source, target).status == "ambiguous"


def test_a_branch_apart_is_dropped_and_a_stray_parameter_is_not(make):
    target = make({**linear("fc1", 4, 3), **linear("fc2", 2, 4)})
    source = make({**linear("net.a", 4, 3), **linear("net.b", 2, 4), **linear("aux.head", 7, 5), "net.extra": (9,)})
    result = match(source, target)
    assert result.rules[0] == {"drop": "aux.{rest*}"}
    assert set(result.surplus) == {"aux.head.weight", "aux.head.bias", "net.extra"}
    assert not any("extra" in str(rule.get("drop")) for rule in result.rules)


def test_statistics_stay_with_their_weights(make):
    source = make({**norm("m.0", 4), "m.1.weight": (4, 4), **norm("m.2", 4)})
    target = make({**norm("first", 4), "conv.weight": (4, 4), **norm("second", 4)})
    result = match(source, target)
    for name, sources in result.mapping.items():
        assert name.rpartition(".")[2] == sources[0].rpartition(".")[2]


def test_a_head_of_another_size_is_missing_not_guessed(make):
    source = make({**linear("net.a", 4, 3), **linear("net.fc", 1000, 4)})
    target = make({**linear("body.a", 4, 3), **linear("body.fc", 10, 4)})
    result = match(source, target)
    assert set(result.missing) == {"body.fc.weight", "body.fc.bias"}
    assert result.mapping["body.a.weight"] == ("net.a.weight",)


def test_certificate_is_plain_data_and_text(make):
    result = match(*twins(make))
    told = result.as_dict()
    assert told["status"] == "ambiguous"
    assert told["rules"] is None
    assert told["ambiguous"][0]["sources"] == ("body.left", "body.right")
    assert "the correspondence is open" in result.render()


def test_the_same_question_in_many_blocks_is_asked_once(make):
    source, target = {}, {}
    for block in range(4):
        source |= {
            **linear(f"a.{block}.left", 4, 4),
            **linear(f"a.{block}.right", 4, 4),
            f"a.{block}.up.weight": (8, 4),
        }
        target |= {**linear(f"b.{block}.port", 4, 4), **linear(f"b.{block}.star", 4, 4), f"b.{block}.up.weight": (8, 4)}
    result = match(make(source), make(target))
    assert len(result.groups) == 4
    assert result.render().count("the correspondence is open") == 1
    assert "(and 3 like it)" in result.render()


def test_an_abstention_suggests_the_remaps_that_fit(make):
    with pytest.raises(WorkError, match="an installed remap fits: --remap a/one or b/two"):
        match(*twins(make)).answer(["a/one", "b/two"])


def test_one_table_of_relative_positions_for_all_blocks(make):
    """BEiT's pretraining shares it: each block gets a copy (microsoft/unilm, run_class_finetuning.py)."""
    table = "relative_position_bias_table"
    fc = {f"blocks.{i}.fc.weight": (4, 9 + i) for i in range(3)}
    result = match(
        make({**fc, f"rel_pos_bias.{table}": (7, 3)}),
        make({**fc, **{f"blocks.{i}.attn.{table}": (7, 3) for i in range(3)}}),
    )
    assert result.status == "unique"
    assert {result.mapping[f"blocks.{i}.attn.{table}"] for i in range(3)} == {(f"rel_pos_bias.{table}",)}
    assert any("untie" in rule for rule in result.rules)
    assert "one table of all 3 blocks" in result.render()
