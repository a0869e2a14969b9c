"""How a training step is run, and which way earlier runs on this machine found to be the fastest."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Setting:
    """How a step is run: `precision` is "float32", "bfloat16" or "float16"."""

    precision: str = "float32"
    channels_last: bool = False

    def __str__(self) -> str:
        return self.precision + (" channels-last" if self.channels_last else "")


def apply_layout(module: nn.Module, setting: Setting) -> None:
    """Put the module's four-dimensional parameters into the setting's memory layout, in place."""
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    module.to(memory_format=layout)


def key(module: nn.Module, inputs: Sequence[Tensor], settings: Sequence[Setting]) -> str:
    """Everything the fastest setting depends on, as a digest."""
    device = inputs[0].device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    parts = [
        *(f"{n} {tuple(p.shape)} {p.requires_grad}" for n, p in module.named_parameters()),
        *(str(tuple(value.shape[1:])) for value in inputs),
        *(str(setting) for setting in settings),
        f"{device.type} {name} {torch.get_num_threads()} {torch.__version__}",
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _processor() -> str:
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return platform.processor()


class Memory:
    """Choices of earlier runs: one small JSON file a key, so that two runs never write over each other."""

    def __init__(self, root: Path | None, key: str) -> None:
        base = root or Path(os.environ.get("ZOO_CACHE") or Path.home() / ".cache" / "zoo")
        self.path = base / "calibration" / f"{key}.json"

    def recall(self, allowed: Sequence[Setting]) -> Setting | None:
        with suppress(OSError, ValueError, TypeError):
            setting = Setting(**json.loads(self.path.read_text(encoding="utf-8")))
            return setting if setting in allowed else None
        return None

    def remember(self, setting: Setting) -> None:
        with suppress(OSError):  # an unwritable cache costs the next run its seconds, nothing else
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(asdict(setting)), encoding="utf-8")
