"""The network of an exported file, as a program (`torch.export`): preprocessing, model and probabilities as asked."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from zoo.contracts import Preprocessing
from zoo.errors import InputError, WorkError, is_out_of_memory
from zoo.exporting.preprocess import Preprocess
from zoo.formats.files import FULL
from zoo.model.assembly import Assembly
from zoo.model.prediction import prediction

EXAMPLE_SIDES = (40, 52)  # of the images that the preprocessing is traced with; any other ones go, too


class Network(nn.Module):
    """What is exported: `images` or `features` in, one tensor out, the model's prediction or its probabilities.

    With `preprocessing` it takes uint8 images [n, h, w, c] of any size, else what the model takes. `probabilities` is
    "softmax", "sigmoid" or None.
    """

    def __init__(self, model: nn.Module, preprocessing: Preprocessing | None, probabilities: str | None) -> None:
        super().__init__()
        self.preprocess = Preprocess(preprocessing) if preprocessing is not None else None
        self.model = model
        self.probabilities = probabilities

    def forward(self, images: Tensor) -> Tensor:
        output = prediction(self.model(images if self.preprocess is None else self.preprocess(images)))
        return self.finished(output)

    def finished(self, output: Tensor) -> Tensor:
        """The model's prediction as the file gives it."""
        if self.probabilities == "softmax":
            return output.softmax(-1)
        return output.sigmoid() if self.probabilities == "sigmoid" else output


def network_of(assembly: Assembly, *, preprocess: bool, softmax: bool) -> Network:
    """The network to export, in evaluation mode. Raises InputError for a regression's probabilities."""
    if softmax and assembly.task == "regression":
        raise InputError("a regression gives values, not probabilities", suggestion="leave out --softmax")
    kind = ("softmax" if assembly.task == "classification" else "sigmoid") if softmax else None
    return Network(assembly.model, assembly.preprocessing if preprocess else None, kind).eval()


def make_program(network: Network, shape: tuple[int, ...], name: str) -> ExportedProgram:
    """The network as a program for batches of any size; `shape` is that of one of the model's inputs.

    Raises WorkError naming the architecture and the reason where torch.export cannot follow it.
    """
    batch = Dim("batch", min=1)
    if network.preprocess is None:
        example, dynamic = torch.zeros(2, *shape), {0: batch}
    else:
        sides = (*EXAMPLE_SIDES, network.preprocess.preprocessing.channels)
        example, dynamic = torch.zeros(2, *sides, dtype=torch.uint8), {0: batch, 1: Dim("height"), 2: Dim("width")}
    with quiet(), torch.no_grad(), explained(name, "torch.export"):
        return torch.export.export(network, (example,), dynamic_shapes=(dynamic,), strict=False)


@contextlib.contextmanager
def explained(name: str, by: str) -> Iterator[None]:
    """What an exporter raises as a WorkError with its first sentence: behind it come pages for its developers."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise
        if isinstance(error, OSError) and error.errno in FULL:
            message = f"{by} cannot write into {tempfile.gettempdir()}: {error.strerror}"
            hint = "make room, or name another folder: TMPDIR=…; nothing was written"
            raise WorkError(message, suggestion=hint) from error
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        lines = [line.strip() for line in str(root).splitlines() if line.strip(" -=*#\t")]
        reason = " ".join(lines[:2])[:300] if lines else "no reason given"
        message = f"{name} cannot be exported: {by} fails with {type(root).__name__}: {reason}"
        raise WorkError(
            message, suggestion="its forward does what a fixed graph cannot; nothing was written"
        ) from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the remarks that exporters make to their own developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                yield
    finally:
        logging.disable(before)
