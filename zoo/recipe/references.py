"""What a recipe names, found and checked: components, weights, remaps, files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any

from zoo import registry
from zoo.contracts import Weights
from zoo.errors import InputError, Problem, ZooError, did_you_mean, listed
from zoo.formats import open_source
from zoo.formats.checkpoint_metadata import CheckpointMetadata, record_of
from zoo.formats.remote import PREFIX, check_address, fetch, fetched, is_address
from zoo.given import absent, is_given
from zoo.plugin_calls import call, expect, texts
from zoo.recipe.catalogue import (
    dotted,
    missing_plugin,
)
from zoo.recipe.document import Document, Path, label
from zoo.recipe.signature import Parameter, is_open, model_of, parameters
from zoo.recipe.validate import validate
from zoo.remap.remaps import meaning_of, rules_of

HANDED_OVER = ("context",)  # what zoo gives to a component that asks for it


_WORDS = {
    "architectures": "architecture",
    "datasets": "dataset",
    "freezing": "freezing policy",
    "surgeries": "step or surgery",
}


def find_component(
    document: Document, path: Path, name: str, kind: str, *, at_key: bool = False
) -> registry.Component | None:
    """The component called `name`, or None when there is none, which is then a problem at `path`."""
    try:
        found = registry.find(name, kind)
        if found is None and is_given(name):
            raise absent(kind, name)
        if found is None and (because := registry.why_absent(name, kind)):
            raise because
    except InputError as error:
        _note(document, path, error, at_key=at_key)
        return None
    if found is None:
        known = registry.short_names(kind, full="/" in name)
        hint = dotted(name, known) or did_you_mean(name, known) or f"see: zoo list --kind {kind}"
        document.add(path, f"no {_WORDS[kind]} is called {name!r}", hint, at_key=at_key)
    return found


def load(
    document: Document, path: Path, component: registry.Component, *, at_key: bool = False
) -> Callable[..., Any] | None:
    """The component itself, or None when its plugin is broken, which is then a problem at `path`."""
    try:
        loaded: Callable[..., Any] = registry.load(component)
    except InputError as error:
        _note(document, path, error, at_key=at_key)
        return None
    return loaded


def _note(document: Document, path: Path, error: ZooError, *, at_key: bool = False, prefix: str = "") -> None:
    place = document.key(path) if at_key else document.value(path)
    document.problems += [
        Problem(f"{prefix}{said.message}", said.location or place, said.suggestion) for said in error.problems
    ]


def parameters_of(loaded: Callable[..., Any], kind: str) -> dict[str, Parameter]:
    """What a recipe may give to a component of a kind: the model it works on is left out."""
    on_a_model = kind in ("surgeries", "freezing")
    return parameters(loaded, first=int(on_a_model), skip=HANDED_OVER, auto=kind == "surgeries")


def accepts_anything(loaded: Callable[..., Any]) -> bool:
    """Whether a component takes any argument, so that its own code has to judge them."""
    return is_open(loaded)


def unknown_step(document: Document, path: Path, name: str, built_in: list[str]) -> None:
    """Note that no step is called `name`, with what was meant: a built-in one, a surgery, or a policy that wants
    `freeze:` before it."""
    if because := registry.why_absent(name, "surgeries"):
        _note(document, path, because, at_key=True)
        return
    if registry.named(name, "freezing"):
        hint: str | None = f"write freeze: {name}"
    else:
        known = [*built_in, *registry.short_names("surgeries", full="/" in name)]
        hint = missing_plugin("steps", name) or did_you_mean(name, known) or f"steps: {', '.join(known)}"
    document.add(path, f"no {_WORDS['surgeries']} is called {name!r}", hint, at_key=True)


_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".npz", ".json")


@dataclass(frozen=True)
class WeightsReference:
    """What a weights name stands for: an installed component, a tag of an architecture, an address, or a file.

    `name` is what reports and checkpoints keep: the name as written, or the path at which its file was found.
    `component` is the weights component or, of a tag, the architecture; None of an address or a file. `arguments` are
    those that a recipe gives to a weights component.
    """

    name: str
    component: registry.Component | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_file(self) -> bool:
        """Whether it is a file or folder on this machine."""
        return self.component is None and not is_address(self.name)

    def look_up(self, architecture: str) -> Weights:
        """Where the weights lie and what they take; of an address or a file that says nothing, that they are for
        `architecture`, of a zoo checkpoint what it says of itself, and else what the architecture's source knows of it.

        No weights are fetched; a source may fetch a configuration that lies beside them. A tag's library is imported.
        Raises InputError when the plugin is broken, or a checkpoint was edited, WorkError when the plugin's code fails.
        """
        if self.component is None:
            weights = Weights(self.name, architecture)
            return described(weights) or known_to_source(weights) or weights
        component, loaded = self.component, registry.load_source(self.component)
        is_alone = component.kind == "weights"
        found = call(
            component,
            lambda: loaded(**self.arguments) if is_alone else loaded.weights(component.member, self.name),
            failing="fails to say where its weights are",
        )
        what = "returned" if is_alone else f"returned for the weights {self.name!r}"
        return expect(component, found, Weights, what=what)


def described(weights: Weights) -> Weights | None:
    """Weights with what a zoo checkpoint at their location says of itself: architecture, preprocessing and classes.

    None of what is not on this machine, or no zoo checkpoint. Raises InputError where the file was edited.
    """
    found = fetched(weights.location)
    if found is not None and found.is_dir():  # a run's, or a library's
        found = found / "model.safetensors"
    if found is None or found.suffix != ".safetensors" or not found.is_file():
        return None
    with open_source(found) as source:
        record = record_of(source)
    return None if record is None else stated(weights, record)


def known_to_source(weights: Weights) -> Weights | None:
    """What the source of the weights' architecture knows of a file, a folder or an address by what lies beside it."""
    component = None if is_given(weights.architecture) else registry.find(weights.architecture, "architectures")
    source: Any = registry.load_source(component) if component is not None and component.member is not None else None
    if component is None or not hasattr(source, "weights_at"):
        return None
    failing = f"fails to say what {weights.location} is"
    found = call(component, lambda: source.weights_at(component.member, weights.location), failing=failing)
    return None if found is None else expect(component, found, Weights, what="returned")


def stated(weights: Weights, record: CheckpointMetadata) -> Weights:
    """Weights with what a checkpoint says of itself."""
    prepared = None if record.preprocessing is None else record.preprocessing.as_contract()
    classes = tuple(record.classes) or None
    return replace(weights, architecture=record.architecture, preprocessing=prepared, classes=classes)


@dataclass(frozen=True)
class CheckpointReference:
    """A checkpoint that a recipe goes on from: where it was found, and what it says of itself."""

    path: str
    record: CheckpointMetadata


def check_checkpoint(document: Document, path: Path) -> CheckpointReference | None:
    """The checkpoint named at `path`, a file, a run's folder, or one on the hub, which is fetched; None for a mistake,
    which is noted."""
    name = document.get(path)
    if not isinstance(name, str):
        return None
    found = _pushed(document, path, name) if is_address(name) else find_file(document, name)
    if found is not None and FilePath(found).is_dir():
        found = is_file("model.safetensors", FilePath(found))
    if found is None:
        if not is_address(name):
            document.add(path, f"{label(path)}: there is no checkpoint {name}", _beside(document, path, name))
        return None
    try:
        with open_source(found) as source:
            if (record := record_of(source)) is None:
                hint = f"write architecture: … and weights: {name}"
                raise InputError(f"{label(path)}: {found} is no zoo checkpoint", suggestion=hint)
    except InputError as error:
        _note(document, path, error)
        return None
    return CheckpointReference(found, record)


def _pushed(document: Document, path: Path, address: str) -> str | None:
    """The local copy of a checkpoint on the hub; None for another address, and where it cannot be had, as noted.

    What a recipe with one means stands in the file, so it is fetched when the recipe is read.
    """
    if not address.startswith(PREFIX):
        hint = "download it and write its path, or write architecture and weights"
        document.add(path, f"{label(path)}: {address} is an address; this is a file on this machine or hf://", hint)
        return None
    try:
        return str(fetch(address))
    except ZooError as error:
        _note(document, path, error)
        return None


def refer_to_weights(
    name: str, architecture: registry.Component | None, folders: Iterable[FilePath] = (FilePath(),)
) -> WeightsReference | None:
    """What `name` stands for, in this order: a component, a tag of `architecture`, an address, a file in one of the
    `folders`. None where it is none of them.

    Raises InputError for an ambiguous or broken component, and for an address that nothing can be fetched from.
    """
    if component := registry.find(name, "weights"):
        return WeightsReference(name, component)
    if name in tags_of(architecture):
        return WeightsReference(name, architecture)
    if is_address(name):
        check_address(name)
        return WeightsReference(name)
    found = next((path for folder in folders if (path := is_file(name, folder))), None)
    return WeightsReference(found) if found is not None else None


def tags_of(architecture: registry.Component | None) -> list[str]:
    """The tags of an architecture's pretrained weights. Raises WorkError when its source fails to list them."""
    if architecture is None or architecture.member is None:
        return []
    source: Any = registry.load_source(architecture)
    if not hasattr(source, "tags"):
        return []
    failing = "fails to list its weights"
    found = call(architecture, lambda: source.tags(architecture.member), failing=failing, error=InputError)
    return texts(architecture, found, "a list of names", what="returned for its tags")


def check_weights(document: Document, path: Path, architecture: registry.Component | None) -> WeightsReference | None:
    """What the weights' name at `path` stands for; None where there is no name, and for a mistake, which is noted."""
    name = document.get(path)
    if isinstance(name, dict) and len(name) == 1:
        return _check_weights_arguments(document, path, *next(iter(name.items())))
    if not isinstance(name, str):
        if isinstance(name, dict):
            document.add(path, f"{label(path)}: expected one name, got {len(name)}", "write weights: {NAME: {…}}")
        return None
    try:
        found = refer_to_weights(name, architecture, _folders(document))
        if found is None and (because := registry.why_absent(name, "weights")):
            raise because
        if found is None:
            document.add(path, *_no_weights(document, path, name, architecture))
    except InputError as error:
        _note(document, path, error, prefix=f"{label(path)}: ")
        return None
    if found is not None and found.component is not None and found.component.kind == "weights":
        return _check_weights_arguments(document, path, name, None)
    return found


def _check_weights_arguments(document: Document, path: Path, name: str, arguments: Any) -> WeightsReference | None:
    """The weights component called `name`, with arguments that its signature takes; mistakes are noted."""
    inner: Path = (*path, name) if isinstance(document.get(path), dict) else path
    try:
        component = registry.find(name, "weights")
    except InputError as error:
        _note(document, inner, error, at_key=inner != path, prefix=f"{label(path)}: ")
        return None
    if component is None:
        hint = did_you_mean(name, registry.names("weights")) or "see: zoo list --kind weights"
        document.add(inner, f"{label(path)}: no weights component is called {name!r}", hint, at_key=True)
        return None
    loaded = load(document, inner, component, at_key=inner != path)
    if loaded is None or not isinstance(arguments, dict | None):
        return None
    known = parameters_of(loaded, "weights")
    if lacking := [key for key, parameter in known.items() if parameter.required and key not in (arguments or {})]:
        hint = f"write weights: {{{name}: {{{', '.join(f'{key}: …' for key in lacking)}}}}}"
        document.add(inner, f"{label(path)}: {name} needs {', '.join(lacking)}", hint)
        return None
    model = model_of(known, extra="allow" if is_open(loaded) else "forbid")
    if arguments and validate(document, inner, model, arguments) is None:
        return None
    return WeightsReference(name, component, arguments or {})


def _no_weights(
    document: Document, path: Path, name: str, architecture: registry.Component | None
) -> tuple[str, str | None]:
    """The message and the hint for a name that no weights have."""
    if name.endswith(_SUFFIXES) or name.startswith(("/", ".", "~")):
        return f"{label(path)}: there is no file {name}", _beside(document, path, name)
    return f"{label(path)}: nothing is called {name!r}", _nearest(name, architecture)


def check_remap(document: Document, path: Path) -> Any:
    """The remap at `path`, a file of rules by the path at which it was found; mistakes in its rules are noted."""
    remap = document.get(path)
    if isinstance(remap, list):
        return [_check_item(document, (*path, index), item) for index, item in enumerate(remap)]
    return None if remap is None else _check_item(document, path, remap)


def _check_item(document: Document, path: Path, item: Any) -> Any:
    if meaning_of(item) in ("file", "installed") and (found := find_file(document, item)) and FilePath(found).is_file():
        item = found
    meaning = meaning_of(item)
    if meaning == "auto":
        return item
    try:
        if meaning == "installed" and registry.find(item, "remaps") is None:
            hint = did_you_mean(item, ["auto", *registry.names("remaps")])
            hint = hint or "a remap is auto, a list of rules, OLD=NEW, a file or one installed"
            document.add(path, f"{label(path)}: no remap is called {item!r}", hint)
        else:
            rules_of(item, lambda inner: document.value((*path, *inner)))
    except ZooError as error:
        _note(document, path, error)
    return item


def _folders(document: Document) -> tuple[FilePath, ...]:
    """Where a recipe's files are looked for: beside it, beside what it extends, then in the current directory."""
    return (*dict.fromkeys(FilePath(source).parent for source in document.sources), FilePath())


def find_file(document: Document, name: str) -> str | None:
    """The file or folder called `name` beside the recipe, else in the current directory, else None."""
    return next((found for folder in _folders(document) if (found := is_file(name, folder))), None)


def is_file(name: str, folder: FilePath = FilePath()) -> str | None:
    """The path of the file or folder called `name` in `folder`, where there is one."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # no name for a file, or no such user's home
        candidate = folder / FilePath(name).expanduser()
        if candidate.exists():
            return str(candidate)
    return None


def _nearest(name: str, architecture: registry.Component | None) -> str:
    tags = tags_of(architecture)
    if hint := did_you_mean(name, [*registry.names("weights"), *tags]):
        return hint
    if tags and architecture:
        return f"tags of {architecture.name}: {listed(tags)}"
    return "an installed weights source, a file, or hf://ORG/REPO; see: zoo list --kind weights"


def _beside(document: Document, path: Path, name: str) -> str:
    near: list[str] = []
    for folder in _folders(document):
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            parent = folder / FilePath(name).parent.expanduser()
            near += [str(FilePath(name).parent / file.name) for file in parent.iterdir() if file.suffix in _SUFFIXES]
    elsewhere = f"paths count from the recipe's folder, then from the current directory; --set {label(path)}=PATH"
    return did_you_mean(name, near) or elsewhere
