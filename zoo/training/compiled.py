"""`compile: true`: a forward pass through torch.compile that says how long compiling took, and why it failed.

A graph is compiled for the shapes of the first batch; at the first batch of another size (the last of an epoch, or a
part of one where memory ran out) torch compiles one for any size. That is all: later sizes compile nothing.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from zoo.errors import WorkError, is_out_of_memory

NO_COMPILER = re.compile(r"C(\+\+)? compiler|cl is not found|CUDA_HOME|Python\.h", re.IGNORECASE)


class Compiled:
    """The network's forward pass, compiled. `seconds` are those of the passes in which something was compiled, and
    `graphs` is how many that were."""

    def __init__(self, network: nn.Module) -> None:
        self.forward = torch.compile(network)
        self.seconds, self.graphs = 0.0, 0

    def __call__(self, *inputs: Any) -> Any:
        """Raises WorkError where the network cannot be compiled, with what to type."""
        began, before = time.monotonic(), _graphs()
        try:
            return self.forward(*inputs)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")) or is_out_of_memory(error):
                raise
            raise _explained(error) from error
        finally:
            if made := _graphs() - before:
                self.seconds, self.graphs = self.seconds + time.monotonic() - began, self.graphs + made


def _graphs() -> int:
    with suppress(ImportError, KeyError):
        from torch._dynamo.utils import counters

        return int(counters["stats"]["unique_graphs"])
    return 0


def _explained(error: Exception) -> WorkError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    found = next((line for line in lines if NO_COMPILER.search(line)), None)
    hint = "compile: false trains without it"
    if found is not None:
        hint = f"install one (apt install g++ python3-dev), or name it in CXX; {hint}"
    return WorkError(f"torch.compile failed: {found or lines[0]}", suggestion=hint)
