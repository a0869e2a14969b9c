"""The files that a program is written to: ONNX, run by onnxruntime, and torch's own `.pt2`."""

from __future__ import annotations

import contextlib
import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from zoo.errors import InputError, WorkError
from zoo.exporting.program import explained, quiet

OPSET = 20  # run by onnxruntime from 1.17 on
MOST_BYTES = 2**31 - 2**20  # of an ONNX file in one piece; a protobuf message has no more than 2 GB
SUFFIXES = (".onnx", ".pt2")
NEEDED = ("onnx", "onnxruntime", "onnxscript")
DESCRIPTION = "zoo.json"  # in a .pt2

Array = NDArray[Any]
Runner = Callable[[Array], Array]


def format_of(path: Path) -> str:
    """`onnx` or `pt2`. Raises InputError for another name, and where what writes that format is not installed."""
    if path.suffix not in SUFFIXES:
        hint = f"{path.with_suffix('.onnx')} or {path.with_suffix('.pt2')}"
        raise InputError(f"{path}: zoo exports to .onnx and .pt2", suggestion=hint)
    if path.suffix == ".onnx":
        for name in NEEDED:
            need(name)
    return path.suffix[1:]


def need(name: str, extra: str = "export") -> Any:
    """A module of an extra. Raises InputError that names the extra where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"{name} cannot be used: {error}", suggestion=f'pip install "zoo-kit[{extra}]"') from error


def write_onnx(program: ExportedProgram, path: Path, names: tuple[str, str], name: str) -> None:
    """Write a program as an ONNX file, whose input and output are called `names`.

    Raises WorkError naming the operation for which ONNX has nothing, or where the file would exceed 2 GB.
    """
    tensors = [*program.state_dict.values(), *program.constants.values()]
    size = sum(tensor.nbytes for tensor in tensors if isinstance(tensor, torch.Tensor))
    if size > MOST_BYTES:
        message = f"{name} has {size / 1e9:.1f} GB of weights, and an ONNX file has 2 GB at most"
        raise WorkError(message, suggestion=str(path.with_suffix(".pt2")))
    with quiet(), torch.no_grad(), explained(name, "torch.onnx"):
        made = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, verbose=False, input_names=[names[0]], output_names=[names[1]]
        )
        assert made is not None
        made.save(str(path), external_data=False)


def describe_onnx(path: Path, description: Mapping[str, Any]) -> None:
    """Write what the network is into the file's metadata_props, each value as JSON, and name its dynamic axes."""
    onnx = need("onnx")
    model = onnx.load(path)
    _name_axes(model)
    del model.metadata_props[:]
    for key, value in description.items():
        model.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    model.producer_name = "zoo"
    onnx.save(model, path)


def _name_axes(model: Any) -> None:
    """`batch`, `height` and `width` in place of the exporter's numbered names."""
    axes = model.graph.input[0].type.tensor_type.shape.dim
    names = {axis.dim_param: name for axis, name in zip(axes, ("batch", "height", "width"), strict=False)}
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in names and axis.dim_param:
                axis.dim_param = names[axis.dim_param]


def write_pt2(program: ExportedProgram, path: Path, description: Mapping[str, Any]) -> None:
    """Write a program as torch.export does, with what the network is as `zoo.json` among its extra files."""
    with quiet():
        torch.export.save(program, str(path), extra_files={DESCRIPTION: json.dumps(description, ensure_ascii=False)})


def runner_of(path: Path) -> Runner:
    """What runs a written file, arrays in and out: onnxruntime on the CPU, or torch."""
    if path.suffix == ".pt2":
        return _runs_pt2(path)
    runtime = need("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    with explained(path.name, "onnxruntime"):
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(values: Array) -> Array:
        with explained(path.name, "onnxruntime"):
            return np.asarray(session.run(None, {name: values})[0])

    return run


def _runs_pt2(path: Path) -> Runner:
    with quiet():
        module = torch.export.load(str(path)).module()

    def run(values: Array) -> Array:
        with contextlib.ExitStack() as stack, explained(path.name, "torch"):
            stack.enter_context(quiet())
            stack.enter_context(torch.no_grad())
            return np.asarray(module(torch.from_numpy(values)))

    return run
