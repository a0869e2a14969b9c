"""Checks what `weights:` and `remap:` name, without opening a file.

`weights` is, in this order: an installed weights component; a tag of the architecture; an address,
`hf://org/repo[/file][@revision]` or https; or a file, looked for beside the recipe first and then in the current
directory. `remap` is rules, an installed remap, a file of rules, an inline `OLD=NEW`, `auto`, or a list of these.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path as FilePath
from typing import Any

from zoo import registry
from zoo.errors import did_you_mean
from zoo.recipe.document import Document, Path, label

_ADDRESS = re.compile(r"hf://[\w.-]+/[\w.-]+(/[^@]+)?(@[\w./-]+)?|https?://[^/\s]+/\S+")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".npz", ".json")


def check_weights(document: Document, path: Path, component: registry.Component | None) -> str | None:
    """What to load from: the name as written, or the file's path as seen from the current directory."""
    name = document.get(path)
    if not isinstance(name, str):
        return None
    sources = [full for row in registry.components("weights") for full in (row.name, row.name.partition("/")[2])]
    tags = _tags(document, component)
    if name in sources or name in tags or _ADDRESS.fullmatch(name):
        return name
    if found := find_file(document, name):
        return found
    if name.startswith("hf://"):
        document.add(path, f"{label(path)}: {name} is not hf://ORG/REPO or hf://ORG/REPO/FILE")
    elif name.endswith(_SUFFIXES) or name.startswith(("/", ".", "~")):
        document.add(path, f"{label(path)}: there is no file {name}", _beside(document, name))
    else:
        document.add(path, f"{label(path)}: nothing is called {name!r}", _nearest(name, sources[::2], tags, component))
    return name


def check_remap(document: Document, path: Path) -> None:
    """Note a remap that is neither a list of rules nor anything that can be found. Rules are read by the plan."""
    remap = document.get(path)
    for index in range(len(remap)) if isinstance(remap, list) else ():
        check_remap(document, (*path, index))
    if not isinstance(remap, str) or remap == "auto" or re.search("[=:]", remap) or find_file(document, remap):
        return
    known = registry.names("remaps")
    if remap in [name for full in known for name in (full, full.partition("/")[2])]:
        return
    hint = did_you_mean(remap, ["auto", *known]) or "a remap is auto, a list of rules, OLD=NEW, a file or one installed"
    document.add(path, f"{label(path)}: no remap is called {remap!r}", hint)


def find_file(document: Document, name: str) -> str | None:
    """The file or folder called `name` beside the recipe, else in the current directory, else None."""
    return next(
        (found for folder in (FilePath(document.file).parent, FilePath()) if (found := is_file(name, folder))), None
    )


def is_file(name: str, folder: FilePath = FilePath()) -> str | None:
    """The path of the file or folder called `name` in `folder`, where there is one."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # no name for a file, or no such user's home
        candidate = folder / FilePath(name).expanduser()
        if candidate.exists():
            return str(candidate)
    return None


def _tags(document: Document, component: registry.Component | None) -> list[str]:
    """The tags of an architecture's pretrained weights."""
    if component is None or component.member is None:
        return []
    source: Any = registry.load_source(component)
    try:
        return list(source.tags(component.member)) if hasattr(source, "tags") else []
    except Exception as error:  # a plugin's code may fail in any way
        document.add(("model", "architecture"), f"{component.name}: its source fails to list weights: {error}")
        return []


def _nearest(name: str, sources: list[str], tags: list[str], component: registry.Component | None) -> str:
    if hint := did_you_mean(name, [*sources, *tags]):
        return hint
    if tags and component:
        return f"tags of {component.name}: {', '.join(tags[:5])}{', …' if len(tags) > 5 else ''}"
    return "an installed weights source, a file, or hf://ORG/REPO; see: zoo list --kind weights"


def _beside(document: Document, name: str) -> str:
    near: list[str] = []
    for folder in (FilePath(document.file).parent, FilePath()):
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            parent = folder / FilePath(name).parent.expanduser()
            near += [str(FilePath(name).parent / file.name) for file in parent.iterdir() if file.suffix in _SUFFIXES]
    return did_you_mean(name, near) or "paths count from the recipe's folder, then from the current directory"
