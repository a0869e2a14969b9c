"""Freed memory stays with a command's process inside the block, and goes back to the kernel behind it."""

import ctypes
import resource

import pytest
import torch

from zoo.training.memory import freed_memory_kept, give_back_freed_memory

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
        give_back_freed_memory(torch.device("cpu"))
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
        give_back_freed_memory(torch.device("cpu"))
        assert faults(2) >= 2 * BYTES // resource.getpagesize()


@needs_glibc
@pytest.mark.usefixtures("command")
def test_other_devices_are_left_alone():
    with freed_memory_kept(torch.device("cuda")):
        give_back_freed_memory(torch.device("cuda"))
        assert faults(2) >= 2 * BYTES // resource.getpagesize()
