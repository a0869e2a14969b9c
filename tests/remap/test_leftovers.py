"""What is left of a file although modules that are loaded cannot do without it, and the rules that leave it out."""

from __future__ import annotations

import pytest

from zoo.errors import WorkError
from zoo.formats.entry import Entry
from zoo.remap.leftovers import exactly, needed, problem
from zoo.remap.plan import Target, make_plan
from zoo.remap.rules import parse_rules

BODY = [
    "cls_token",
    "patch_embed.proj.weight",
    *(f"blocks.{i}.{name}" for i in range(4) for name in ("attn.qkv.weight", "norm1.weight", "mlp.fc1.weight")),
    "norm.weight",
]
NEEDED = [
    "blocks.0.attn.qkv.bias",
    "blocks.0.attn.qkv.lora_A.default.weight",
    "blocks.0.attn.qkv.lora_magnitude_vector.default",
    "blocks.0.attn.q_bias",
    "blocks.1.mlp.fc1.SCB",
    "blocks.1.mlp.fc1.scales",
    "blocks.1.mlp.fc1.ia3_l.default",
    "blocks.1.mlp.fc1.weight.absmax",
    "blocks.3.ls1.gamma",
    "patch_embed.norm.weight",
    "reg_token",
    "absolute_pos_embed",
]
APART = [
    "blocks.4.norm1.weight",
    "head.weight",
    "head.fc.0.weight",
    "decoder.blocks.0.norm1.weight",
    "mask_token",
    "blocks.0.attn.relative_coords_table",
    "blocks.0.attn_mask",
    "optimizer.state.exp_avg",
]


def told(names: list[str], prefix: str = "") -> list[str]:
    return needed({name: (prefix + name,) for name in names}, [prefix + name for name in BODY])


@pytest.mark.parametrize("prefix", ["", "module.", "model.backbone.", "params/"])
def test_what_modules_that_are_loaded_compute_with_is_told_from_modules_apart(prefix: str) -> None:
    assert told([*NEEDED, *APART], prefix) == NEEDED


def test_a_base_layer_inside_its_adapter() -> None:
    used = ["attn.qkv.base_layer.weight", "attn.proj.weight", "norm.weight"]
    delta = "attn.qkv.lora_B.default.weight"
    assert needed({delta: (delta,)}, used) == [delta]


def test_layers_of_a_sequential_are_further_layers() -> None:
    used = ["features.0.weight", "features.2.weight"]
    assert not needed({"features.28.weight": ("features.28.weight",)}, used)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["fc.lora_A.weight", "fc.lora_B.weight"], "merge_and_unload"),
        (["fc.SCB"], "dequantise"),
        (["fc.weight_scale"], "dequantise"),
        (["blocks.0.ls1.gamma", "blocks.1.ls1.gamma"], r"blocks.*.ls1.gamma are"),
    ],
)
def test_every_name_is_said_with_what_to_do(names: list[str], words: str) -> None:
    assert words in str(problem(names))
    assert "in front of auto" in str(problem(names, by_auto=True))


F32 = "F32"
SOURCE = {
    name: Entry(name, F32, (2, 3))
    for name in ("conv.weight", "conv.bias", "conv.lora_A.0.weight", "fc.0.weight", "fc.2.weight", "fc_norm.weight")
}


def test_the_rule_drops_these_names_and_no_others() -> None:
    left = ["conv.bias", "fc.0.weight", "fc.2.weight"]
    assert sorted(make_plan(SOURCE, parse_rules(exactly(left))).dropped) == left


def test_they_stop_a_plan_whatever_is_asked_for_until_a_rule_drops_them() -> None:
    target = Target({"conv.weight": Entry("conv.weight", F32, (2, 3))})
    source = {name: SOURCE[name] for name in ("conv.weight", "conv.bias", "conv.lora_A.0.weight", "fc.0.weight")}
    found = make_plan(source, (), target).problems(0.0)
    assert len(found) == 1
    assert "conv.bias, conv.lora_A.0.weight are tensors of the file that belong to modules" in found[0].message
    rule = found[0].suggestion.rpartition("add the rule `")[2].rstrip("`")
    assert not make_plan(source, parse_rules(rule), target).problems(0.0)


@pytest.mark.parametrize("dtype", ["I8", "U8", "I32", "BOOL", "C64"])
def test_codes_are_no_values_of_floating_tensors(dtype: str) -> None:
    target = Target({name: Entry(name, F32, (2,)) for name in ("a.weight", "b.weight")})
    source = {"a.weight": Entry("a.weight", dtype, (2,)), "b.weight": Entry("b.weight", "F16", (2,))}
    (found,) = make_plan(source, (), target).problems(0.0)
    assert f"a.weight: the file has {dtype} numbers" in found.message
    counter = Target({"n": Entry("n", "I64", ())})
    assert not make_plan({"n": Entry("n", "I32", ())}, (), counter).problems(0.0)


def test_what_auto_would_drop_is_judged_too(tmp_path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    from zoo.formats import open_source
    from zoo.remap.remaps import plan_source

    state = {"net.conv.weight": (4, 3), "net.conv.bias": (4,), "net.norm.weight": (4,), "net.norm.bias": (4,)}
    save_file(
        {name: np.zeros(shape, "f4") for name, shape in state.items()}
        | {"net.conv.lora_A.weight": np.zeros((2, 3), "f4")},
        tmp_path / "a.safetensors",
    )
    target = Target({name[4:]: Entry(name[4:], F32, shape) for name, shape in state.items()})
    with open_source(tmp_path / "a.safetensors") as source:
        try:
            found = str(plan_source(source, "auto", target).plan.problems(0.0))
        except WorkError as error:
            found = str(error)
    assert "lora_A" in found
