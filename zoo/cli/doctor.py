"""`zoo doctor`: plugins (every component imported), packages, devices, caches; what is broken and how to mend it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo import registry
from zoo.cache import cache_folder, weights_folder
from zoo.cli.list import as_dict, counts
from zoo.registry import Component

Report = dict[str, Any]
SHOWN = ("torch", "torchvision", "timm", "transformers", "safetensors", "accelerate", "torchmetrics", "huggingface_hub")


def plugins() -> list[Report]:
    """One row a plugin: what it supplies, and the components that are broken, with cause and mend."""
    rows = registry.components()
    found = sorted({(row.plugin, row.distribution, row.version) for row in rows})
    return [_plugin(key, [row for row in rows if (row.plugin, row.distribution, row.version) == key]) for key in found]


def _plugin(key: tuple[str, str, str], rows: list[Component]) -> Report:
    examined = registry.examine(_one_a_target(rows))
    broken = [each.row for each in examined if each.row.status != "ok"]
    return {
        **dict(zip(("plugin", "distribution", "version"), key, strict=True)),
        "components": counts(row for row in rows if row.status == "ok"),
        "broken": [as_dict(row) | {"mend": _mend(row)} for row in broken],
    }


def _one_a_target(rows: list[Component]) -> list[Component]:
    """One row for each entry point: a source of 1,300 architectures is imported once."""
    return list({(row.kind, row.target, row.member is None and row.name): row for row in rows}.values())


def _mend(row: Component) -> str:
    """What to type next."""
    missing = re.search(r"No module named '([\w.]+)'", row.cause or "")
    own = row.target.partition(":")[0].partition(".")[0]
    if missing and missing[1].partition(".")[0] != own:
        return f"pip install {missing[1].partition('.')[0]}, or without it: pip uninstall {row.distribution}"
    if missing:
        return f"pip install --force-reinstall {row.distribution}"
    return f"pip install --upgrade {row.distribution}, or without it: pip uninstall {row.distribution}"


def packages() -> list[Report]:
    """One row for each package that zoo or a plugin requires, with the requirement it does not meet."""
    unmet = dict(_unmet())
    listed = dict.fromkeys([*SHOWN, *unmet])
    return [
        {"package": name, "version": _version(name), "problem": unmet.get(name), "mend": _upgrade(name, unmet)}
        for name in listed
    ]


def _unmet() -> Iterator[tuple[str, str]]:
    """(package, sentence) for each requirement of zoo and its plugins that is not met."""
    from packaging.requirements import Requirement

    distributions = {"zoo-kit", *(row.distribution for row in registry.entries())}
    for distribution in sorted(distributions):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            for text in importlib.metadata.requires(distribution) or ():
                needed = Requirement(text)
                if needed.marker and not needed.marker.evaluate({"extra": ""}):
                    continue
                version = _version(needed.name)
                if version is None or not needed.specifier.contains(version, prereleases=True):
                    yield needed.name, f"{distribution} needs {needed.name}{needed.specifier}"


def _upgrade(name: str, unmet: dict[str, str]) -> str | None:
    return f"pip install '{unmet[name].partition(' needs ')[2]}'" if name in unmet else None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def machine() -> Report:
    """Python, devices, bfloat16, caches. Imports torch."""
    import torch

    cuda = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    devices = [f"cuda:{index} {card.name}, {card.total_memory / 2**30:.0f} GB" for index, card in enumerate(cuda)]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    devices += [f"cpu {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"]
    return {
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "devices": "; ".join(devices),
        "bfloat16": bfloat16(),
        **{name: _place(path) for name, path in caches().items()},
    }


def bfloat16() -> str:
    """Whether the device that `auto` chooses computes in bfloat16 by itself."""
    from zoo.training.devices import bfloat16_is_native, choose_device

    device = choose_device()
    return f"fast on {device.type}" if bfloat16_is_native(device) else f"emulated on {device.type}, and slow"


def caches() -> dict[str, Path]:
    """zoo's own cache folder, and those that weights are downloaded into."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return {
        "zoo's cache": cache_folder(),
        "downloaded weights": weights_folder(),
        "Hugging Face cache": Path(HF_HUB_CACHE),
    }


def _place(folder: Path) -> str:
    """A folder, whether it can be written, and the room left."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    writable = "" if os.access(existing, os.W_OK) else ", not writable"
    return f"{folder} ({shutil.disk_usage(existing).free / 2**30:.0f} GB free{writable})"


def command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Look at all that zoo stands on: plugins (each component is imported), packages, devices, caches.

    The exit code is 1 when something is broken.

    Examples:

        zoo doctor
        zoo doctor --json
    """
    report: dict[str, Any] = {
        "plugins": plugins(),
        "packages": packages(),
        "machine": machine(),
    }
    report["ok"] = not troubles(report)
    print(json.dumps(report, indent=1) if as_json else as_text(report))
    raise SystemExit(0 if report["ok"] else 1)


def troubles(report: dict[str, Any]) -> list[str]:
    """What is broken and how to mend it, two lines each."""
    found = [(row["problem"], row["mend"]) for row in report["packages"] if row["problem"]]
    for plugin in report["plugins"]:
        source = f"{plugin['distribution']} {plugin['version']}"
        found += [
            (f"{row['name']}: {source} ({row['target']}): {row['cause']}", row["mend"]) for row in plugin["broken"]
        ]
    return [f"  {problem}\n    mend: {mend}" for problem, mend in found]


def as_text(report: dict[str, Any]) -> str:
    """The report for people; what is broken comes last, where the eye ends."""
    lines = ["plugins"]
    lines += [f"  {row['plugin']:20}{row['version']:10}{row['components']}" for row in report["plugins"]]
    lines += ["packages"]
    lines += [f"  {row['package']:20}{row['version'] or 'not installed'}" for row in report["packages"]]
    lines += ["machine"]
    lines += [f"  {key:20}{value}" for key, value in report["machine"].items()]
    found = troubles(report)
    return "\n".join([*lines, "broken" if found else "all is well", *found])
