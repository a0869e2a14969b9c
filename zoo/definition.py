"""A component's signature and docstring, read from its module's text where they stand there, else by importing it."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass
from typing import Any

from zoo import registry

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@dataclass(frozen=True)
class Described:
    """`signature` as one would write the call; `documentation` is the cleaned docstring."""

    signature: str
    documentation: str


def describe(component: registry.Component) -> Described:
    """What there is to read about a component. Raises InputError when it has to be imported and is broken."""
    if component.member is not None:
        return _of_source(component)
    name = component.name.rpartition("/")[2]
    if node := _definition(component.target):
        return Described(f"{name}{_written(node)}", ast.get_docstring(node) or "")
    loaded = registry.load(component)
    return Described(f"{name}{_inspected(loaded)}", inspect.getdoc(loaded) or "")


def _definition(target: str, depth: int = 4) -> Definition | None:
    """What `module:attribute` is, through `depth` times `from … import …`; None where the text does not tell."""
    attribute = target.partition(":")[2]
    for path in registry.module_files(target):
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, Definition) and node.name == attribute:
                return node
            if isinstance(node, ast.ImportFrom) and node.level == 0 and depth:
                for alias in node.names:
                    if (alias.asname or alias.name) == attribute:
                        return _definition(f"{node.module}:{alias.name}", depth - 1)
    return None


def _of_source(component: registry.Component) -> Described:
    """An architecture's arguments are those that its source's `build` takes beside the name."""
    build = registry.load_source(component).build
    return Described(f"{component.member}{_inspected(build, skip='name')}", inspect.getdoc(build) or "")


def _written(node: Definition) -> str:
    """The parameters as they stand in the text; for a class, those of its `__init__`."""
    if not isinstance(node, ast.ClassDef):
        return f"({ast.unparse(node.args)})"
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return f"({ast.unparse(part.args).removeprefix('self').removeprefix(', ')})"
    return "(…)"


def _inspected(loaded: Any, skip: str | None = None) -> str:
    try:
        signature = inspect.signature(loaded)
    except (TypeError, ValueError):
        return "(…)"
    kept = [parameter for name, parameter in signature.parameters.items() if name != skip]
    return str(signature.replace(parameters=kept, return_annotation=inspect.Signature.empty)).replace("'", "")
