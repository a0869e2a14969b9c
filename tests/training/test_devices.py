"""Devices and precision: one answer to whether bfloat16 is native, whoever asks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

from zoo.cli import health
from zoo.training import devices
from zoo.training.calibrate import candidates
from zoo.training.devices import bfloat16_is_native, choose_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(("bf16", "tiles"), [(False, False), (True, False), (False, True)])
def test_everyone_gets_the_same_answer_about_a_processor(bf16, tiles, monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: tiles)
    monkeypatch.setattr(devices, "choose_device", lambda: CPU)
    native = bf16 or tiles
    assert bfloat16_is_native(CPU) is native
    assert {setting.precision for setting in candidates(nn.Linear(2, 2), CPU, "auto")} == (
        {"float32", "bfloat16"} if native else {"float32"}
    )
    assert health.bfloat16() == ("fast on cpu" if native else "emulated on cpu, and slow")
    assert choose_precision("auto", CPU) == "float32"  # timing decides there


def test_a_torch_that_cannot_say_is_a_torch_without(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert bfloat16_is_native(CPU) is False


def test_nobody_else_asks():
    for path in (Path(__file__).parents[2] / "zoo").rglob("*.py"):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert "is_bf16_supported" not in names or path.name == "devices.py", path
