"""resample_pos_embed, resample_rel_bias, adapt_input: what they work out, and the values."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import yaml
from timm.layers import resample_abs_pos_embed, resample_abs_pos_embed_nhwc
from timm.layers.pos_embed_rel import resize_rel_pos_bias_table_simple

from zoo.errors import InputError
from zoo.remap.expression import evaluate
from zoo.remap.rules import parse_rules


def computed(program: Callable, rule: str, tensor: torch.Tensor, target: tuple[int, ...] | None = None) -> torch.Tensor:
    known = {} if target is None else {"target": {"x": target}}
    outcome = program(f"[{{{rule}}}]", {"x": tuple(tensor.shape)}, **known)
    return torch.from_numpy(evaluate(outcome.values["x"], {"x": tensor.numpy()}.__getitem__))


@pytest.mark.parametrize("prefix", [0, 1])
@pytest.mark.parametrize("side", [7, 20])
def test_square_grids_as_timm_does_from_the_target_alone(program: Callable, prefix: int, side: int) -> None:
    tensor = torch.randn(1, 14 * 14 + prefix, 8)
    made = computed(program, "resample_pos_embed: x", tensor, (1, side * side + prefix, 8))
    want = resample_abs_pos_embed(tensor, [side, side], num_prefix_tokens=prefix)
    assert torch.allclose(made, want, atol=1e-6)


def test_registers_need_to_be_told(program: Callable) -> None:
    tensor = torch.randn(1, 16 + 5, 4)
    with pytest.raises(InputError, match="say `prefix_tokens`"):
        computed(program, "resample_pos_embed: x", tensor, (1, 64 + 5, 4))
    made = computed(program, "resample_pos_embed: {match: x, prefix_tokens: 5}", tensor, (1, 64 + 5, 4))
    assert torch.equal(made[:, :5], tensor[:, :5])
    assert torch.allclose(made, resample_abs_pos_embed(tensor, [8, 8], [4, 4], num_prefix_tokens=5), atol=1e-6)


def test_other_grid_with_as_many_positions_is_resampled(program: Callable) -> None:
    """timm's resample_abs_pos_embed gives 8x32 back unchanged for 16x16, as the counts agree."""
    tensor = torch.randn(1, 8 * 32, 4)
    assert torch.equal(resample_abs_pos_embed(tensor, [16, 16], num_prefix_tokens=0), tensor)
    rule = "resample_pos_embed: {match: x, from_grid: [8, 32], to_grid: [16, 16]}"
    made = computed(program, rule, tensor)
    image = tensor.reshape(1, 8, 32, 4).permute(0, 3, 1, 2)
    want = torch.nn.functional.interpolate(image, (16, 16), mode="bicubic", antialias=True)
    assert torch.allclose(made, want.permute(0, 2, 3, 1).reshape(1, 256, 4), atol=1e-6)
    with pytest.raises(InputError, match="may be another grid; say `to_grid`"):
        computed(program, "resample_pos_embed: {match: x, from_grid: [8, 32]}", tensor, (1, 256, 4))


def test_non_square_source_without_a_grid_is_an_input_error(program: Callable) -> None:
    with pytest.raises(InputError, match="from_grid"):
        computed(program, "resample_pos_embed: x", torch.randn(1, 14 * 7, 4), (1, 49, 4))
    made = computed(program, "resample_pos_embed: {match: x, from_grid: [14, 7]}", torch.randn(1, 99, 4), (1, 50, 4))
    assert made.shape == (1, 50, 4)


@pytest.mark.parametrize("shape", [(1, 17, 4), (17, 4)])
def test_the_same_grid_changes_no_bit(program: Callable, shape: tuple[int, ...]) -> None:
    outcome = program("[{resample_pos_embed: x}]", {"x": shape}, target={"x": shape})
    assert outcome.values["x"].source == "x"


def test_maps_with_channels_last(program: Callable) -> None:
    tensor = torch.randn(1, 5, 7, 3)
    made = computed(program, "resample_pos_embed: x", tensor, (1, 10, 6, 3))
    assert torch.allclose(made, resample_abs_pos_embed_nhwc(tensor, [10, 6]), atol=1e-6)


def test_half_precision_keeps_its_dtype(entries: Callable) -> None:
    from zoo.remap.rules import run

    rules = parse_rules([{"resample_pos_embed": {"match": "x", "to_grid": 6}}])
    value = run(rules, entries({"x": (1, 16, 4)}, "BF16")).values["x"]
    tensor = torch.randn(1, 16, 4).to(torch.bfloat16)
    made = evaluate(value, {"x": tensor.view(torch.int16).numpy().view("u2")}.__getitem__)
    want = resample_abs_pos_embed(tensor, [6, 6], num_prefix_tokens=0)
    assert torch.equal(torch.from_numpy(made).view(torch.bfloat16), want)


@pytest.mark.parametrize(("old", "new"), [(7, 12), (8, 4)])
def test_swin_bias_tables(program: Callable, old: int, new: int) -> None:
    before, after = (2 * old - 1) ** 2, (2 * new - 1) ** 2
    tensor = torch.randn(before, 3)
    made = computed(program, "resample_rel_bias: x", tensor, (after, 3))
    want = resize_rel_pos_bias_table_simple(tensor, (new, new), (after, 3))
    assert torch.allclose(made, want, atol=1e-5)


def test_bias_tables_with_extra_rows_and_windows_that_are_not_square(program: Callable) -> None:
    rule = "resample_rel_bias: {match: x, from_window: [2, 3], to_window: [3, 4], extra_rows: 3}"
    tensor = torch.randn(3 * 5 + 3, 2)
    made = computed(program, rule, tensor)
    assert made.shape == (5 * 7 + 3, 2)
    assert torch.equal(made[-3:], tensor[-3:])
    with pytest.raises(InputError, match="from_window"):
        computed(program, "resample_rel_bias: x", torch.randn(15, 2), (25, 2))


def test_bias_tables_by_head(program: Callable) -> None:
    tensor = torch.randn(2, 13, 13)
    made = computed(program, "resample_rel_bias: x", tensor, (2, 15, 15))
    assert torch.allclose(made, resize_rel_pos_bias_table_simple(tensor, (8, 8), (2, 15, 15)), atol=1e-5)


@pytest.mark.parametrize("old", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("new", [1, 2, 3, 5, 8, 12])
def test_images_with_equal_channels_get_the_answer_they_got_before(program: Callable, old: int, new: int) -> None:
    weight, image = torch.randn(6, old, 3, 3), torch.randn(2, 1, 8, 8)
    made = computed(program, f"adapt_input: {{match: x, channels: {new}}}", weight)
    before = torch.nn.functional.conv2d(image.expand(2, old, 8, 8), weight)
    after = torch.nn.functional.conv2d(image.expand(2, new, 8, 8), made)
    assert torch.allclose(before, after, atol=1e-4)
    assert (made.flatten(2).norm(dim=2) > 0).all(), "no new channel may be dead"


def test_input_channels_come_from_the_target(program: Callable) -> None:
    weight = torch.randn(6, 3, 3, 3)
    assert torch.allclose(computed(program, "adapt_input: x", weight, (6, 1, 3, 3)), weight.sum(1, keepdim=True))
    assert torch.equal(computed(program, "adapt_input: x", weight, (6, 3, 3, 3)), weight)


@pytest.mark.parametrize(
    ("rule", "shape", "why"),
    [
        ("adapt_input: x", (6, 3, 3, 3), "say `channels`"),
        ("adapt_input: {match: x, channels: 2}", (6, 3), "no convolution"),
        ("resample_pos_embed: x", (1, 16, 4), "say `to_grid"),
        ("resample_pos_embed: {match: x, to_grid: 4}", (16,), "no grid"),
        ("resample_pos_embed: {match: x, from_grid: [3, 3], prefix_tokens: 2, to_grid: 4}", (1, 16, 4), "make 11"),
        ("resample_rel_bias: {match: x, to_window: 7}", (10, 2), "from_window"),
    ],
)
def test_what_is_not_known_has_to_be_said(program: Callable, rule: str, shape: tuple[int, ...], why: str) -> None:
    with pytest.raises(InputError, match=why):
        program(f"[{{{rule}}}]", {"x": shape})


def test_integers_are_not_computed_with(entries: Callable) -> None:
    from zoo.remap.rules import run

    with pytest.raises(InputError, match="only floating-point"):
        run(parse_rules([{"resample_pos_embed": {"match": "x", "to_grid": 6}}]), entries({"x": (1, 16, 4)}, "I64"))


@pytest.mark.parametrize(
    "text",
    [
        "resample_pos_embed: x",
        "resample_pos_embed: {match: x, from_grid: [2, 3], to_grid: [4, 4], prefix_tokens: 1, antialias: false}",
        "resample_rel_bias: {match: x, from_window: [2, 3], to_window: [4, 4], extra_rows: 3}",
        "adapt_input: x",
        "adapt_input: {match: x, channels: 4}",
    ],
)
def test_every_rule_writes_what_it_reads(text: str) -> None:
    rules = parse_rules(yaml.safe_load(f"[{{{text}}}]"))
    assert parse_rules([rule.as_mapping() for rule in rules]) == rules


OLD = ["cat", "dog", "hot_dog", "crane"]


def rows(program: Callable, rule: str, array: np.ndarray, **surroundings: list[str]) -> np.ndarray:
    outcome = program(f"- adapt_classes: {rule}", {"fc": array.shape}, **surroundings)
    return evaluate(outcome.values["fc"], {"fc": array}.__getitem__)


@pytest.mark.parametrize("shape", [(4, 3), (4,), (4, 3, 1, 1)])
def test_rows_are_picked_and_ordered_by_name(program: Callable, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).normal(size=shape).astype("f4")
    made = rows(program, "fc", array, source_classes=OLD, target_classes=["dog", "cat"])
    assert np.array_equal(made, array[[1, 0]])


def test_names_may_differ_in_case_and_separators(program: Callable) -> None:
    array = np.arange(8, dtype="f4").reshape(4, 2)
    made = rows(program, "{match: fc, from: [cat, dog, hot_dog, crane], to: [Hot-Dog, CAT]}", array)
    assert np.array_equal(made, array[[2, 0]])


def test_new_classes_get_the_mean_and_are_reported(program: Callable) -> None:
    array = np.random.default_rng(0).normal(size=(4, 3)).astype("f4")
    outcome = program("- adapt_classes: fc", {"fc": (4, 3)}, source_classes=OLD, target_classes=["newt", "cat", "eel"])
    made = evaluate(outcome.values["fc"], {"fc": array}.__getitem__)
    assert np.allclose(made[0], array.mean(0), atol=1e-6)
    assert np.array_equal(made[1], array[0])
    assert outcome.initialised == {"fc": "2 of 3 rows, to mean: newt, eel"}
    zero = rows(program, "{match: fc, new: zero}", array, source_classes=OLD, target_classes=["newt", "cat"])
    assert not zero[0].any()


def test_other_names_for_old_classes(program: Callable) -> None:
    array = np.arange(4, dtype="f4")
    made = rows(
        program, "{match: fc, also: {kitten: cat}}", array, source_classes=OLD, target_classes=["kitten", "dog"]
    )
    assert np.array_equal(made, array[[0, 1]])


@pytest.mark.parametrize(
    ("rule", "old", "new", "why"),
    [
        ("fc", [], ["cat"], "needs the classes of the source"),
        ("fc", OLD, [], "needs the classes wanted"),
        ("fc", OLD[:3], ["cat"], "4 rows for 3 class names"),
        ("fc", OLD, ["eel"], "none of the 1 classes"),
        ("fc", ["crane", "dog", "cat", "Crane"], ["crane"], "names 2 classes"),
        ("{match: fc, also: {a: kat}}", OLD, ["a"], "no class 'kat' .*did you mean cat"),
    ],
)
def test_what_cannot_be_decided_is_an_error(program: Callable, rule: str, old: list, new: list, why: str) -> None:
    with pytest.raises(InputError, match=why):
        rows(program, rule, np.zeros(4, "f4"), source_classes=old, target_classes=new)
