"""`zoo.convert`: the conversion of a checkpoint with the architectures at its ends named.

torch is imported where an architecture is named, and not otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zoo.conversion import carry_out as files
from zoo.errors import InputError
from zoo.formats import Source
from zoo.remap.remaps import Match, Planned, Remap, classes_of, items
from zoo.remap.rules.adapt import AdaptClassesRule

if TYPE_CHECKING:
    from zoo.model.assembly import Assembly


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str] | None = None,
    remap: Remap = None,
    **options: Any,
) -> dict[str, Any]:
    """Convert `source` to the safetensors file `destination`; the document of `zoo convert --json`.

    `options` are those of `plan_and_convert`. Raises InputError for wrong input and WorkError where the plan, with its
    likely cause, or the work falls short; nothing is left behind then.
    """
    made = plan_and_convert(source, destination, remap, **options)
    if made.problems:
        raise made.error()
    return made.as_dict()


def plan_and_convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str] | None = None,
    remap: Remap = None,
    *,
    to: str | None = None,
    from_: str | None = None,
    to_arguments: Mapping[str, Any] | None = None,
    from_arguments: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    min_coverage: float | None = None,
    verify: bool = False,
    dry_run: bool = False,
    invert: bool = False,
    write_rules: str | os.PathLike[str] | None = None,
    trust_pickle: bool = False,
    key: str | None = None,
    verify_bytes: bool = True,
) -> files.Conversion:
    """Plan the conversion and carry it out where the plan is good enough (see `zoo.conversion.carry_out.convert`).

    Args:
        to: the architecture that the file shall fill, which it then describes; `to_arguments` are its own.
        from_: the architecture that the source is of; `--remap auto` and `verify` may run it.
        verify: run both architectures on one batch and compare them module by module before anything is written.
    """
    if verify and (to is None or from_ is None):
        raise InputError(
            "--verify compares two networks", suggestion="name both: --from ARCHITECTURE --to ARCHITECTURE"
        )
    end = None if to is None else Network(to, to_arguments or {})
    start = None if from_ is None else Network(from_, from_arguments or {})
    made = files.convert(
        source,
        destination,
        remap,
        towards=None if end is None else _towards(end),
        match=None if end is None else _matcher(start, end),
        verify=_verifier(start, end) if verify and start and end else None,
        dtype=dtype,
        min_coverage=min_coverage,
        invert_rules=invert,
        dry_run=dry_run,
        write_rules=write_rules,
        trust_pickle=trust_pickle,
        key=key,
        verify_bytes=verify_bytes,
    )
    if start is not None and not verify and "auto" not in items(remap):
        told = f"--from {from_} was not needed: --remap auto and --verify run it, and neither was asked for"
        made.planned = replace(made.planned, notes=(*made.planned.notes, told))
    return made


@dataclass(frozen=True)
class Network:
    """An architecture and its arguments; `network()` builds it anew, in memory or on `meta`."""

    architecture: str
    arguments: Mapping[str, Any]

    def __call__(self, device: str = "cpu") -> Assembly:
        from zoo.model.build import build

        return build(self.architecture, self.arguments, device=device)


def _matcher(start: Network | None, end: Network) -> Match:
    from zoo.conversion.running import matcher

    return matcher(start, end)


def _verifier(start: Network, end: Network) -> files.Verify:
    from zoo.conversion.running import verifier

    return verifier(start, end)


def _towards(network: Network) -> files.Towards:
    from zoo.checkpoint.metadata import encode
    from zoo.checkpoint.save import describe
    from zoo.model.load_into import target_of

    assembly = network("meta")

    def header(source: Source, planned: Planned) -> Mapping[str, str]:
        assembly.classes = _classes(source, planned)
        described = describe(assembly, tied=planned.plan.ties)
        return encode(described.model_copy(update={"converted_from": files.origin(source)}))

    return files.Towards(target_of(assembly.model), header)


def _classes(source: Source, planned: Planned) -> tuple[str, ...]:
    """The class names by row: those that a rule led to, else the source's own."""
    chosen = [rule.to for rule in planned.rules if isinstance(rule, AdaptClassesRule) and rule.to]
    return chosen[-1] if chosen else classes_of(source.metadata)
