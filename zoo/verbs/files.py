"""`zoo.merge`, `export` and `embed`: checkpoints, or models in memory, into files of other kinds."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from zoo.verbs.objects import PathLike, data_named, device_of, source_of

if TYPE_CHECKING:
    from torch import nn

    from zoo.conversion.merge import Merged, Method
    from zoo.exporting.embed import Embedded
    from zoo.exporting.export import Exported
    from zoo.remap.remaps import Remap


def merge(
    members: Sequence[PathLike],
    destination: PathLike,
    *,
    method: Method = "average",
    to: str | None = None,
    to_arguments: Mapping[str, Any] | None = None,
    remap: Remap = None,
    alpha: float | None = None,
    data: Any = None,
    device: str | None = None,
    batch_size: int | None = None,
    overwrite: bool = False,
) -> Merged:
    """Average checkpoints that were fine-tuned from one base into a zoo checkpoint, written complete or not at all.

    Args:
        members: two files or more. Zoo checkpoints of one architecture, or files in other layouts, which are brought
            into that of the first zoo checkpoint, or of `to`, by `remap` or else by the rules that `auto` finds. Heads
            are joined by class name.
        method: "average" (all alike), "greedy" (from the best down, while `data` says that it gets no worse) or
            "wise-ft" (`alpha` of the way from the first to the second).
        to, to_arguments: the architecture, where no member says it.
        alpha: of wise-ft: 0 is the first, 1 the second; without it the best on `data`, or 0.5.
        data: validation data, as `zoo.evaluate` takes it, never the test set: members and result are measured on it,
            batch norms estimated on its training part.
        overwrite: replace `destination` where it is there already.

    Raises InputError for members of other bases or structures, WorkError where the average is clearly worse on `data`
    than every member (a barrier) or writing fails. Nothing is left then.
    """
    from zoo.conversion.merge import merge as average

    with data_named(data) as named:
        return average(
            members, destination, method=method, to=to, to_arguments=to_arguments, remap=remap, alpha=alpha,
            data=named, device=device or "auto", batch_size=batch_size, overwrite=overwrite,
        )  # fmt: skip


def export(
    checkpoint: PathLike | nn.Module,
    file: PathLike,
    *,
    preprocess: bool = False,
    softmax: bool = False,
    int8: bool = False,
    max_changed: float | None = None,
    data: Any = None,
    images: int = 500,
    calibration: int = 128,
    overwrite: bool = False,
) -> Exported:
    """Write a checkpoint, or a model that zoo made, as a file that runs without zoo; it is compared with torch first.

    Args:
        file: `.onnx`, run by onnxruntime (`pip install "zoo-kit[export]"`), or `.pt2`, loaded by `torch.export.load`.
            Batches may have any size. It is written complete or not at all.
        preprocess: let the file take uint8 images [n, h, w, c] of any size: resizing, cropping and normalisation are in
            it. Without it the file takes what the network takes, float32 [n, c, h, w].
        softmax: let it give probabilities in place of logits (of a multilabel network by the sigmoid).
        int8: quantise the ONNX file, the ranges of activations measured on training images.
        max_changed: of int8, the share of images whose label may change, 0.05 without it. Of float32 none may.
        data: as for `zoo.evaluate`; the checkpoint's own without it. Where that is not there, random images take its
            place in the comparison, and `notes` says so; int8 is refused then.
        images, calibration: how many held-out images are compared, and how many training images int8 is calibrated on.
        overwrite: replace `file` where it is there already.

    Returns what was written, and `agreement`: the largest difference, changed labels, and those of each class. Raises
    InputError for a request that cannot be met, WorkError, and nothing is written, where the network cannot be exported
    or its answers are not torch's.
    """
    from zoo.exporting.export import export as write

    where = _on_the_cpu(source_of(checkpoint))
    with data_named(data) as named:
        return write(
            where, file, preprocess=preprocess, softmax=softmax, int8=int8, max_changed=max_changed, data=named,
            images=images, calibration=calibration, overwrite=overwrite,
        )  # fmt: skip


def embed(
    network: PathLike | nn.Module,
    data: Any,
    file: PathLike,
    *,
    module: str | None = None,
    weights: str | None = None,
    part: Literal["train", "validation", "test"] | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    overwrite: bool = False,
) -> Embedded:
    """Write what a module gives for each sample of a data set, with paths and labels; a batch at a time is in memory.

    Args:
        network: a checkpoint, the name of an architecture, which needs `weights`, or a model that zoo made.
        data: a folder of images (in class folders or not), a CSV file, the name of a data set, a recipe's file, or a
            data set as `zoo.finetune` takes it. Labels are the data's own; without any they are -1.
        file: `.safetensors`, `.npz` or `.parquet` (`pip install "zoo-kit[parquet]"`), written complete or not at all.
        module: the path of the module whose output is taken; without it the head's input is.
        part: of the data; all parts without it.
        device: where a checkpoint is run, "auto" by default; a model is run where it is.

    Returns what was written: `images`, `shape`, `module`, and `way`, how the features were computed. Raises InputError
    for a module that is not there, data that cannot be opened, and images that cannot be read.
    """
    from zoo.exporting.embed import embed as write

    with data_named(data) as named:
        return write(
            source_of(network), named, file, module=module, weights=weights, part=part, batch_size=batch_size,
            device=device_of(network, device), overwrite=overwrite,
        )  # fmt: skip


def _on_the_cpu(source: Any) -> Any:
    """A path as it is; of a model elsewhere a copy on the CPU, where files are compared."""
    if isinstance(source, str | os.PathLike) or all(p.device.type == "cpu" for p in source.model.parameters()):
        return source
    return replace(source, model=copy.deepcopy(source.model).cpu())
