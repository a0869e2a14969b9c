"""Patch merging: the same shapes, with values in two orders."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.remap.auto import match
from zoo.remap.expression import evaluate
from zoo.remap.rules import check_inverse, parse_rules, run

STAGE = {
    "attn{m}.relative_position_bias_table": (9, 1), "attn{m}.qkv.weight": (24, 8), "{fc}.weight": (32, 8),
}  # fmt: skip
MERGING = {"downsample.norm.weight": (32,), "downsample.norm.bias": (32,), "downsample.reduction.weight": (16, 32)}


def swin(layers, m="", fc="mlp.fc1"):
    blocks = {f"{layers}.0.blocks.0.{n.format(m=m, fc=fc)}": shape for n, shape in STAGE.items()}
    return {**blocks, **{f"{layers}.0.{name}": shape for name, shape in MERGING.items()}}


SLICES = swin("layers")
UNFOLD = swin("stages", ".w_msa", "ffn.layers.0.0")


def moved(rules, source, entries):
    values = run(parse_rules(rules), entries).values
    return {name: evaluate(value, lambda key: source[key]) for name, value in values.items()}


@pytest.mark.parametrize("backwards", [False, True])
def test_values_are_put_in_the_target_s_order(make, backwards):
    old, new = (SLICES, UNFOLD) if backwards else (UNFOLD, SLICES)
    entries = make(old)
    result = match(entries, make(new))
    assert result.status == "unique"
    assert "patch merging" in result.render()
    rng = np.random.default_rng(0)
    source = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in old.items()}
    made = moved(result.rules, source, entries)
    patch = rng.standard_normal((8, 2, 2), dtype=np.float32)  # channels, rows, columns
    unfold = patch.reshape(-1)
    slices = np.concatenate([patch[:, row, column] for column in (0, 1) for row in (0, 1)])
    first, second = (slices, unfold) if backwards else (unfold, slices)
    start, end = (next(n for n in names if n.endswith("reduction.weight")) for names in (source, made))
    np.testing.assert_allclose(source[start] @ first, made[end] @ second, rtol=1e-5)
    start, end = (next(n for n in names if n.endswith("norm.weight")) for names in (source, made))
    assert sorted(zip(first, source[start], strict=True)) == sorted(zip(second, made[end], strict=True))
    check_inverse(parse_rules(result.rules), make(new))


def test_of_two_alike_nothing_is_reordered(make):
    result = match(make(SLICES), make({name.replace("layers", "features"): shape for name, shape in SLICES.items()}))
    assert result.status == "unique"
    assert not any("permute" in rule for rule in result.rules)


def test_where_the_order_is_not_known_there_is_no_answer(make):
    source = {
        name.replace("relative_position_bias_table", "x").replace("downsample", "d"): s for name, s in SLICES.items()
    }
    result = match(make(source), make(SLICES))
    assert result.status == "ambiguous"
    assert "nn.Unfold" in result.render()
