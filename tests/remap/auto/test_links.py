"""From units that correspond to tensors that correspond."""

from __future__ import annotations

import numpy as np
import pytest

from zoo.remap.auto import match
from zoo.remap.auto.links import Link, link
from zoo.remap.auto.units import find_units, fuse
from zoo.remap.expression import evaluate
from zoo.remap.rules import check_inverse, parse_rules, run


@pytest.fixture
def linked(make):
    """`linked(source shapes, target shapes)`: the links of the units of both, in order."""

    def links(source, target):
        source, target = make(source), make(target)
        mine, its = find_units(source), find_units(target)
        return link(zip(fuse(mine, its), fuse(its, mine), strict=True), source, target)

    return links


def test_one_to_one_in_the_order_of_the_targets_roles(linked):
    found = linked({"a.weight": (4, 3), "a.bias": (4,)}, {"b.bias": (4,), "b.weight": (4, 3)})
    assert found == [
        Link("a.bias", "b.bias", ("a.bias",), ("b.bias",), (4,), (4,)),
        Link("a.weight", "b.weight", ("a.weight",), ("b.weight",), (4, 3), (4, 3)),
    ]


def test_a_role_that_one_side_lacks_has_no_link(linked):
    assert [found.target for found in linked({"a.weight": (4, 3)}, {"b.weight": (4, 3), "b.bias": (4,)})] == [
        "b.weight"
    ]


@pytest.mark.parametrize(
    ("old", "new", "turned"),
    [((8, 1, 1), (8,), False), ((10, 72), (10, 8, 3, 3), False), ((5, 4), (4, 5), True), ((4, 4), (4, 4), False)],
)
def test_shapes_on_both_sides_and_whether_axes_are_swapped(linked, old, new, turned):
    (found,) = linked({"a.weight": old}, {"b.weight": new})
    assert (found.old_shape, found.shape, found.turned) == (old, new, turned)


def test_parts_are_put_together(linked):
    (found,) = linked({f"a.{letter}.weight": (4, 4) for letter in "qkv"}, {"b.qkv.weight": (12, 4)})
    assert found.source == "a.qkv.weight"
    assert found.sources == ("a.q.weight", "a.k.weight", "a.v.weight")
    assert found.targets == ("b.qkv.weight",)


def test_a_piece_without_a_place_is_none(linked):
    """The key's part of the bias, where the target's keys have none."""
    found = linked(
        {"a.qkv.weight": (12, 4), "a.qkv.bias": (12,)},
        {"b.qkv.weight": (12, 4), "b.q_bias": (4,), "b.v_bias": (4,)},
    )
    assert found[1].targets == ("b.q_bias", None, "b.v_bias")
    assert found[1].target == "b.qkv.bias"


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
