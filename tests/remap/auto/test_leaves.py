"""Leaves: what other frameworks call a module's tensors, and how they store them."""

from __future__ import annotations

import pytest

from zoo.remap.auto.leaves import ending
from zoo.remap.auto.units import find_units, leveled


def roles(make, shapes):
    return {unit.path: {role: part.shape for role, part in unit.parts.items()} for unit in find_units(make(shapes))}


@pytest.mark.parametrize(
    "leaves",
    [
        ("gamma", "beta", "moving_mean", "moving_variance"),
        ("weight", "bias", "_mean", "_variance"),
        ("scale", "bias", "mean", "var"),
    ],
)
def test_the_leaves_of_batch_norm(make, leaves):
    (found,) = roles(make, {f"bn.{leaf}": (8,) for leaf in leaves}).values()
    assert found == dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (8,))


def test_a_lone_gamma_is_a_layer_scale(make):
    assert roles(make, {"b.gamma": (8,), "b.fc.weight": (4, 8)}) == {
        "b.gamma": {"value": (8,)}, "b.fc": {"weight": (4, 8)},
    }  # fmt: skip


def test_kernels_are_seen_as_torch_stores_them(make):
    found = roles(
        make,
        {"c/kernel": (3, 3, 4, 8), "c/bias": (8,), "d.depthwise_kernel:0": (5, 5, 8, 1), "fc.kernel": (8, 10)},
    )
    assert found == {
        "c": {"weight": (8, 4, 3, 3), "bias": (8,)},
        "d": {"weight": (8, 1, 5, 5)},
        "fc": {"weight": (10, 8)},
    }


def test_flat_names(make):
    assert roles(make, {"stage1_conv0_weight": (8, 4, 3, 3), "stage1_batchnorm0_gamma": (8,),
                        "stage1_batchnorm0_beta": (8,)}) == {
        "stage1.conv0": {"weight": (8, 4, 3, 3)}, "stage1.batchnorm0": {"weight": (8,), "bias": (8,)},
    }  # fmt: skip
    assert ending("a_running_mean") == "running_mean"


def test_a_projection_by_which_openai_multiplies_from_the_right(make):
    assert roles(make, {"visual.proj": (8, 3)}) == {"visual.proj": {"weight": (3, 8)}}


@pytest.mark.parametrize(
    ("path", "levels"),
    [
        ("conv2_block1_0_conv", "conv2.block1.0.conv"),
        ("block4b_project_bn", "block4.1.project_bn"),
        ("res2a_branch2c", "res2.0.branch2.2"),
        ("bn4b12_branch2a", "res4.12.branch2.0.bn"),
        ("layers.0.layer_norm1", "layers.0.layer_norm1"),
        ("conv2d_1", "conv2d.1"),
    ],
)
def test_levels_inside_a_component(path, levels):
    assert leveled(path) == levels
