"""The device and precision of training, the random generators, and the allocator's settings while training runs."""

from __future__ import annotations

import ctypes
import os
import platform
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedDataParallelKwargs, patch_environment
from torch import nn

from zoo.errors import InputError
from zoo.isolation import owns_process
from zoo.model.undisturbed import generators_kept
from zoo.recipe.options import Precision

MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def choose_device(requested: str = "auto") -> torch.device:
    """`auto` is the machine's accelerator where there is one. Raises InputError for one that this machine lacks."""
    if requested == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(requested)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        there = ["cpu"] + [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        there += ["mps"] if torch.backends.mps.is_available() else []
        raise InputError(
            f"device {requested!r} cannot be used here", suggestion=f"there is {', '.join(there)}"
        ) from error
    return device


def choose_precision(requested: Precision, device: torch.device) -> str:
    """`auto` is bfloat16 where an accelerator computes in it natively, else float32; on a CPU, where it need not be
    faster, timing decides (zoo.training.autotune).

    Raises InputError for float16 on a CPU, where gradient scaling has no kernels.
    """
    if requested == "float16" and device.type == "cpu":
        raise InputError("precision float16 needs a GPU", suggestion="use bfloat16 or float32 on the CPU")
    if requested != "auto":
        return requested
    return "bfloat16" if device.type != "cpu" and bfloat16_is_native(device) else "float32"


def hardware(device: torch.device) -> str:
    """The kind of device and its model: what kernels, and so the last digits of results, depend on."""
    return f"{device.type} {torch.cuda.get_device_name(device) if device.type == 'cuda' else _processor()}"


def _processor() -> str:
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return platform.processor()


def peak_memory(device: torch.device) -> int | None:
    """The most memory in bytes so far: of a GPU what torch had allocated on it since `forget_peak_memory`, else what
    the process had resident since it began. None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    process = psutil.Process()
    with suppress(AttributeError, psutil.Error):
        return int(process.memory_info().peak_wset)  # Windows
    with suppress(ImportError):
        import resource

        largest: int = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return largest if sys.platform == "darwin" else largest * 1024  # kilobytes everywhere else
    return None


def forget_peak_memory(device: torch.device) -> None:
    """Let `peak_memory` begin anew, where it can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def bfloat16_is_native(device: torch.device) -> bool:
    """Whether the device has bfloat16 arithmetic: emulated, it would be slower than float32."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch asks about the current one
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not part of torch's stable surface
        return any(getattr(torch.cpu, ask, bool)() for ask in asks)
    return False


def make_accelerator(device: torch.device, precision: str = "float32", *, thaws: bool = False) -> Accelerator:
    """Accelerate's handle on devices, processes and mixed precision; one a train step, since precision may differ.

    With `thaws` parameters may begin to require a gradient, or cease to, after the model was prepared: processes then
    look at each step for those that have none.

    Launched by `accelerate launch` or `torchrun`, every process gets its own device and joins the process group.
    """
    AcceleratorState._reset_state(reset_partial_state=True)  # its singletons refuse a second precision or device
    with ExitStack() as stack:
        if device.index is not None and "LOCAL_RANK" not in os.environ:
            stack.enter_context(patch_environment(accelerate_torch_device=str(device)))
        handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)] if thaws else None
        return Accelerator(mixed_precision=MIXED[precision], cpu=device.type == "cpu", kwargs_handlers=handlers)


@contextmanager
def forward_as_written(model: nn.Module) -> Iterator[None]:
    """The model's own forward for the block, without the autocast that accelerate wraps around it."""
    own, wrapped = vars(model).get("_original_forward"), model.forward
    if own is not None:
        model.forward = own
    try:
        yield
    finally:
        if own is not None:
            model.forward = wrapped


@contextmanager
def accelerate_kept() -> Iterator[None]:
    """Restores accelerate's singletons at the end of the block, so that a caller's own Accelerator still works.

    A process group that was joined in the block stays: a process has only one.
    """
    states = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    kept = [dict(state) for state in states]
    try:
        yield
    finally:
        for state, before in zip(states, kept, strict=True):
            state.clear()
            state.update(before)


def to_layout(model: nn.Module, layout: torch.memory_format) -> None:
    """Put the model's images' weights, tensors of four dimensions, into a memory layout; others have none.

    `Module.to(memory_format=...)` fails at a tensor of five dimensions, such as a buffer of Swin's.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.to(tensor.device, memory_format=layout)
            if tensor.grad is not None:
                tensor.grad.data = tensor.grad.data.to(tensor.device, memory_format=layout)


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's random generators, on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def generator_states() -> dict[str, Any]:
    """The state of every random generator, in numbers, strings, tuples and tensors."""
    legacy: Any = np.random.get_state()
    name, keys, *rest = legacy
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_generators(state: dict[str, Any]) -> None:
    """Restore what `generator_states` gave."""
    name, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])


# glibc gives large blocks back to the kernel as soon as they are freed, and the next training step asks for blocks of
# the same sizes: mapping and zeroing their pages again takes up to half of a step's time on a CPU. So freed memory is
# kept while training runs. These are the names and values of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
NEVER = -1
USUAL_MAPPED_BLOCKS = 65536
LARGEST_THRESHOLD = 32 << 20  # where glibc's own, which grows with what is freed, ends up


@contextmanager
def freed_memory_kept(device: torch.device) -> Iterator[None]:
    """Keep freed memory in the process during the block; afterwards it is given back to the kernel.

    It does something only on a CPU, with glibc, and in a command of the command line.
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


def release_freed_memory(device: torch.device) -> None:
    """Give freed memory back to the kernel, once between two kinds of work that need blocks of different sizes."""
    libc = _glibc(device)
    if libc is not None:
        libc.malloc_trim(0)


def _glibc(device: torch.device) -> ctypes.CDLL | None:
    if not owns_process() or device.type != "cpu" or sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None


@contextmanager
def process_kept() -> Iterator[None]:
    """Restores random generators and accelerate's singletons at the end of the block; also a decorator of functions."""
    with generators_kept(), accelerate_kept():
        yield
