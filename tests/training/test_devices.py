"""Devices and precision: one answer to whether bfloat16 is native, whoever asks."""

from __future__ import annotations

import ast
import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from zoo.cli import doctor
from zoo.training import devices
from zoo.training.autotune import candidates
from zoo.training.devices import (
    bfloat16_is_native,
    choose_precision,
    to_layout,
)

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
    assert doctor.bfloat16() == ("fast on cpu" if native else "emulated on cpu, and slow")
    assert choose_precision("auto", CPU) == "float32"  # timing decides there


def test_a_torch_that_cannot_say_is_a_torch_without(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    assert bfloat16_is_native(CPU) is False


def test_nobody_else_asks():
    for path in (Path(__file__).parents[2] / "zoo").rglob("*.py"):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert "is_bf16_supported" not in names or path.name == "devices.py", path


needs_glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="this is how glibc is told"
)
# In a process of its own: a hole that earlier tests left in this one's heap would be reused, whatever glibc was told.
ALLOCATOR = """
import ctypes, json, resource, sys
from contextlib import suppress

import torch

from zoo.isolation import owned_process
from zoo.training.devices import freed_memory_kept, release_freed_memory

BYTES = 1 << 27
CPU = torch.device("cpu")
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]


def fetched(times):
    "How often all pages of a block were fetched from the kernel, when it was taken, filled and freed so many times."
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        block = libc.malloc(BYTES)
        ctypes.memset(block, 1, BYTES)
        libc.free(block)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // (BYTES // resource.getpagesize())


def kept(device, failing=False):
    with suppress(ValueError), freed_memory_kept(device):
        if failing:
            raise ValueError
        fetched(1)
        inside = fetched(5)
        release_freed_memory(device)
        return inside, fetched(1), fetched(5)


found = {"library": kept(CPU)}
with owned_process():
    found |= {"other device": kept(torch.device("cuda")), "kept": kept(CPU), "behind": fetched(5)}
    kept(CPU, failing=True)
    found["behind a failure"] = fetched(5)
json.dump(found, sys.stdout)
"""


@pytest.fixture(scope="module")
def pages():
    """For each case how often a block's pages were fetched when it was taken five times, once and five times."""
    done = subprocess.run([sys.executable, "-c", ALLOCATOR], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@needs_glibc
def test_pages_are_fetched_once(pages):
    inside, _, _ = pages["kept"]
    assert inside == 0
    assert pages["behind"] == 5


@needs_glibc
def test_pages_are_given_back_when_asked(pages):
    _, released, again = pages["kept"]
    assert released == 1
    assert again == 0


@needs_glibc
def test_a_failure_inside_ends_it_too(pages):
    assert pages["behind a failure"] == 5


@needs_glibc
@pytest.mark.parametrize("case", ["library", "other device"])
def test_the_allocator_is_left_alone(pages, case):
    """In a process that is not zoo's own, and by training elsewhere than on the CPU."""
    assert pages[case] == [5, 1, 5]


def test_only_images_weights_have_a_memory_layout():
    model = nn.Conv2d(3, 4, 3)
    model.register_buffer("mask", torch.arange(32.0).reshape(1, 2, 2, 2, 4))  # Swin's: five dimensions
    weight, before = model.weight, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for layout in (torch.channels_last, torch.contiguous_format):
        to_layout(model, layout)
        assert model.weight is weight
        assert weight.is_contiguous(memory_format=layout)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
