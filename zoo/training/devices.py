"""Where training runs, and at which precision."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import patch_environment

from zoo.errors import InputError
from zoo.recipe.steps import Precision

MIXED = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


def choose_device(requested: str = "auto") -> torch.device:
    """`auto` is the machine's accelerator where there is one. Raises InputError for a device that is not there."""
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
    faster, timing decides (zoo.training.calibrate).

    Raises InputError for float16 on a CPU, where gradient scaling has no kernels.
    """
    if requested == "float16" and device.type == "cpu":
        raise InputError("precision float16 needs a GPU", suggestion="use bfloat16 or float32 on the CPU")
    if requested != "auto":
        return requested
    return "bfloat16" if device.type != "cpu" and bfloat16_is_native(device) else "float32"


def bfloat16_is_native(device: torch.device) -> bool:
    """Whether the device multiplies in bfloat16 by itself rather than by emulation, which is slower than float32."""
    if device.type == "cuda":
        with torch.cuda.device(device):  # torch asks about the current one
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not part of torch's stable surface
        return any(getattr(torch.cpu, ask, bool)() for ask in asks)
    return False


def make_accelerator(device: torch.device, precision: str = "float32") -> Accelerator:
    """Accelerate's handle on devices, processes and mixed precision; one a train step, since precision may differ.

    Launched by `accelerate launch` or `torchrun`, every process gets its own device and joins the process group.
    """
    AcceleratorState._reset_state(reset_partial_state=True)  # its singletons refuse a second precision or device
    with ExitStack() as stack:
        if device.index is not None and "LOCAL_RANK" not in os.environ:
            stack.enter_context(patch_environment(accelerate_torch_device=str(device)))
        return Accelerator(mixed_precision=MIXED[precision], cpu=device.type == "cpu")


@contextmanager
def accelerate_kept() -> Iterator[None]:
    """Accelerate's singletons are afterwards what they were: a caller's own Accelerator goes on working.

    A process group that a launcher's process joined in the block stays; there is one a process.
    """
    states = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    kept = [dict(state) for state in states]
    try:
        yield
    finally:
        for state, before in zip(states, kept, strict=True):
            state.clear()
            state.update(before)
