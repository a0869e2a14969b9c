"""An ONNX file's network in 8 bits: onnxruntime's static quantisation, ranges measured on training images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zoo.contracts import Preprocessing
from zoo.exporting.formats import need
from zoo.exporting.images import Source, batches_of, file_input
from zoo.exporting.program import explained, quiet

# What does the work, and what lies between two of these so that values stay in 8 bits. Normalisation layers, softmax
# and the preprocessing stay as they are.
OPERATIONS = ("Conv", "Gemm", "MatMul", "Add", "Clip", "Relu", "MaxPool", "GlobalAveragePool", "AveragePool")


def quantise(source_path: Path, path: Path, source: Source, preprocessing: Preprocessing, *, raw: bool) -> None:
    """Write the network at `source_path` in 8 bits to `path`: weights int8 a channel, activations uint8.

    The ranges of activations are the smallest and largest values on the training images of `source`.
    """
    quantization: Any = need("onnxruntime.quantization")
    onnx = need("onnx")
    name = onnx.load(source_path, load_external_data=False).graph.input[0].name
    scaled = None if source.features else preprocessing
    feeds = ({name: file_input(batch, scaled, raw=raw)} for batch in batches_of(source.training, raw=raw))
    with quiet(), explained(path.name, "onnxruntime's quantisation"):
        quantization.quantize_static(
            str(source_path),
            str(path),
            _reader(quantization, feeds),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATIONS),
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )


def _reader(quantization: Any, feeds: Iterator[dict[str, Any]]) -> Any:
    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(feeds, None)

    return Reader()
