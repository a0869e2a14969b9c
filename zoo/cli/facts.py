"""What is known about architectures without building them: parameters, input size, and where their weights lie.

Counting parameters takes the library and a build without memory. `zoo list --parameters` does that once; what it found
is kept in the cache folder, one file a plugin, and counts while the plugin and the libraries under it keep their
versions. Whether weights are on this machine is looked up each time, by their files.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.cache import cache_folder
from zoo.errors import ZooError
from zoo.isolation import PluginError, guarded
from zoo.plugin_memory import answers_to
from zoo.plugin_process import WEIGHTS
from zoo.registry import Component

Location = tuple[str, str | None]  # of weights, and their sha256 where it is known
_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+))?(?:@.+)?")


@dataclass(frozen=True)
class Facts:
    """None is what is not known. `weights_here`: whether any pretrained weights of it are on this machine."""

    parameters: int | None = None
    input_size: tuple[int, int] | None = None
    weights_here: bool | None = None


def facts_of(row: Component) -> Facts:
    """What is known about a component; only architectures and weights have facts. Imports no torch."""
    if row.status != "ok" or row.kind not in ("architectures", "weights"):
        return Facts()
    if row.kind == "weights":
        return Facts(weights_here=_component_here(row))
    known = Table.of(row).rows.get(row.name)
    if _shipped().get(row.name):
        here: bool | None = True
    else:
        here = any(is_here(*place) for place in known["weights"]) if known else None
    if known is None:
        return Facts(weights_here=here)
    return Facts(known["parameters"], tuple(known["input_size"]), here)


@functools.cache
def _shipped() -> dict[str, bool]:
    """The architectures that weights components are made for, and whether any of these are on this machine."""
    found: dict[str, bool] = {}
    for row in registry.components("weights"):
        if row.status == "ok" and (place := _place(row)) is not None:
            found[place[0]] = found.get(place[0], False) or is_here(*place[1])
    return found


def _component_here(row: Component) -> bool | None:
    place = _place(row)
    return None if place is None else is_here(*place[1])


@functools.cache
def _place(row: Component) -> tuple[str, Location] | None:
    """The architecture of a weights component and where its file lies; None where the component does not say.

    What an earlier call found is taken while the file is still there: asking reads the list of a package's files.
    """
    if not row.is_own:
        (answer,) = answers_to([row.ask(WEIGHTS)])
        return _placed(answer.value) if answer.cause is None else None
    table = Table.of(row)
    known = table.rows.get(row.name)
    if known and ("://" in known["location"] or Path(known["location"]).exists()):
        return known["architecture"], (known["location"], known["sha256"])
    try:
        weights = guarded(registry.load(row), package=row.package)
        place = (weights.location, weights.sha256)
        architecture = registry.resolve(weights.architecture, "architectures").name
    except (PluginError, ZooError, AttributeError):  # a plugin's own trouble, which is zoo doctor's affair
        return None
    table.rows[row.name] = {"architecture": architecture, "location": place[0], "sha256": place[1]}
    table.write()
    return architecture, place


def _placed(said: dict[str, str | None]) -> tuple[str, Location] | None:
    """What a third party's weights say, with the full name of their architecture; None where that is not installed."""
    try:
        architecture = registry.resolve(said["architecture"] or "", "architectures").name
    except ZooError:
        return None
    return architecture, (said["location"] or "", said["sha256"])


def made_for(architecture: str) -> list[str]:
    """The weights components made for an architecture; those of broken plugins are left out."""
    rows = [row for row in registry.components("weights") if row.status == "ok"]
    return [row.name for row in rows if (place := _place(row)) is not None and place[0] == architecture]


def is_here(location: str, sha256: str | None = None) -> bool:
    """Whether the file at a path, or what `hf://…` or `https://…` names, can be read without a download."""
    if match := _HUB.fullmatch(location):
        return _in_hub_cache(match["repo"], match["file"])
    if "://" not in location:
        return Path(location).expanduser().exists()
    from zoo.formats.remote import place_of

    return place_of(location, sha256)[0].is_file()


def hub_cache() -> Path:
    """Where huggingface_hub keeps repositories, by the same environment variables."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if folder := os.environ.get(name):
            return Path(folder).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("HF_HOME") or os.path.join(base, "huggingface")).expanduser() / "hub"


def _in_hub_cache(repository: str, file: str | None) -> bool:
    from zoo.formats.sharded import WEIGHT_FILES

    snapshots = hub_cache() / f"models--{repository.replace('/', '--')}" / "snapshots"
    if not snapshots.is_dir():
        return False
    wanted = (file,) if file else WEIGHT_FILES
    return any((snapshot / name).exists() for snapshot in snapshots.iterdir() for name in wanted)


def measure(rows: Sequence[Component]) -> None:
    """Build the architectures among `rows` that are not known yet, and remember what they are. Imports torch.

    Progress goes to standard error where that is a terminal; one that cannot be built stays unknown. An interruption
    keeps what is done.
    """
    wanted = [row for row in rows if _is_unknown(row)]
    tables = {id(table): table for table in map(Table.of, wanted)}
    try:
        for number, row in enumerate(wanted, 1):
            _show(f"{number:,} of {len(wanted):,}: {row.name}")
            with suppress(PluginError):
                Table.of(row).rows[row.name] = guarded(functools.partial(_built, row))
    finally:
        _show("")
        for table in tables.values():
            table.write()


def _show(text: str) -> None:
    """One line of a terminal, over the one before."""
    if sys.stderr.isatty():
        print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)


def _is_unknown(row: Component) -> bool:
    return row.kind == "architectures" and row.status == "ok" and row.name not in Table.of(row).rows


def unknown(rows: Iterable[Component]) -> int:
    """How many architectures have not been measured."""
    return sum(map(_is_unknown, rows))


def _built(row: Component) -> dict[str, Any]:
    from zoo.model.build import build

    assembly = build(row.name, device="meta")
    parameters = sum(parameter.numel() for parameter in assembly.model.parameters())
    return {
        "parameters": parameters,
        "input_size": list(assembly.preprocessing.size),
        "weights": _locations(row),
    }


def _locations(row: Component) -> list[Location]:
    """Where the weights of an architecture's tags lie."""
    source: Any = registry.load_source(row)
    if row.member is None or not hasattr(source, "tags") or not hasattr(source, "weights"):
        return []
    weights = [source.weights(row.member, tag) for tag in source.tags(row.member)]
    return [(each.location, each.sha256) for each in weights]


class Table:
    """The facts of one plugin's components, by name, as long as it and what it needs keep their versions."""

    def __init__(self, path: Path, versions: dict[str, str]) -> None:
        self.path, self.versions = path, versions
        self.rows: dict[str, dict[str, Any]] = {}
        with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            document = json.loads(path.read_text(encoding="utf-8"))
            if document["versions"] == versions:
                self.rows = dict(document["rows"])

    @staticmethod
    def of(row: Component) -> Table:
        """The table that a component stands in."""
        return _table(row.distribution)

    def write(self) -> None:
        """Keep it for the next command; a cache that cannot be written costs that command its time, nothing else."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
            temporary.write_text(json.dumps({"versions": self.versions, "rows": self.rows}), encoding="utf-8")
            temporary.replace(self.path)


@functools.cache
def _table(distribution: str) -> Table:
    return Table(cache_folder() / "facts" / f"{distribution}.json", _versions(distribution))


def _versions(distribution: str) -> dict[str, str]:
    """The versions of a distribution and of those it needs directly."""
    found: dict[str, str] = {}
    with suppress(importlib.metadata.PackageNotFoundError, OSError):
        metadata = importlib.metadata.distribution(distribution)
        found[distribution] = metadata.version
        for line in metadata.requires or ():
            name = re.split(r"[^\w.-]", line, maxsplit=1)[0]
            if "extra ==" not in line:
                with suppress(importlib.metadata.PackageNotFoundError):
                    found[name] = importlib.metadata.version(name)
    return found


def forget() -> None:
    """Read everything again: the cache folder or what is installed has changed."""
    for cached in (_table, _place, _shipped):
        cached.cache_clear()
