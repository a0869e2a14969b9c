"""Keeps the memory that tensors free with the process while a command trains on the CPU, instead of fetching it anew.

glibc gives large blocks back to the kernel as soon as they are freed. The activations of a training step are hundreds
of such blocks, and fetching them again page by page takes a third of a step's time where they are large. What is kept
instead comes to a tenth of the peak (docs/performance.md). These settings are the whole process's, so only a command
of the command line makes them: `zoo.finetune` in somebody's program leaves the allocator alone.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from zoo.isolation import owns_process

# malloc.h
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
NEVER = -1
USUAL_MAPPED_BLOCKS = 65536
LARGEST_THRESHOLD = 32 << 20  # where glibc's own, which grows with what is freed, ends up


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """For the time of the block; what is free afterwards goes back to the kernel.

    Elsewhere than on a CPU, with glibc and in a command of the command line it does nothing.
    """
    libc = _glibc(device)
    if libc is None:
        yield
        return
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_MAX, USUAL_MAPPED_BLOCKS)
        libc.mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * LARGEST_THRESHOLD)
        libc.malloc_trim(0)


def give_back_freed_memory(device: torch.device) -> None:
    """Once between two kinds of work: blocks of the first are of other sizes than the second one needs."""
    libc = _glibc(device)
    if libc is not None:
        libc.malloc_trim(0)


def _glibc(device: torch.device) -> ctypes.CDLL | None:
    if not owns_process() or device.type != "cpu" or sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
