"""`zoo inspect`: what a weight file is and what is in it, and what a network is made of.

Nothing in a file is run; torch is imported for zoo checkpoints and architectures alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from zoo.errors import printable

FEW = 40  # so many tensors are listed without being asked for
METADATA_WIDTH = 100


def command(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE|ARCHITECTURE", help="A file, a folder, hf://org/repo[/file] or https://…; or timm/resnet50."
        ),
    ],
    tree: Annotated[bool, typer.Option("--tree", help="Every module and tensor, with sizes.")] = False,
    depth: Annotated[int | None, typer.Option(metavar="N", min=1, help="Modules down to this depth.")] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Which of several state dicts or prefixes; `.` is all.")
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="An argument of ARCHITECTURE, like num_classes=10; repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Say what a weight file is and what is in it: kind, metadata, tensors, sizes; or what a network is made of.

    It reads .safetensors and zoo checkpoints, sharded checkpoints, what torch.save wrote (.pth, .pt, .bin, .ckpt), .npz
    and .npy. Pickled code is named, never run. Of a zoo checkpoint and of an architecture it draws the modules:
    parameters, shapes and multiply-accumulates for one image, and what was frozen, loaded, new or random. A line that
    stands for equal neighbours, 0-11 (12×), has the numbers of one of them.

    Examples:

        zoo inspect checkpoints/quickstart/model.safetensors
        zoo inspect resnet50-0676ba61.pth --tree
        zoo inspect hf://timm/resnet50.a1_in1k --json
        zoo inspect checkpoint.pth --key state_dict_ema
        zoo inspect timm/resnet50 --depth 2 --argument num_classes=10
    """
    from zoo.checkpoint.inspect import inspect
    from zoo.cli.convert import read_arguments

    described = inspect(file, key=key, arguments=read_arguments(argument, "--argument"))
    if as_json:
        print(json.dumps(described if depth is None else _cut(described, depth), indent=1))
        return
    for line in as_text(described, tree=tree, depth=depth):
        print(printable(line))
    if described["model"] is not None:
        _show_modules(described["model"], tree, depth)


def _cut(described: dict[str, Any], depth: int) -> dict[str, Any]:
    """Modules down to `depth`; of tensors all."""
    from zoo.cli.module_tree import cut

    model = described["model"]
    modules = [module for module in described["modules"] if _depth(module["path"]) <= depth]
    cut_down = model and model | {"tree": cut(model["tree"], depth)}
    return described | {"modules": modules, "model": cut_down}


def _show_modules(model: dict[str, Any], complete: bool, depth: int | None) -> None:
    from zoo.cli.module_tree import fitting_depth, show

    print()
    shown = depth or (None if complete else fitting_depth(model["tree"]))
    show(model, shown)
    if shown is not None and depth is None:
        print(f"(down to depth {shown}; --depth N and --tree show more, --json all there is)")


def as_text(described: dict[str, Any], *, tree: bool = False, depth: int | None = None) -> Iterator[str]:
    """The lines that people see; a network's modules come below them."""
    totals, model = described["totals"], described["model"]
    yield f"{described['file'] or model['architecture']}: {described['kind']}"
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
    if model is not None:
        from zoo.cli.module_tree import summary

        yield from summary(model)
    if totals["tensors"] and (tree or model is None):
        yield ""
        complete = tree or (depth is None and totals["tensors"] <= FEW)
        yield from _tree(described, complete, depth)
        if not complete and depth is None:
            yield "(--tree lists every tensor, --json all there is)"


def _record(described: dict[str, Any]) -> Iterator[str]:
    """The metadata: a zoo checkpoint's record field by field, other files' strings as they are."""
    record = described["zoo"] if isinstance(described["zoo"], dict) else {}
    rest = {key: value for key, value in described["metadata"].items() if key != "zoo" or not record}
    unseen = ("format", "digests", "tensor_digests")  # the record's own version, and what zoo verify compares
    told = [(key, value) for key, value in record.items() if key not in unseen]
    for key, value in [*told, *rest.items()]:
        if value in (None, "", [], {}):
            continue
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        cut = text if len(text) <= METADATA_WIDTH else f"{text[:METADATA_WIDTH]}… ({len(text):,} characters)"
        yield f"  {key:<12} {cut}"


def _tree(described: dict[str, Any], complete: bool, depth: int | None) -> Iterator[str]:
    """Modules with what lies below: down to `depth`, as deep as fits a screen, or `complete` with their tensors."""
    from zoo.formats.names import MAX_DEPTH, ancestors

    tensors: dict[str, list[dict[str, Any]]] = {}
    for tensor in described["tensors"]:
        tensors.setdefault(ancestors(tensor["name"])[-1], []).append(tensor)
    modules = [(module["path"], _depth(module["path"]), module) for module in described["modules"]]
    above = [sum(level <= depth for _, level, _ in modules) for depth in (1, 2, 3)]  # modules down to this depth
    fits = [level for level in (1, 2, 3) if level == 1 or above[level - 1] <= FEW]
    deepest = depth or (MAX_DEPTH if complete else max(fits))
    rows: list[tuple[str, str, int]] = []
    for path, level, module in modules:
        if path and level <= deepest:
            name = path.rpartition(".")[2]
            rows.append((f"{'  ' * level}{name}", count(module["tensors"], "tensor"), module["bytes"]))
        own = tensors.get(path, [])
        if (complete and level < deepest) or (not path and len(own) <= FEW):
            rows += [_leaf(tensor, level) for tensor in own]
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


def size(nbytes: int) -> str:
    """`512 B`, `3.1 MB`: powers of 1000."""
    if nbytes < 1000:
        return f"{nbytes} B"
    amount, units = nbytes / 1000, iter(("kB", "MB", "GB", "TB"))
    unit = next(units)
    while amount >= 999.5 and unit != "TB":
        amount, unit = amount / 1000, next(units)
    return f"{amount:.3g} {unit}"
