"""The tree of dotted names: contents, blocks that may correspond, and what an order shows."""

from __future__ import annotations

import pytest

from zoo.remap.auto.tree import (
    Block,
    Execution,
    Group,
    Item,
    Node,
    Order,
    blank,
    common_items,
    grow,
    innermost,
    is_registration,
    numbers,
)
from zoo.remap.auto.units import classes, find_units


@pytest.fixture
def trees(make):
    """`trees(source shapes, target shapes)`: both trees and the classes of their units."""

    def build(source, target):
        mine, its = find_units(make(source)), find_units(make(target))
        joined = classes(mine, its)
        both = frozenset({joined[u.signature] for u in mine} & {joined[u.signature] for u in its})
        return grow(mine, joined, both), grow(its, joined, both), joined

    return build


BLOCK = {"conv.weight": (4, 4, 3, 3), "norm.weight": (4,)}


def blocks(prefix, count):
    return {f"{prefix}.{i}.{name}": shape for i in range(count) for name, shape in BLOCK.items()}


def test_a_prefix_holds_the_units_below_it(trees):
    tree, _, _ = trees({"stem.weight": (4, 3), **blocks("layers", 2)}, {"x.weight": (4, 3), **blocks("b", 2)})
    assert [node.path for node in tree.below()][:4] == ["stem", "layers", "layers.0", "layers.0.conv"]
    layer = tree.children["layers"].children["1"]
    assert [unit.path for unit in layer.units] == ["layers.1.conv", "layers.1.norm"]
    assert layer.content == tree.children["layers"].children["0"].content
    assert sorted(count for _, count in tree.children["layers"].content) == [2, 2]


def test_what_only_one_side_has_does_not_count(trees):
    tree, _, _ = trees({**blocks("a", 1), "a.0.extra.weight": (9, 9)}, blocks("b", 1))
    assert sum(count for _, count in tree.content) == 2


def test_prefixes_that_hold_the_same_are_passed(trees):
    tree, _, _ = trees({f"model.net.{name}": shape for name, shape in blocks("a", 2).items()}, blocks("b", 2))
    assert innermost(tree).path == "model.net.a"


def test_the_largest_blocks_that_both_hold_equally_often_come_first(trees):
    source, target, joined = trees(
        {"stem.weight": (4, 3), **blocks("layers", 2)}, {"conv1.weight": (4, 3), **blocks("stage", 2)}
    )
    groups = common_items(source, target, joined)
    assert [([i.path for i in mine], [i.path for i in its]) for mine, its in groups] == [
        (["layers"], ["stage"]),
        (["stem"], ["conv1"]),
    ]


def test_what_no_common_block_holds_comes_unit_by_unit(trees):
    source, target, joined = trees({"a.weight": (4, 3), "b.weight": (4, 3)}, {"x.weight": (4, 3), "y.weight": (4, 3)})
    groups = common_items(source, target, joined)
    assert [([i.path for i in mine], [i.path for i in its]) for mine, its in groups] == [(["a", "b"], ["x", "y"])]


def test_what_an_order_shows(key_set):
    entries = key_set("torchvision/resnet50")
    assert is_registration(entries)
    assert not is_registration(dict(sorted(entries.items())))
    assert not is_registration(dict(sorted(entries.items(), key=lambda item: item[0][::-1])))
    assert not is_registration({f"p{place}": entry for place, entry in enumerate(entries.values())})


def test_numbers_in_a_path():
    assert blank("layer1.0.bn2") == "layer#.#.bn#"
    assert numbers("layer1.0.bn12") == (1, 0, 12)


def items(make, *names):
    return [Item(unit.path, None, unit) for unit in find_units(make({f"{name}.weight": (2, 2) for name in names}))]


def test_before_in_the_order_of_registration_or_by_number(make):
    first, second, other = items(make, "a.2.x", "a.10.x", "b")
    assert Order(reliable=True).before(first, other) is True
    assert Order(reliable=True).before(other, first) is False
    assert Order(reliable=False).before(first, second) is True
    assert Order(reliable=False).before(first, other) is None


def test_before_in_the_order_of_execution(make):
    first, second, unused = items(make, "a", "b", "c")
    order = Execution({"a.weight": 7, "b.weight": 3})
    assert order.before(second, first) is True
    assert order.before(first, unused) is None
    assert order.position(first) == 7


def test_a_question_is_the_same_in_every_block(make):
    questions = set()
    for number in (0, 1):
        block = Block(Node(f"a.{number}"), Node(f"b.{number + 4}"))
        sources = items(make, f"a.{number}.left", f"a.{number}.right")
        targets = items(make, f"b.{number + 4}.port", f"b.{number + 4}.star")
        group = Group(block, sources, targets)
        assert group.even
        assert group.within(sources[0], block.source) == "left"
        questions.add(group.question)
    assert questions == {(("a.#.left", "a.#.right"), ("b.#.port", "b.#.star"))}
