"""Names into units, and which units can stand for each other."""

from __future__ import annotations

import pytest

from zoo.remap.auto.units import classes, find_units, flattened, fuse, split_name, squeezed, transposed


@pytest.mark.parametrize(
    ("name", "unit", "role"),
    [
        ("layer1.0.bn1.running_mean", "layer1.0.bn1", "running_mean"),
        ("attn.in_proj_weight", "attn.in_proj", "weight"),
        ("class_token", "class_token", "value"),
        ("blocks.0.gamma", "blocks.0.gamma", "value"),
        ("weight", "weight", "value"),
    ],
)
def test_a_name_has_a_unit_and_a_role(name, unit, role):
    assert split_name(name) == (unit, role)


def test_a_counter_does_not_tell_units_apart(make):
    with_counter = find_units(make({"n.weight": (4,), "n.bias": (4,), "n.num_batches_tracked": ()}))
    without = find_units(make({"n.weight": (4,), "n.bias": (4,)}))
    assert with_counter[0].signature == without[0].signature


def test_bare_biases_join_their_projection(make):
    units = find_units(make({"a.q_bias": (4,), "a.v_bias": (4,), "a.qkv.weight": (12, 4)}))
    (unit,) = units
    assert unit.parts["bias"].names == ("a.q_bias", None, "a.v_bias")
    assert unit.parts["bias"].shape == (12,)


def test_projections_are_fused_only_towards_a_fused_one(make):
    parts = {f"a.{letter}_proj.weight": (4, 4) for letter in "qkv"}
    separate, whole = find_units(make(parts)), find_units(make({"b.qkv.weight": (12, 4)}))
    assert [unit.path for unit in fuse(separate, whole)] == ["a.qkv"]
    assert len(fuse(separate, separate)) == 3


def test_signatures_that_can_stand_for_each_other_are_one_class(make):
    source = find_units(make({"a.scale": (8, 1, 1), "b.weight": (10, 72), "c.weight": (4, 4), "c.bias": (4,)}))
    target = find_units(make({"x.gamma": (8,), "y.weight": (10, 8, 3, 3), "z.weight": (4, 4)}))
    joined = classes(source, target)
    assert [joined[unit.signature] for unit in source] == [joined[unit.signature] for unit in target]


def test_signatures_with_two_partners_stay_apart(make):
    source = find_units(make({"a.weight": (8, 1, 1)}))
    target = find_units(make({"x.weight": (8,), "y.weight": (8, 1)}))
    joined = classes(source, target)
    assert len({joined[unit.signature] for unit in [*source, *target]}) == 3


@pytest.mark.parametrize(
    ("change", "shape", "result"),
    [
        (squeezed, (8, 1, 1), (8,)),
        (flattened, (10, 8, 3, 3), (10, 72)),
        (flattened, (), ()),
        (transposed, (1, 5, 4), (4, 5)),
    ],
)
def test_shapes_as_they_are_compared(change, shape, result):
    assert change(shape) == result
