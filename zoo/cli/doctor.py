"""`zoo doctor`: plugins (every component imported), packages, devices, caches; what is broken and how to mend it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo import plugin_switches, registry
from zoo.cache import cache_folder, weights_folder
from zoo.cli.list import as_dict, counts
from zoo.errors import any_of, printable
from zoo.installed import all_entries
from zoo.registry import KINDS, Component, Examined

Report = dict[str, Any]
SHOWN = ("torch", "torchvision", "timm", "transformers", "safetensors", "accelerate", "torchmetrics", "huggingface_hub")


def plugins() -> list[Report]:
    """One row a plugin: what it supplies, the components that are broken, with cause and mend, and what its import
    changes around itself. Third parties' components are imported in a process of their own."""
    rows = registry.components()
    found = sorted({(row.plugin, row.distribution, row.version) for row in rows})
    examined = registry.examine(_one_a_target(rows))
    return [_plugin(key, rows, examined) for key in found]


def _plugin(key: tuple[str, str, str], rows: list[Component], examined: list[Examined]) -> Report:
    own = [each for each in examined if _source(each.row) == key]
    broken = [each.row for each in own if each.row.status != "ok"]
    return {
        **dict(zip(("plugin", "distribution", "version"), key, strict=True)),
        "components": counts(row for row in rows if row.status == "ok" and _source(row) == key),
        "broken": [as_dict(row) | {"mend": registry.mend(row)} for row in broken],
        "changes": list(dict.fromkeys(change for each in own for change in each.changes)),
    }


def _source(row: Component) -> tuple[str, str, str]:
    return (row.plugin, row.distribution, row.version)


def _one_a_target(rows: list[Component]) -> list[Component]:
    """One row for each entry point: a source of 1,300 architectures is imported once."""
    return list({(row.kind, row.target, row.member is None and row.name): row for row in rows}.values())


def clashes() -> list[str]:
    """Bare names that stand for another component than a plugin may expect, a sentence each."""
    found = []
    for kind in KINDS:
        if kind in ("architectures", "datasets"):  # these are written in full
            continue
        for name, rows in _by_short(row for row in registry.entries() if row.kind == kind and row.status == "ok"):
            own = [row for row in rows if row.distribution == registry.CORE]
            others = [row for row in rows if row not in own]
            full = any_of(sorted({row.name for row in others}))
            who = " and ".join(sorted({f"{row.distribution} {row.version}" for row in others}))
            if own and others:
                found.append(f"{name} ({kind}) is {own[0].name}; the one of {who} needs its full name, {full}")
            elif len({row.name for row in others}) > 1:
                found.append(f"{name} ({kind}) is in {who}: write {full}")
    return found


def _by_short(rows: Iterable[Component]) -> list[tuple[str, list[Component]]]:
    found: dict[str, list[Component]] = {}
    for row in rows:
        found.setdefault(row.short, []).append(row)
    return [(name, those) for name, those in sorted(found.items()) if len(those) > 1]


def twice() -> list[tuple[str, str]]:
    """Each full name that several distributions supply, which makes it unusable, and how to mend that."""
    found: dict[tuple[str, str], list[Component]] = {}
    for row in sorted(registry.entries(), key=lambda row: row.distribution):
        if row.status == "ok":
            found.setdefault((row.kind, row.name), []).append(row)
    return [
        (
            f"{name} ({kind}) is supplied by {' and by '.join(f'{row.distribution} {row.version}' for row in rows)}",
            f"pip uninstall {rows[-1].distribution}",
        )
        for (kind, name), rows in found.items()
        if len(rows) > 1
    ]


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

    The exit code is 1 when something is broken. What a plugin changes in the process that imports it, and names that
    several plugins have, are remarks.

    Examples:

        zoo doctor
        zoo doctor --json
    """
    report: dict[str, Any] = {
        "plugins": plugins(),
        "packages": packages(),
        "machine": machine(),
    }
    report["clashes"] = clashes()
    report["off"] = [{"plugin": name, "why": why} for name, why in registry.switched_off().items()]
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
    found += twice()
    return [f"  {problem}\n    mend: {mend}" for problem, mend in found]


def as_text(report: dict[str, Any]) -> str:
    """The report for people; what is broken comes last, where the eye ends."""
    lines = ["plugins"]
    lines += [f"  {row['plugin']:20}{row['version']:10}{row['components']}" for row in report["plugins"]]
    lines += ["packages"]
    lines += [f"  {row['package']:20}{row['version'] or 'not installed'}" for row in report["packages"]]
    lines += ["machine"]
    lines += [f"  {key:20}{value}" for key, value in report["machine"].items()]
    remarks = _remarks(report)
    lines += ["remarks", *remarks] if remarks else []
    found = troubles(report)
    sound = "nothing is broken" if remarks else "all is well"
    return "\n".join(printable_lines([*lines, "broken" if found else sound, *found]))


def _remarks(report: dict[str, Any]) -> list[str]:
    """What is not broken and may surprise: names, changes, plugins that are switched off."""
    found = [f"  {clash}" for clash in report["clashes"]]
    for row in report["plugins"]:
        source = f"{row['distribution']} {row['version']}"
        found += [
            f"  {source} changes the process that imports it: {change} (zoo plugins disable {row['plugin']})"
            for change in row["changes"]
        ]
    found += [f"  {row['plugin']} is {row['why']}" for row in report["off"]]
    known = {row.plugin for row in all_entries()}
    strange = sorted(name for names in plugin_switches.named() for name in names if name not in known)
    return found + [f"  {plugin_switches.VARIABLE} names {name}, which is not installed" for name in strange]


def printable_lines(lines: Iterable[str]) -> list[str]:
    """The lines with what a terminal would obey spelled out."""
    return ["\n".join(map(printable, line.split("\n"))) for line in lines]
