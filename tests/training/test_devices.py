"""Devices and precision: one answer to whether bfloat16 is native, whoever asks."""

from __future__ import annotations

import ast
import ctypes
import resource
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
    freed_memory_kept,
    release_freed_memory,
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


BYTES = 1 << 27
needs_glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="this is how glibc is told"
)


def faults(times):
    """Pages fetched from the kernel for blocks that are taken, filled and freed one after the other."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        block = libc.malloc(BYTES)
        ctypes.memset(block, 1, BYTES)
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@needs_glibc
@pytest.mark.usefixtures("command")
def test_pages_are_fetched_once():
    pages = BYTES // resource.getpagesize()
    with freed_memory_kept(torch.device("cpu")):
        faults(1)
        assert faults(5) < pages
    assert faults(5) >= 5 * pages


@needs_glibc
@pytest.mark.usefixtures("command")
def test_pages_are_given_back_when_asked():
    pages = BYTES // resource.getpagesize()
    with freed_memory_kept(torch.device("cpu")):
        faults(1)
        release_freed_memory(torch.device("cpu"))
        assert faults(1) >= pages


@needs_glibc
@pytest.mark.usefixtures("command")
def test_a_failure_inside_ends_it_too():
    with pytest.raises(ValueError, match="inside"), freed_memory_kept(torch.device("cpu")):
        raise ValueError("inside")
    assert faults(2) >= 2 * BYTES // resource.getpagesize()


@needs_glibc
def test_a_library_call_leaves_the_allocator_alone():
    with freed_memory_kept(torch.device("cpu")):
        release_freed_memory(torch.device("cpu"))
        assert faults(2) >= 2 * BYTES // resource.getpagesize()


@needs_glibc
@pytest.mark.usefixtures("command")
def test_other_devices_are_left_alone():
    with freed_memory_kept(torch.device("cuda")):
        release_freed_memory(torch.device("cuda"))
        assert faults(2) >= 2 * BYTES // resource.getpagesize()


def test_only_images_weights_have_a_memory_layout():
    model = nn.Conv2d(3, 4, 3)
    model.register_buffer("mask", torch.arange(32.0).reshape(1, 2, 2, 2, 4))  # Swin's: five dimensions
    weight, before = model.weight, {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for layout in (torch.channels_last, torch.contiguous_format):
        to_layout(model, layout)
        assert model.weight is weight
        assert weight.is_contiguous(memory_format=layout)
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
