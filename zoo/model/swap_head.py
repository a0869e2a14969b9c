"""The surgery `swap_head`: a new classifier for another number of classes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from zoo.contracts import Context
from zoo.errors import InputError, did_you_mean
from zoo.model.heads import classifies, find_heads, out_width, put_head
from zoo.model.module_spec import ModuleSpec
from zoo.model.paths import canonical, get_module, set_module, split
from zoo.model.shapes import ModuleShapes
from zoo.model.unstandardise import are_far
from zoo.model.wiring import runs_in_order
from zoo.remap.rules.adapt import plain


def swap_head(
    model: nn.Module,
    *,
    num_classes: int | None = None,
    module: ModuleSpec | None = None,
    dropout: float | None = None,
    bias: bool = True,
    path: str | None = None,
    heads: dict[str, ModuleSpec] | None = None,
    reuse: Literal["by_label"] | None = None,
    standardise: bool = True,
    context: Context | None = None,
) -> nn.Module:
    """Replace the classifier, whatever it is called, by one with `num_classes` outputs, one a class of the data without
    it.

    The new one is of the old one's kind (linear, or a 1x1 convolution), or `module`: an MLP, a plugin's layer. All
    around it stays, dropout too; `dropout` sets the probability of the one right in front of the head, or puts one
    there. A model with several heads (distilled transformers, auxiliary classifiers) gets a new one for each.
    `path` says where the head is when zoo should not look for it; `heads` gives the complete module at each path. With
    `reuse: by_label` classes that the model knows by name keep their scores, and only the others start afresh. Of a
    regression the new head gives standard deviations from the mean of the training targets, and a constant layer
    behind it puts them back into the targets' unit; `standardise: false` leaves that out.

    Raises InputError when there is no head, when the output does not have `num_classes` columns afterwards, or when
    there is nothing to reuse.
    """
    rows = _rows_by_label(num_classes, context) if reuse else None
    if num_classes is None and (num_classes := context.num_classes if context else None) is None:
        raise InputError("swap_head needs num_classes: there is no data to count the classes of")
    if num_classes < 1:
        raise InputError(f"num_classes is {num_classes}: a head gives one output at least")
    shapes = ModuleShapes(model, context)
    if heads is not None:
        chosen = {canonical(model, place): ModuleSpec.parse(spec) for place, spec in heads.items()}
    else:
        found = [canonical(model, path)] if path is not None else find_heads(model, shapes=shapes)
        unit = _unit(num_classes, context) if standardise else None
        chosen = {place: _head_spec(model, place, num_classes, module, dropout, bias, unit) for place in found}
    runs = heads is None and shapes.prediction() is not None
    old = {place: get_module(model, place) for place in chosen}
    places = {place: replace(shapes.place_of(place), out=num_classes) for place in chosen}
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    for rank, (place, spec) in enumerate(chosen.items()):
        put_head(model, place, spec.build(places[place], like=parameter), rank)
        if dropout is not None and (dropout_before := _dropout_in_front(model, place)):
            dropout_before.p = dropout
    if runs:
        _check_columns(model, num_classes, old, context)
    for place, before in old.items():
        _correct_num_classes(model, place, before, num_classes)
    if rows is not None:
        for place, before in old.items():
            _keep_rows(get_module(model, place), before, rows, place)
    if context is not None:
        context.resolved.update(num_classes=num_classes, heads=chosen, path=None, module=None, reuse=None)
    return model


def _unit(num_classes: int, context: Context | None) -> ModuleSpec | None:
    """The layer from standardised values to the targets' unit, for a regression whose targets are known to be far from
    what a fresh head gives."""
    if context is None or context.task != "regression" or len(context.target_std) != num_classes:
        return None
    if not are_far(context.target_mean, context.target_std):
        return None
    unit = {"mean": list(context.target_mean), "std": list(context.target_std)}
    said = (
        f"mean {context.target_mean[0]:g}, spread {context.target_std[0]:g}"
        if num_classes == 1
        else f"{num_classes} outputs"
    )
    context.notes.append(
        f"swap_head: the new head learns standardised targets ({said}) and gives them in their own unit"
    )
    return ModuleSpec("zoo/Unstandardise", unit)


def _rows_by_label(num_classes: int | None, context: Context | None) -> list[int | None]:
    """For each class of the data the model's output of that name, or None; what is new is noted."""
    new, old = (context.classes, context.model_classes) if context else ((), ())
    for known, whose in ((new, "the data's"), (old, "the model's")):
        if not known:
            hint = "go on from a checkpoint that knows its classes: model: {checkpoint: FILE}"
            raise InputError(f"reuse: by_label needs {whose} class names, and they are not known", suggestion=hint)
    if num_classes not in (None, len(new)):
        message = f"reuse: by_label gives an output a class of the data, {len(new)}, and num_classes is {num_classes}"
        raise InputError(message, suggestion="leave out num_classes")
    places: dict[str, list[int]] = {}
    for row, label in enumerate(old):
        places.setdefault(plain(label), []).append(row)
    rows = [places.get(plain(label), []) for label in new]
    if several := [label for label, found in zip(new, rows, strict=True) if len(found) > 1]:
        raise InputError(f"reuse: by_label: {several[0]!r} names several of the model's classes")
    if not any(rows):
        message = f"reuse: by_label: none of the data's {len(new)} classes is among the model's {len(old)}"
        raise InputError(message, suggestion=did_you_mean(new[0], old) or "leave out reuse: all of the head is new")
    if context is not None:
        fresh = [label for label, found in zip(new, rows, strict=True) if not found]
        what = f"; new, and initialised as usual: {', '.join(fresh)}" if fresh else ""
        context.notes.append(f"swap_head: {len(new) - len(fresh)} of {len(new)} classes keep their rows{what}")
    return [found[0] if found else None for found in rows]


def _keep_rows(head: nn.Module, old: Any, rows: list[int | None], path: str) -> None:
    """Copy the old head's rows into the new one. Raises InputError where they are not of one kind."""
    new: Any = next((module for module in reversed(list(head.modules())) if classifies(module)), head)
    alike = classifies(old) and classifies(new) and new.weight.shape[1:] == old.weight.shape[1:]
    if not alike or (old.bias is not None and new.bias is None):
        message = f"reuse: by_label: the new head at {path!r} is of another kind than the old one"
        raise InputError(message, suggestion="leave out module and bias, or leave out reuse")
    with torch.no_grad():
        for row, before in enumerate(rows):
            if before is not None:
                new.weight[row] = old.weight[before]
                if new.bias is not None:
                    new.bias[row] = 0 if old.bias is None else old.bias[before]


def _head_spec(
    model: nn.Module,
    path: str,
    num_classes: int,
    module: Any,
    dropout: float | None,
    bias: bool,
    unit: ModuleSpec | None,
) -> ModuleSpec:
    """The spec of the head at `path`, `unit` behind it; the width of its input is still open."""
    old = get_module(model, path)
    if module is not None:
        spec = ModuleSpec.parse(module).copy()
    elif isinstance(old, nn.modules.conv._ConvNd):
        arguments = {"out_channels": num_classes, "kernel_size": 1, "bias": bias}
        spec = ModuleSpec(f"Conv{len(old.kernel_size)}d", arguments)
    else:
        spec = ModuleSpec("Linear", {"out_features": num_classes, "bias": bias})
    row = [] if dropout is None or _dropout_in_front(model, path) else [ModuleSpec("Dropout", {"p": dropout})]
    row += [spec] if unit is None else [spec, unit]
    return spec if len(row) == 1 else ModuleSpec("Sequential", parts={str(at): part for at, part in enumerate(row)})


def _dropout_in_front(model: nn.Module, path: str) -> nn.Dropout | None:
    """The dropout that runs right before the module at `path` in a Sequential, if there is one."""
    parent, name = split(model, path)
    if not runs_in_order(parent):
        return None
    children = list(parent.named_children())
    position = [key for key, _ in children].index(name)
    before = children[position - 1][1] if position else None
    return before if isinstance(before, nn.Dropout) else None


def _check_columns(model: nn.Module, num_classes: int, old: dict[str, nn.Module], context: Context | None) -> None:
    """Run the model without computing; put the old heads back and raise InputError when it gives something else."""
    after = ModuleShapes(model, context)
    columns = after.prediction()
    if columns is not None and (columns[1:] == (num_classes,) or (len(columns), num_classes) == (1, 1)):
        return
    found = f"the output is {list(columns)}" if columns else str(after.furthest.error)
    for place, module in old.items():
        set_module(model, place, module)
    raise InputError(
        f"with a new head at {', '.join(map(repr, old))} the model does not give {num_classes} columns: {found}",
        suggestion="say where the head is: swap_head: {num_classes: …, path: …}",
    )


def _correct_num_classes(model: nn.Module, path: str, old: nn.Module, num_classes: int) -> None:
    """Correct what the model and the modules around the head say of the number of classes, as timm's and others do."""
    before = 0 if isinstance(old, nn.Identity) else out_width(old)
    for owner in _around(model, path):
        for attribute in ("num_classes", "num_labels"):
            number = getattr(owner, attribute, None)
            if number is not None and not isinstance(number, bool) and number == before:
                setattr(owner, attribute, num_classes)


def _around(model: nn.Module, path: str) -> Iterator[Any]:
    names = path.split(".")
    yield from (model.get_submodule(".".join(names[:depth])) for depth in range(len(names)))
    if (configuration := getattr(model, "config", None)) is not None:  # Hugging Face's models
        yield configuration
