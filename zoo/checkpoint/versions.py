"""Which versions of what made a checkpoint."""

from __future__ import annotations

import importlib.metadata
import re

from zoo import registry
from zoo.given import is_given
from zoo.model.assembly import Assembly


def versions(assembly: Assembly) -> dict[str, str]:
    """The distributions behind the architecture, the surgeries and the recipe's options, those they need directly, zoo
    and torch."""
    named = set(assembly.used)
    if not is_given(assembly.architecture):
        named.add(registry.resolve(assembly.architecture, "architectures").distribution)
    named |= {registry.resolve(record["surgery"], "surgeries").distribution for record in assembly.operations}
    needed = {_name(line) for distribution in named - {"zoo-kit"} for line in _requirements(distribution)}
    found = {name: version(name) for name in sorted(named | needed | {"zoo-kit", "torch"})}
    return {name: text for name, text in found.items() if text is not None}


def version(distribution: str) -> str | None:
    """The installed version, or None.

    A plugin counts as installed where zoo finds its components: Python looks for a folder of the distribution's name,
    and zoo goes by the name in its metadata.
    """
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        rows = (row for row in registry.entries() if row.distribution == distribution)
        return next((row.version for row in rows), None)


def _requirements(distribution: str) -> list[str]:
    try:
        lines = importlib.metadata.requires(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [line for line in lines if "extra ==" not in line]


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
