"""Arguments with which an architecture fits a file: guessed from shapes, and told only where they do."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from zoo.formats import open_source
from zoo.model.build import build
from zoo.model.fitting import fitting_arguments
from zoo.model.load_into import state_of, target_of
from zoo.remap.remaps import plan_source

TINY_SWIN = {"embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2], "img_size": 56, "num_classes": 5}


def found(tmp_path: Path, architecture: str, arguments: Mapping[str, Any], changes: Mapping[str, Any]) -> Any:
    """What is told of a file of the architecture with `changes`, where it was built with `arguments`."""
    state = state_of(build(architecture, {**arguments, **changes}, device="meta").model)
    kinds = {name: "f4" if value.is_floating_point() else "i8" for name, value in state.items()}
    save_file({name: np.zeros(tuple(v.shape), kinds[name]) for name, v in state.items()}, tmp_path / "f.safetensors")
    target = target_of(build(architecture, arguments, device="meta").model)
    with open_source(tmp_path / "f.safetensors") as source:
        plan = plan_source(source, None, target).plan
        assert plan.mismatched or plan.problems()
        return fitting_arguments(architecture, arguments, source, None, plan)


@pytest.mark.parametrize(
    "changes",
    [
        {"img_size": 96},
        {"img_size": 96, "in_chans": 1},
        {"in_chans": 4},
        {"num_classes": 7},
        {"num_classes": 0},
        {"depth": 3},
        {"depth": 9, "num_classes": 2},
        {"qkv_bias": False},
        {"init_values": 1e-5},
        {"reg_tokens": 4},
    ],
    ids=str,
)
def test_a_vision_transformer(tmp_path: Path, changes: dict) -> None:
    assert found(tmp_path, "timm/test_vit", {}, changes) == changes


@pytest.mark.parametrize(
    ("arguments", "changes"),
    [({"qkv_bias": False}, {"qkv_bias": True}), ({"img_size": 96, "depth": 2}, {"img_size": 160, "depth": 4})],
)
def test_arguments_that_were_given_are_overruled(tmp_path: Path, arguments: dict, changes: dict) -> None:
    assert found(tmp_path, "timm/test_vit", arguments, changes) == changes


def test_channels_and_classes_of_a_convolutional_network(tmp_path: Path) -> None:
    changes = {"in_chans": 12, "num_classes": 3}
    assert found(tmp_path, "timm/test_resnet", {}, changes) == changes


def test_an_attention_window(tmp_path: Path) -> None:
    changes = {"window_size": 14}
    assert found(tmp_path, "timm/swin_tiny_patch4_window7_224", {**TINY_SWIN, "img_size": 224}, changes) == changes


def test_nothing_is_told_that_does_not_fit(tmp_path: Path) -> None:
    assert found(tmp_path, "timm/test_vit", {}, {"embed_dim": 32, "img_size": 96}) is None
