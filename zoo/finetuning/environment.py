"""What the last digits of a run depend on beside its recipe and its data: versions, device, threads, processes."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import PartialState

from zoo.installed import version
from zoo.training.devices import hardware

PACKAGES = ("accelerate", "numpy", "pillow", "timm", "torch", "torchmetrics", "torchvision", "zoo-kit")


def environment(device: torch.device, versions: Mapping[str, str]) -> dict[str, Any]:
    """Plain data for a report; `versions` are those of the packages behind the architecture."""
    found = {name: version(name) for name in PACKAGES} | dict(versions) | {"torch": torch.__version__}  # with its build
    packages: dict[str, Any] = {name: text for name, text in sorted(found.items()) if text is not None}
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": hardware(device),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "processes": PartialState().num_processes,
        "packages": packages,
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """`threads: 1 then, 2 now`, for everything that both know and that is not the same."""
    flat = [{**values, **(values.get("packages") or {}), "packages": None} for values in (before, now)]
    pairs = [(key, flat[0][key], flat[1][key]) for key in flat[0] if key in flat[1]]
    return [f"{key}: {_said(was)} then, {_said(become)} now" for key, was, become in pairs if was != become]


def _said(value: Any) -> str:
    return "none" if value is None else str(value)
