"""Each kind of evidence: the pairs it is sure of, and its silence where two answers are possible."""

from __future__ import annotations

from zoo.remap.auto import evidence
from zoo.remap.auto.tree import Block, Group, Item, Node, Order
from zoo.remap.auto.units import Part, Unit

KEPT, LOST = Order(reliable=True), Order(reliable=False)


def items(*paths):
    """Items in the order of their paths, each with one weight."""
    return [
        Item(path, None, Unit(path, {"weight": Part((f"{path}.weight",), (4, 4))}, place))
        for place, path in enumerate(paths)
    ]


def group(sources, targets, anchors=(), source="", target=""):
    return Group(Block(Node(source), Node(target), pairs=list(anchors)), list(sources), list(targets))


def paths(pairs):
    return [(source.path, target.path) for source, target in pairs]


def test_the_same_path():
    asked = group(items("a.conv", "fc"), items("fc", "b.conv"))
    assert paths(evidence.same_name(asked)) == [("fc", "fc")]


def test_the_same_path_within_the_block():
    asked = group(items("s.0.conv", "s.0.1"), items("t.4.conv", "t.4.1"), source="s.0", target="t.4")
    assert paths(evidence.same_name(asked)) == [("s.0.conv", "t.4.conv")]  # that both are called 1 says nothing


def test_a_role_that_was_matched_in_another_block():
    asked = group(items("s.3.left", "s.3.right"), items("t.3.a", "t.3.b"), source="s.3", target="t.3")
    known = {"s.#.left": {"t.#.b"}, "s.#.right": {"t.#.a"}}
    assert paths(evidence.same_role(asked, known)) == [("s.3.left", "t.3.b"), ("s.3.right", "t.3.a")]
    assert evidence.same_role(asked, {"s.#.left": {"t.#.a", "t.#.b"}}) == []
    assert evidence.same_role(asked, {"s.#.left": {"t.#.a"}, "s.#.right": {"t.#.a"}}) == []


def test_the_place_between_matched_neighbours():
    first, middle, last = items("a", "m", "b")
    one, between, two = items("x", "n", "y")
    asked = group([first, last], [two, one], anchors=[(middle, between)])
    assert paths(evidence.between_anchors(asked, KEPT.before, KEPT.before)) == [("a", "x"), ("b", "y")]
    assert evidence.between_anchors(asked, LOST.before, LOST.before) == []
    assert evidence.between_anchors(group([first, last], [two, one]), KEPT.before, KEPT.before) == []


def test_two_on_the_same_side_of_all_neighbours_stay_open():
    middle, first, second = items("m", "a", "b")
    between, one, two = items("n", "x", "y")
    asked = group([first, second], [one, two], anchors=[(middle, between)])
    assert evidence.between_anchors(asked, KEPT.before, KEPT.before) == []


def test_neighbours_in_contradicting_orders_are_none():
    pairs = [*zip(items("a", "b"), items("x", "y")[::-1], strict=True)]
    assert evidence.concordant(pairs, KEPT.before, KEPT.before) == []
    straight = [*zip(items("a", "b"), items("x", "y"), strict=True)]
    assert evidence.concordant(straight[::-1], KEPT.before, KEPT.before) == straight


def test_numbering():
    asked = group(items("l.0", "l.1", "l.2"), items("b.4", "b.5", "b.6"))
    assert paths(evidence.in_sequence(asked, KEPT, KEPT)) == [("l.0", "b.4"), ("l.1", "b.5"), ("l.2", "b.6")]
    assert paths(evidence.in_sequence(asked, LOST, KEPT)) == [("l.0", "b.4"), ("l.1", "b.5"), ("l.2", "b.6")]


def test_numbering_that_the_order_or_a_gap_speaks_against():
    backwards = group(items("l.1", "l.0"), items("b.0", "b.1"))
    assert evidence.in_sequence(backwards, KEPT, KEPT) == []
    gap = group(items("l.0", "l.2"), items("b.0", "b.1"))
    assert evidence.in_sequence(gap, LOST, KEPT) == []
    assert paths(evidence.in_sequence(gap, KEPT, KEPT)) == [("l.0", "b.0"), ("l.2", "b.1")]
    named = group(items("l.0", "m.1"), items("b.0", "b.1"))
    assert evidence.in_sequence(named, KEPT, KEPT) == []


def test_a_word_that_two_alone_share():
    asked = group(items("grid_attention", "window_attention"), items("attn_block", "attn_grid"))
    pairs = evidence.same_word(asked, LOST, LOST)
    assert paths(pairs) == [("grid_attention", "attn_grid"), ("window_attention", "attn_block")]
    shared = group(items("grid_a", "grid_b"), items("grid_c", "grid_d"))
    assert evidence.same_word(shared, LOST, LOST) == []


def test_a_word_against_the_order_of_matched_neighbours_is_not_enough():
    first, middle, last = items("grid", "m", "window")
    one, between, two = items("block_window", "n", "block_grid")
    asked = group([first, last], [one, two], anchors=[(middle, between)])
    assert evidence.same_word(asked, KEPT, KEPT) == []
    assert paths(evidence.same_word(asked, LOST, LOST)) == [("grid", "block_grid"), ("window", "block_window")]
