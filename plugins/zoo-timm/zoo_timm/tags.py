"""The pretrained tags of an architecture, read from its file's table without executing it.

A slow test compares what is read here with `timm.list_pretrained()`.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

from zoo_timm.catalogue import names_by_file

_LOCATIONS = ("url", "file", "hf_hub_id")  # a row with one of these set has weights

Row = tuple[str, str, bool]  # architecture, tag, whether it has weights


class UnreadableError(Exception):
    """A table of pretrained tags is computed: only timm itself can say what stands in it."""


def read_tags(name: str) -> list[str]:
    """The tags of `name` that have weights, timm's default first.

    Raises UnreadableError where the table is not written out, KeyError for a name timm does not have.
    """
    for path, names in names_by_file().items():
        if name in names:
            rows, complete = _table(path)
            own = [row for row in rows if row[0] == name]
            if not own and not complete:
                raise UnreadableError(f"{path.name} adds rows by code")
            return _order(own)
    raise KeyError(name)


@functools.cache
def _table(path: Path) -> tuple[list[Row], bool]:
    """The rows of a file's `default_cfgs` in the order written, and whether no code adds others afterwards."""
    tree = ast.parse(path.read_bytes())
    assignments = (node for node in tree.body if isinstance(node, ast.Assign))
    values = [node.value for node in assignments if ast.unparse(node.targets[0]) == "default_cfgs"]
    if not values:
        return [], True
    locating = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and _locates(node)}
    return _rows(values[0], locating), not any(_changes(node) for node in ast.walk(tree))


def _locates(helper: ast.FunctionDef) -> bool:
    """Whether a helper writes a location into every row it makes: `_cfg(hf_hub_id='timm/', **kwargs)`."""
    keywords = (node for node in ast.walk(helper) if isinstance(node, ast.keyword))
    return any(k.arg in _LOCATIONS and isinstance(k.value, ast.Constant) and k.value.value for k in keywords)


def _changes(node: ast.AST) -> bool:
    """Whether a node writes into the table: `default_cfgs[…] = …`, `default_cfgs.update(…)`."""
    match node:
        case ast.Subscript(value=ast.Name(id="default_cfgs"), ctx=ast.Store()):
            return True
        case ast.Attribute(value=ast.Name(id="default_cfgs")):
            return True
    return False


def _rows(value: ast.expr, locating: set[str]) -> list[Row]:
    if isinstance(value, ast.Call) and value.args:
        value = value.args[0]  # generate_default_cfgs({…})
    if not isinstance(value, ast.Dict):
        raise UnreadableError("the table is computed")
    return [_row(key, made, locating) for key, made in zip(value.keys, value.values, strict=True)]


def _row(key: ast.expr | None, made: ast.expr, locating: set[str]) -> Row:
    if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
        raise UnreadableError("a row's name is computed")
    name, _, tag = key.value.partition(".")
    return name, tag, _has_weights(made, locating)


def _has_weights(made: ast.expr, locating: set[str]) -> bool:
    """Whether a row names a location: `_cfg('https://…')`, `_cfg(hf_hub_id=…)` or `{'url': …}`."""
    match made:
        case ast.Call(func=ast.Name(id=helper)) if helper in locating:
            return True
        case ast.Call(args=[first, *_]) if _is_set(first):
            return True
        case ast.Call(keywords=keywords):
            return any(keyword.arg in _LOCATIONS and _is_set(keyword.value) for keyword in keywords)
        case ast.Dict(keys=keys, values=values):
            pairs = zip(keys, values, strict=True)
            return any(isinstance(k, ast.Constant) and k.value in _LOCATIONS and _is_set(v) for k, v in pairs)
    raise UnreadableError("a row is computed")


def _is_set(value: ast.expr) -> bool:
    return not isinstance(value, ast.Constant) or bool(value.value)


def _order(rows: list[Row]) -> list[str]:
    """Tags with weights, the default first: the one marked `*`, else the first written."""
    starred = [tag for _, tag, located in rows if located and tag.endswith("*")]
    tags = [tag.strip("*") for _, tag, located in rows if located]
    if starred:
        default = starred[0].strip("*")
        tags = [default, *(tag for tag in tags if tag != default)]
    return tags
