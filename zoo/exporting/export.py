"""`zoo export`: one file that other programs run, compared with the network on held-out images before it is kept."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from zoo.checkpoint.load import load
from zoo.errors import InputError, WorkError, listed
from zoo.exporting.agreement import TOLERANCE, Agreement, compare
from zoo.exporting.formats import OPSET, describe_onnx, format_of, runner_of, write_onnx, write_pt2
from zoo.exporting.images import Source, find_source
from zoo.exporting.int8 import quantise
from zoo.exporting.program import Network, make_program, network_of
from zoo.formats.files import atomic_file, check_free, write_all
from zoo.installed import version
from zoo.model.assembly import Assembly
from zoo.model.prediction import prediction
from zoo.model.undisturbed import undisturbed
from zoo.recipe.options import DataOptions
from zoo.training.devices import process_kept
from zoo.training.labels import in_order, output_names

IMAGES, CALIBRATION, MAX_CHANGED = 500, 128, 0.05
CHUNK = 1 << 24


@dataclass
class Exported:
    """An exported file and how far its answers are from the network's.

    `description` is what the file says of itself: architecture, task, classes, preprocessing, what goes in and comes
    out. `calibration` is the number of training images that int8's ranges were measured on. `seconds` has the time of
    the export and of the comparison.
    """

    file: str
    format: str
    bytes: int
    sha256: str
    description: dict[str, Any]
    checked_on: str
    agreement: Agreement
    int8: bool = False
    calibration: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The document of `zoo export --json`."""
        opset = {"opset": OPSET} if self.format == "onnx" else {}
        about = {key: getattr(self, key) for key in ("file", "format", "bytes", "sha256", "int8", "calibration")}
        check = {"on": self.checked_on, **self.agreement.as_dict()}
        return {**about, **opset, **self.description, "check": check, "seconds": self.seconds, "notes": self.notes}

    def render(self) -> str:
        """For people: what was written, and what the comparison gave."""
        goes_in, comes_out = self.description["input"], self.description["output"]
        opset = f", opset {OPSET}" if self.format == "onnx" else ""
        return "\n".join(
            [
                f"wrote {self.file}, {self.bytes / 1e6:,.1f} MB{', int8' if self.int8 else ''}{opset}",
                f"  {goes_in['name']}: {goes_in['dtype']} {_shape(goes_in['shape'])} -> "
                f"{comes_out['name']}: float32 {_shape(comes_out['shape'])}",
                *(f"  {line}" for line in self.compared()),
            ]
        )

    def compared(self) -> Iterator[str]:
        """What the comparison gave, a line each."""
        found, what = self.agreement, self.description["output"]["name"]
        yield f"compared with torch on {self.checked_on}: largest difference of {what} {found.difference:.2g}"
        if self.description["task"] != "regression":
            yield f"changed labels: {found.changed} of {found.images}"
        if found.changed:
            rows = [
                f"{name} {row['changed']} of {row['images']}" for name, row in found.by_class.items() if row["changed"]
            ]
            yield f"by class: {listed(rows, 10)}"
        if found.pixels_compared:
            steps = f", by at most {found.pixel_steps} of 255" if found.pixels else ""
            yield f"preprocessed pixels that differ from zoo's: {found.pixels} of {found.pixels_compared:,}{steps}"


def _shape(axes: list[Any]) -> str:
    return f"[{', '.join(map(str, axes))}]"


@process_kept()
def export(
    checkpoint: str | os.PathLike[str] | Assembly,
    file: str | os.PathLike[str],
    *,
    preprocess: bool = False,
    softmax: bool = False,
    int8: bool = False,
    max_changed: float | None = None,
    data: str | DataOptions | None = None,
    images: int = IMAGES,
    calibration: int = CALIBRATION,
    overwrite: bool = False,
) -> Exported:
    """Write a checkpoint as ONNX or `.pt2`, compared with torch before it is kept; see `zoo.export`."""
    path = Path(file)
    _check_request(path, int8, max_changed, images, calibration, overwrite)
    kind = format_of(path)
    name = "the model" if isinstance(checkpoint, Assembly) else os.fspath(checkpoint)
    if not isinstance(checkpoint, Assembly) and path.exists() and os.path.samefile(path, checkpoint):
        raise InputError(f"{path} is the checkpoint itself", suggestion="name another file")
    assembly = checkpoint if isinstance(checkpoint, Assembly) else load(checkpoint)
    with undisturbed(assembly.model, training=False):
        source = find_source(name, assembly, data, images=images, calibration=calibration)
        if preprocess and source.features:
            raise InputError("the data are features, not images: there is no preprocessing", suggestion="leave it out")
        if preprocess and assembly.preprocessing.range is not None:
            message = "the network takes values of more than 8 bits, and an exported preprocessing takes bytes"
            raise InputError(message, suggestion="leave out --preprocess, and scale and normalise as the file says")
        if int8 and not source.training:
            reason = source.notes[0] if source.notes else "the data has too few images"
            raise InputError(f"int8 needs training images: {reason}", suggestion="name them: --data FOLDER")
        network = network_of(assembly, preprocess=preprocess, softmax=softmax)
        with tempfile.TemporaryDirectory(prefix="zoo-export-") as folder:
            made = _Export(network, assembly, source, kind, Path(folder))
            written = made.written(int8)
            found = made.compared(written)
            _require(found, assembly, int8=int8, limit=MAX_CHANGED if max_changed is None else max_changed)
            size, digest = _put(written, path)
    calibrated = len(source.training) if int8 else 0
    return Exported(
        os.fspath(file), kind, size, digest, made.description, source.said, found, int8, calibrated, made.seconds,
        list(source.notes),
    )  # fmt: skip


def _check_request(
    path: Path, int8: bool, max_changed: float | None, images: int, calibration: int, overwrite: bool
) -> None:
    if int8 and path.suffix == ".pt2":
        raise InputError("int8 is onnxruntime's", suggestion=f"name an ONNX file: {path.with_suffix('.onnx')}")
    if max_changed is not None and not int8:
        raise InputError("max_changed belongs to int8: of float32 no label may change", suggestion="--int8")
    if max_changed is not None and not 0 <= max_changed <= 1:
        raise InputError(f"max_changed is {max_changed}: a share from 0 to 1")
    if images < 1 or calibration < 1:
        raise InputError("one image at least is compared, and one calibrated with")
    check_free(path, overwrite=overwrite)


class _Export:
    """One export on its way, in a folder of its own."""

    def __init__(self, network: Network, assembly: Assembly, source: Source, kind: str, folder: Path) -> None:
        self.network, self.assembly, self.source, self.kind = network, assembly, source, kind
        self.folder = folder
        self.seconds: dict[str, float] = {}
        self.description = describe(network, assembly, source)

    def written(self, int8: bool) -> Path:
        """The finished file."""
        start, path = time.perf_counter(), self.folder / f"model.{self.kind}"
        name = self.assembly.architecture
        program = make_program(self.network, self.source.shape, name)
        raw = self.network.preprocess is not None
        if self.kind == "pt2":
            write_pt2(program, path, self.description)
        else:
            names = (self.description["input"]["name"], self.description["output"]["name"])
            write_onnx(program, path, names, name)
            if int8:
                float32, path = path, self.folder / "int8.onnx"
                quantise(float32, path, self.source, self.assembly.preprocessing, raw=raw)
            describe_onnx(path, self.description)
        self.seconds["export"] = round(time.perf_counter() - start, 2)
        return path

    def compared(self, path: Path) -> Agreement:
        """What the file and torch give for the same images."""
        start = time.perf_counter()
        assembly = self.assembly
        classes, task = assembly.classes, assembly.task
        judged = self.description.get("thresholds", ())
        found = compare(self.network, runner_of(path), self.source, task, classes, assembly.preprocessing, judged)
        self.seconds["comparison"] = round(time.perf_counter() - start, 2)
        return found


def describe(network: Network, assembly: Assembly, source: Source) -> dict[str, Any]:
    """What the file says of itself."""
    preprocessing = assembly.preprocessing
    shape: list[Any] = ["batch", *source.shape]
    if network.preprocess is not None:
        shape = ["batch", "height", "width", preprocessing.channels]
    name = "features" if source.features else "images"
    with torch.inference_mode():
        outputs = prediction(network.model(torch.zeros(1, *source.shape))).shape[1:]
    classes = assembly.classes if outputs == (len(assembly.classes),) else ()  # names of other outputs mislead
    if assembly.task == "regression" and len(outputs) == 1:
        classes = output_names(classes, outputs[0], assembly.task)
    raw = network.preprocess is not None
    gives = "values" if assembly.task == "regression" else "probabilities" if network.probabilities else "scores"
    return {
        "architecture": assembly.architecture,
        "task": assembly.task,
        "classes": list(classes),
        **_judged(assembly, outputs),
        "preprocessing": None if source.features else preprocessing.as_dict(),
        "input": {"name": name, "dtype": "uint8" if raw else "float32", "shape": shape, "preprocessed": not raw},
        "output": {"name": gives, "shape": ["batch", *outputs]},
        "written_by": {"zoo-kit": version("zoo-kit"), "torch": version("torch")},
    }


def _judged(assembly: Assembly, outputs: torch.Size) -> dict[str, Any]:
    """The threshold of each output of a multilabel network, in their order."""
    if assembly.task != "multilabel" or len(outputs) != 1:
        return {}
    return {"thresholds": list(in_order(assembly.thresholds, assembly.classes or tuple(map(str, range(outputs[0])))))}


def _require(found: Agreement, assembly: Assembly, *, int8: bool, limit: float) -> None:
    """Raises WorkError where the file's answers are not the network's: of float32 none may differ in its label.

    `limit` is the share of images whose label int8 may change; of a regression, which has no labels, how far a value
    may move, as a share of the largest.
    """
    said = (
        f"on {found.images} inputs {found.changed} labels change and outputs differ by up to {found.difference:.3g} "
        f"({found.relative:.1%} of the largest)"
    )
    if found.pixels:
        said += f"; {found.pixels} of {found.pixels_compared:,} preprocessed pixels differ"
    if found.unlike:
        raise WorkError(f"the exported network is another one: {found.unlike}", suggestion="nothing was written")
    if found.undefined:
        message = (
            f"the network gives no number (nan) for {found.undefined} of {found.images} inputs: nothing to compare"
        )
        raise WorkError(f"{message}; nothing was written", suggestion="where it comes from: zoo evaluate CHECKPOINT")
    share = found.relative if assembly.task == "regression" else found.share
    if int8 and share > limit:
        enough = min(math.ceil(share * 100) / 100, 1)
        raise WorkError(
            f"int8 changes too much: {said}; at most {limit:.1%} may change; nothing was written",
            suggestion=f"accept it: --max-changed {enough}; or calibrate on more images: --calibration",
        )
    if not int8 and (found.changed or found.relative > TOLERANCE):
        raise WorkError(f"the exported network does not give what torch gives: {said}; nothing was written")


def _put(written: Path, path: Path) -> tuple[int, str]:
    """Let the finished file take its place; its size and sha256."""
    digest, at = hashlib.sha256(), 0
    with atomic_file(path) as descriptor, open(written, "rb") as file:
        while block := file.read(CHUNK):
            write_all(descriptor, block, at)
            digest.update(block)
            at += len(block)
    return at, digest.hexdigest()
