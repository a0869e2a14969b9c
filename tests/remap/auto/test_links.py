"""From units that correspond to tensors that correspond."""

from __future__ import annotations

import pytest

from zoo.remap.auto.links import Link, link
from zoo.remap.auto.units import find_units, fuse


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
