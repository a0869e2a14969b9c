"""`zoo inspect`: what a weight file is and what is in it. Nothing in it is run; torch is not imported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

FEW = 40  # so many tensors are listed without being asked for
METADATA_WIDTH = 100


def command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file, a folder, hf://org/repo[/file] or https://…")],
    tree: Annotated[bool, typer.Option("--tree", help="Every module and tensor, with sizes.")] = False,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Which of several state dicts or prefixes; `.` is all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Say what a weight file is and what is in it: kind, metadata, tensors, sizes.

    It reads .safetensors and zoo checkpoints, sharded checkpoints, what torch.save wrote (.pth, .pt, .bin, .ckpt), .npz
    and .npy. Pickled code is named, never run.

    Examples:

        zoo inspect checkpoints/quickstart/model.safetensors
        zoo inspect resnet50-0676ba61.pth --tree
        zoo inspect hf://timm/resnet50.a1_in1k --json
        zoo inspect checkpoint.pth --key state_dict_ema
    """
    from zoo.checkpoint.inspect import inspect

    described = inspect(file, key=key)
    if as_json:
        print(json.dumps(described, indent=1))
    else:
        print("\n".join(printable(line) for line in as_text(described, tree=tree)))


def as_text(described: dict[str, Any], *, tree: bool = False) -> Iterator[str]:
    """The lines that people see."""
    totals = described["totals"]
    yield f"{described['file']}: {described['kind']}"
    if described["bytes_on_disk"] is not None:
        yield f"  on disk      {size(described['bytes_on_disk'])}"
    if totals["tensors"]:
        dtypes = ", ".join(f"{count:,} {dtype}" for dtype, count in totals["dtypes"].items())
        yield f"  tensors      {totals['tensors']:,} ({dtypes})"
        yield f"  elements     {totals['elements']:,}, {size(totals['bytes'])}"
    if described["wrappers"]:
        yield f"  wrappers     every name starts with {''.join(described['wrappers'])}"
    yield from _record(described)
    yield from (f"  tied         {alias} is {name}" for alias, name in described["aliases"].items())
    yield from (f"  note         {note}" for note in described["notes"])
    if described["refused"]:
        yield f"  names        {', '.join(described['refused'])}"
    if totals["tensors"]:
        yield ""
        complete = tree or totals["tensors"] <= FEW
        yield from _tree(described, complete)
        if not complete:
            yield "(--tree lists every tensor, --json all there is)"


def _record(described: dict[str, Any]) -> Iterator[str]:
    """The metadata: a zoo checkpoint's record field by field, other files' strings as they are."""
    record = described["zoo"] if isinstance(described["zoo"], dict) else {}
    rest = {key: value for key, value in described["metadata"].items() if key != "zoo" or not record}
    told = [(key, value) for key, value in record.items() if key != "format"]  # the record's own version
    for key, value in [*told, *rest.items()]:
        if value in (None, "", [], {}):
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        cut = text if len(text) <= METADATA_WIDTH else f"{text[:METADATA_WIDTH]}… ({len(text):,} characters)"
        yield f"  {key:<13}{cut}"


def _tree(described: dict[str, Any], complete: bool) -> Iterator[str]:
    """Modules with what lies below them: as deep as fits a screen, or `complete` with their tensors."""
    from zoo.formats.names import MAX_DEPTH, ancestors

    tensors: dict[str, list[dict[str, Any]]] = {}
    for tensor in described["tensors"]:
        tensors.setdefault(ancestors(tensor["name"])[-1], []).append(tensor)
    modules = [(module["path"], _depth(module["path"]), module) for module in described["modules"]]
    above = [sum(level <= depth for _, level, _ in modules) for depth in (1, 2, 3)]  # modules down to this depth
    fits = [depth for depth in (1, 2, 3) if depth == 1 or above[depth - 1] <= FEW]
    deepest = MAX_DEPTH if complete else max(fits)
    rows: list[tuple[str, str, int]] = []
    for path, depth, module in modules:
        if path and depth <= deepest:
            name = path.rpartition(".")[2]
            rows.append((f"{'  ' * depth}{name}", count(module["tensors"], "tensor"), module["bytes"]))
        own = tensors.get(path, [])
        if complete or (not path and len(own) <= FEW):
            rows += [_leaf(tensor, depth) for tensor in own]
        elif not path:
            rows.append(("  …", f"{count(len(own), 'tensor')} in no module", sum(tensor["bytes"] for tensor in own)))
    first, second = max(len(name) for name, _, _ in rows), max(len(what) for _, what, _ in rows)
    for name, what, nbytes in rows:
        yield f"{name:<{first}}  {what:<{second}}  {size(nbytes):>9}"


def _depth(path: str) -> int:
    return path.count(".") + 1 if path else 0


def _leaf(tensor: dict[str, Any], depth: int) -> tuple[str, str, int]:
    shape = "×".join(map(str, tensor["shape"])) or "scalar"
    name = tensor["name"].rpartition(".")[2]
    return f"{'  ' * (depth + 1)}{name}", f"{tensor['dtype']} {shape}", tensor["bytes"]


def count(number: int, what: str) -> str:
    """`1 tensor`, `2,000 tensors`."""
    return f"{number:,} {what}" + "s" * (number != 1)


def printable(line: str) -> str:
    """The line with control characters spelled out: names come from files, and a terminal obeys what it is sent."""
    if line.isprintable():
        return line
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in line)


def size(nbytes: int) -> str:
    """`512 B`, `3.1 MB`: powers of 1000."""
    if nbytes < 1000:
        return f"{nbytes} B"
    amount, units = nbytes / 1000, iter(("kB", "MB", "GB", "TB"))
    unit = next(units)
    while amount >= 999.5 and unit != "TB":
        amount, unit = amount / 1000, next(units)
    return f"{amount:.3g} {unit}"
