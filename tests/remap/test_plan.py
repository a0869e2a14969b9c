"""Plans: what goes where, coverage both ways, tied names."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from zoo.remap.plan import Target, make_plan, percent
from zoo.remap.rules import parse_rules

SHAPES = {"conv.weight": (8, 3, 3, 3), "bn.weight": (8,), "bn.running_mean": (8,), "fc.weight": (10, 8)}


def target(entries: Callable, shapes: dict = SHAPES, **more: object) -> Target:
    counters = entries({"bn.num_batches_tracked": ()}, "I64")
    return Target(entries(shapes) | counters, **more)


def test_without_a_target_the_rules_alone_decide(entries: Callable) -> None:
    plan = make_plan(entries(SHAPES), parse_rules([{"drop": "^fc"}]))
    assert [move.target for move in plan.moves] == ["conv.weight", "bn.weight", "bn.running_mean"]
    assert plan.coverage is None
    assert list(plan.dropped) == ["fc.weight"]
    assert plan.problems(1.0) == []


def test_coverage_counts_elements_of_parameters_and_float_buffers_apart(entries: Callable) -> None:
    source = entries({name: SHAPES[name] for name in ("conv.weight", "bn.weight")})
    plan = make_plan(source, (), target(entries))
    assert plan.coverage == (216 + 8) / (216 + 8 + 80)
    assert plan.buffer_coverage == 0
    assert plan.missing_parameters == ["fc.weight"]
    assert plan.missing_buffers == ["bn.running_mean", "bn.num_batches_tracked"]


def test_a_missing_counter_is_reported_and_tolerated(entries: Callable) -> None:
    plan = make_plan(entries(SHAPES), (), target(entries))
    assert plan.missing == ("bn.num_batches_tracked",)
    assert plan.problems(1.0) == []


def test_missing_statistics_are_a_problem(entries: Callable) -> None:
    source = entries({name: shape for name, shape in SHAPES.items() if "running" not in name})
    (problem,) = make_plan(source, (), target(entries)).problems(1.0)
    assert "0% of the target's buffers" in problem.message


def test_what_the_model_says_is_a_parameter_is_one(entries: Callable) -> None:
    plan = make_plan({}, (), target(entries, parameters=frozenset({"fc.weight"})))
    assert plan.missing_parameters == ["fc.weight"]


def test_a_file_of_which_half_is_left_over_is_no_success(entries: Callable) -> None:
    source = entries(SHAPES | {"layer2.weight": (300,)})
    plan = make_plan(source, (), target(entries))
    assert plan.coverage == 1
    (problem,) = plan.problems(1.0)
    assert "of the file would be used" in problem.message
    assert make_plan(source, parse_rules([{"drop": "^layer2"}]), target(entries)).problems(1.0) == []


def test_ignored_paths_count_on_neither_side(entries: Callable) -> None:
    source = entries({name: shape for name, shape in SHAPES.items() if name != "fc.weight"})
    known = target(entries, ignored=("fc",))
    assert make_plan(source, (), known).coverage == 1
    mismatched = make_plan(entries(SHAPES | {"fc.weight": (1000, 8)}), (), known)
    assert mismatched.problems(1.0) == []
    assert mismatched.mismatched[0].as_dict() == {
        "name": "fc.weight",
        "sources": ["fc.weight"],
        "source_shape": [1000, 8],
        "target_shape": [10, 8],
    }
    assert not known.ignores("fc2.weight")


def test_names_and_shapes_are_those_after_the_rules(entries: Callable) -> None:
    rules = parse_rules([{"strip_prefix": "m."}, {"transpose": "fc"}])
    plan = make_plan(entries({"m.fc.weight": (8, 10)}), rules, Target(entries({"fc.weight": (10, 8)})))
    (move,) = plan.moves
    assert (move.target, move.sources, move.shape) == ("fc.weight", ("m.fc.weight",), (10, 8))
    assert [str(operation) for operation in move.operations] == ["permute([1, 0])"]


def test_rules_that_all_do_nothing_are_a_problem(entries: Callable) -> None:
    (problem,) = make_plan(entries(SHAPES), parse_rules([{"drop": "^zzz"}])).problems()
    assert "none of the rules" in problem.message


def test_an_empty_source_is_a_problem(entries: Callable) -> None:
    assert "not one tensor" in make_plan({}).problems()[0].message


def test_a_rule_cannot_drop_everything_unseen(entries: Callable) -> None:
    assert make_plan(entries(SHAPES), parse_rules([{"keep": "^zzz"}])).problems()


class TestTied:
    """M8 and its relatives: nothing may stay random, whichever side is tied."""

    both = {"embed": (5, 2), "head": (5, 2)}

    def test_tied_source_into_untied_target_fills_both(self, entries: Callable) -> None:
        plan = make_plan(entries({"embed": (5, 2)}), (), Target(entries(self.both)), aliases={"head": "embed"})
        assert {move.target: move.sources for move in plan.moves} == {"embed": ("embed",), "head": ("embed",)}
        assert plan.coverage == 1

    def test_untied_source_into_tied_target_has_to_prove_equal(self, entries: Callable) -> None:
        plan = make_plan(entries(self.both), (), Target(entries(self.both), tied={"head": "embed"}))
        assert [move.target for move in plan.moves] == ["embed"]
        assert plan.ties == {"head": "embed"}
        (pair,) = plan.must_be_equal
        assert {pair.first.sources, pair.second.sources} == {("head",), ("embed",)}

    @pytest.mark.parametrize("given", ["embed", "head"])
    def test_half_of_a_tied_target_fills_all_of_it(self, entries: Callable, given: str) -> None:
        plan = make_plan(entries({given: (5, 2)}), (), Target(entries(self.both), tied={"head": "embed"}))
        assert [(move.target, move.sources) for move in plan.moves] == [("embed", (given,))]
        assert plan.missing == ()
        assert plan.coverage == 1
        assert not plan.must_be_equal

    def test_tied_both_sides_needs_no_proof(self, entries: Callable) -> None:
        known = Target(entries(self.both), tied={"head": "embed"})
        plan = make_plan(entries(self.both), (), known, aliases={"head": "embed"})
        assert not plan.must_be_equal
        assert plan.ties == {"head": "embed"}

    def test_a_tied_name_that_the_target_lacks_is_no_loss(self, entries: Callable) -> None:
        plan = make_plan(entries(self.both), (), Target(entries({"embed": (5, 2)})), aliases={"head": "embed"})
        assert list(plan.unexpected) == ["head"]
        assert plan.use == 1
        assert plan.problems(1.0) == []

    def test_half_of_an_untied_target_leaves_the_rest_missing(self, entries: Callable) -> None:
        plan = make_plan(entries({"embed": (5, 2)}), (), Target(entries(self.both)))
        assert plan.missing == ("head",)
        assert plan.coverage == 0.5


def test_the_plan_is_plain_data(entries: Callable) -> None:
    rules = parse_rules([{"rename": {"^zzz": "y"}}, {"cast": "bfloat16"}])
    plan = make_plan(entries(SHAPES), rules, target(entries))
    table = json.loads(json.dumps(plan.as_dict()))
    assert {"coverage", "moves", "missing", "unexpected", "mismatched", "dropped", "unused_rules"} <= table.keys()
    assert table["moves"][0] == {
        "target": "conv.weight",
        "sources": ["conv.weight"],
        "operations": ["cast(BF16)"],
        "dtype": "BF16",
        "shape": [8, 3, 3, 3],
    }
    assert table["unused_rules"][0]["part"] == "^zzz"


def test_shares_are_never_rounded_up_to_all() -> None:
    assert [percent(share) for share in (1.0, 0.99999, 0.5, 0.0)] == ["100%", "99.99%", "50%", "0%"]


def test_planning_imports_neither_numpy_nor_torch() -> None:
    code = (
        "import sys, zoo.remap.plan, zoo.remap.rules, zoo.conversion.convert;"
        "sys.exit(bool({'numpy', 'torch', 'pydantic'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
