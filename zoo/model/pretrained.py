"""Pretrained weights into a model: found by name, checked, loaded through a plan, kept as its base; `zoo.build`."""

from __future__ import annotations

import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from zoo import registry
from zoo.contracts import Preprocessing, Weights
from zoo.errors import InputError, did_you_mean
from zoo.formats import open_source
from zoo.given import is_given
from zoo.model import build as building
from zoo.model.assembly import Assembly
from zoo.model.heads import find_heads
from zoo.model.info import attach
from zoo.model.input_fit import InputFit
from zoo.model.load_into import LoadReport, load_into
from zoo.model.preprocessing import for_arguments
from zoo.recipe.references import refer_to_weights, stated, tags_of
from zoo.remap.plan import MIN_COVERAGE
from zoo.remap.remaps import Planned, Remap, items
from zoo.remap.rules import Rule
from zoo.remap.rules.adapt import AdaptClassesRule
from zoo.remap.rules.base import AUTO


def find_weights(name: str, architecture: str, arguments: Mapping[str, Any] = types.MappingProxyType({})) -> Weights:
    """What `name` stands for: an installed weights component (which takes `arguments`), a tag of `architecture`, an
    address, or a file.

    Raises InputError for a name that is none of these, with the nearest ones that are.
    """
    component = registry.resolve(architecture, "architectures")
    if reference := refer_to_weights(name, component):
        return replace(reference, arguments=arguments).look_up(component.name)
    raise InputError(
        f"no weights are called {name!r}: neither an installed component, nor a tag of {architecture}, nor a file",
        suggestion=did_you_mean(name, [*registry.names("weights"), *tags_of(component)])
        or "see: zoo list --kind weights",
    )


def check_architecture(weights: Weights, architecture: str, remap: Remap = None) -> None:
    """Raises InputError where weights are for another architecture than the one of this full name, and no rules of the
    user's (`remap`, where `auto` is none) lead from one to the other."""
    if any(item != AUTO for item in items(remap)):
        return
    found = None if is_given(weights.architecture) else registry.find(weights.architecture, "architectures")
    meant = found.name if found else weights.architecture
    if meant != architecture:
        message = f"these weights are for {meant}; in {architecture} they give wrong answers even where they fit"
        hint = f"write architecture: {meant}, or a remap with rules; where it is meant as it is, remap: [{{keep: .}}]"
        raise InputError(message, suggestion=hint)


def build_arguments(weights: Weights | None, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What an architecture is built with: the arguments given, and those that the weights need beside them."""
    return {**(weights.arguments if weights is not None else {}), **arguments}


def prepared_for(weights: Weights, own: Preprocessing, arguments: Mapping[str, Any]) -> Preprocessing:
    """How images are prepared for a network built with `arguments`: as the weights say, else its `own` way. Of the
    arguments those count that are not the weights' own: these know their size."""
    changed = {key: value for key, value in arguments.items() if weights.arguments.get(key) != value}
    return for_arguments(weights.preprocessing or own, changed if weights.preprocessing else arguments)


def classes_after(weights: Weights, rules: Iterable[Rule], wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """The class names by output once weights were loaded by `rules`; () where they are not known.

    `wanted` are those that a rule without classes of its own picks.
    """
    chosen = [rule.to or tuple(wanted) for rule in rules if isinstance(rule, AdaptClassesRule)]
    return chosen[-1] if chosen else tuple(weights.classes or ())


def load_weights(
    assembly: Assembly,
    weights: str | Weights,
    remap: Remap = None,
    *,
    min_coverage: float = MIN_COVERAGE,
    ignore: Iterable[str] = (),
    ignore_head: bool = False,
    trust_pickle: bool = False,
    name: str | None = None,
    arguments: Mapping[str, Any] = types.MappingProxyType({}),
    classes: Sequence[str] = (),
    planned: Planned | None = None,
) -> LoadReport:
    """Fill `assembly.model` with pretrained weights, and set its `base_weights`, `preprocessing` and `classes`.

    Where it was built for images of another size or with other channels, positions are resampled and the first
    convolution is adapted; the report's notes say so.

    Args:
        weights: a name (see `find_weights`) or what it stands for.
        remap: rules behind those of the weights themselves.
        min_coverage: see `load_into`.
        ignore: module paths that need not be filled.
        ignore_head: ignore the classifier too, as it is about to be swapped.
        name: what the checkpoint calls them; without it the name that was given, or their location.
        arguments: those of the weights component of that name.
        classes: the class names wanted, by row, for `adapt_classes`.
        planned: see `load_into`.

    Raises InputError where the weights are for another architecture (whose shapes may be the same) or cannot be read,
    WorkError where less is loaded than asked for, or the file is not the one that was published.
    """
    found = find_weights(weights, assembly.architecture) if isinstance(weights, str) else weights
    check_architecture(found, assembly.architecture, remap)
    paths = [*ignore, *(find_heads(assembly.model) if ignore_head else [])]
    report = load_into(
        assembly.model,
        found.location,
        items(found.remap, remap),
        min_coverage=min_coverage,
        ignore=paths,
        classes=classes or assembly.classes,
        trust_pickle=trust_pickle,
        sha256=found.sha256,
        convert=found.convert,
        planned=planned,
        fit=InputFit(assembly.model, assembly.preprocessing, found.preprocessing),
    )
    if report.record is not None:  # of an address, which is known once it is here
        found = stated(found, report.record)
        check_architecture(found, assembly.architecture, remap)
    assembly.preprocessing = prepared_for(found, assembly.preprocessing, assembly.arguments)
    assembly.classes = classes_after(found, report.rules, classes) or assembly.classes
    called = name or (weights if isinstance(weights, str) else found.location)
    assembly.base_weights = _base_weights(found, called, arguments, report.rules, paths)
    return report


def _base_weights(
    found: Weights, name: str, arguments: Mapping[str, Any], rules: Iterable[Rule], ignored: list[str]
) -> dict[str, Any]:
    """What a checkpoint keeps of the weights that its model began with."""
    return {
        "name": name,
        "arguments": dict(arguments),
        "location": found.location,
        "sha256": digest(found),
        "remap": [rule.as_mapping() for rule in rules],
        "ignore": ignored,
        "license": found.license,
        "source": found.source,
    }


def digest(weights: Weights) -> str:
    """The complete sha256 of the weights' file."""
    if weights.sha256 is not None and len(weights.sha256) == 64:
        return weights.sha256.lower()  # compared with the file when it was opened
    with open_source(weights.location) as source:
        return source.sha256()


def build(
    architecture: str,
    *,
    weights: str | None = None,
    remap: Remap = None,
    min_coverage: float = MIN_COVERAGE,
    device: str | None = None,
    **arguments: Any,
) -> nn.Module:
    """A model by name, with fresh parameters or with `weights`; `model.zoo` has what is known about it.

    Args:
        architecture: `timm/resnet50`, or a bare name while it is unique. `arguments` are its own.
        weights: an installed weights component, a tag of the architecture, `hf://org/repo`, an address or a file.
        remap: rules for weights in another layout (see `zoo.load_into`).
        min_coverage: the share of the parameters that `weights` must fill.
        device: `meta` builds without memory (and then takes no weights).

    Raises InputError for what is not installed or does not fit, WorkError when too little was loaded.
    """
    found = None
    if weights is not None:
        found = find_weights(weights, architecture)
        check_architecture(found, registry.resolve(architecture, "architectures").name, remap)
    assembly = building.build(architecture, build_arguments(found, arguments), device=device)
    if found is not None:
        load_weights(assembly, found, remap, min_coverage=min_coverage, name=weights)
    return attach(assembly)
