"""torchvision's layouts against timm's, on names and shapes alone: the answer is the shipped remap's, which is tested
on numbers, or there is none."""

from __future__ import annotations

import pytest

from zoo.remap.auto import match
from zoo.remap.plan import Target, make_plan
from zoo.remap.rules import check_inverse, parse_rules

FAST = ("resnet50", "vgg16_bn", "mobilenet_v2", "regnet_y_400mf", "vit_b_32", "swin_v2_t", "inception_v3")
SLOW = (
    "resnext50_32x4d", "wide_resnet50_2", "densenet121", "vgg16", "mobilenet_v3_large", "efficientnet_b0",
    "efficientnet_v2_s", "mnasnet1_0", "convnext_tiny", "vit_b_16", "swin_t",
)  # fmt: skip
ALL = [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]


@pytest.fixture
def pair(request, key_set, benchmark):
    other, remap = benchmark.PAIRS[request.param]
    return key_set(f"torchvision/{request.param}"), key_set(f"timm/{other}"), remap


@pytest.mark.parametrize("pair", ALL, indirect=True)
def test_evidence_alone_finds_the_shipped_remap(pair, benchmark):
    source, target, remap = pair
    result = match(source, target)
    assert result.status == "unique"
    assert not result.missing
    assert benchmark.same(result, remap, source) == "yes"


@pytest.mark.parametrize("pair", ALL, indirect=True)
def test_the_rules_are_few_and_do_what_they_say(pair, benchmark):
    source, target, _ = pair
    result = match(source, target)
    rules = parse_rules(result.rules)
    plan = make_plan(source, rules, Target(target))
    assert (plan.coverage, plan.use) == (1, 1)
    assert {move.target: move.sources for move in plan.moves} == result.mapping
    assert not plan.unused
    assert benchmark.lines(result) <= 30


@pytest.mark.parametrize("pair", ["swin_t", "vit_b_32", "regnet_y_400mf", "vgg16_bn"], indirect=True)
def test_the_rules_run_backwards(pair):
    source, target, _ = pair
    rules = parse_rules(match(source, target).rules)
    check_inverse(rules, target)


def test_every_pair_of_the_table_is_tested(benchmark):
    assert {*FAST, *SLOW, "maxvit_t"} == set(benchmark.PAIRS)


def test_tables_in_another_order_are_not_guessed(key_set):
    """maxvit_t: timm's position tables are torchvision's transposed and reversed, which shapes cannot show."""
    result = match(key_set("torchvision/maxvit_t"), key_set("timm/maxvit_tiny_tf_224"))
    assert result.status == "ambiguous"
    assert result.rules == []
    (group,) = result.groups
    assert all(name.endswith("relative_position_bias_table") for name in (*group.sources, *group.targets))
    assert set(result.missing) == {"stem.conv1.bias", "head.fc.bias"}
