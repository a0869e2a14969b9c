"""Names into units, and whether an order is one of registration."""

from __future__ import annotations

import pytest

from zoo.remap.auto.tree import is_registration
from zoo.remap.auto.units import find_units, fuse, split_name


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


def test_what_an_order_shows(key_set):
    entries = key_set("torchvision/resnet50")
    assert is_registration(entries)
    assert not is_registration(dict(sorted(entries.items())))
    assert not is_registration(dict(sorted(entries.items(), key=lambda item: item[0][::-1])))
    assert not is_registration({f"p{place}": entry for place, entry in enumerate(entries.values())})
