"""Which versions of what made a checkpoint."""

from __future__ import annotations

from zoo import registry
from zoo.given import is_given
from zoo.installed import requirements, version
from zoo.model.assembly import Assembly


def versions(assembly: Assembly) -> dict[str, str]:
    """The distributions behind the architecture, the surgeries and the recipe's options, those they need directly, zoo
    and torch."""
    named = set(assembly.used)
    if not is_given(assembly.architecture):
        named.add(registry.resolve(assembly.architecture, "architectures").distribution)
    named |= {registry.resolve(record["surgery"], "surgeries").distribution for record in assembly.operations}
    needed = {name for distribution in named - {"zoo-kit"} for name in requirements(distribution)}
    found = {name: version(name) for name in sorted(named | needed | {"zoo-kit", "torch"})}
    return {name: text for name, text in found.items() if text is not None}
