"""How far an exported file's answers are from those of the network, in eager torch, for the same images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from zoo.contracts import Preprocessing
from zoo.errors import WorkError
from zoo.exporting.formats import Runner
from zoo.exporting.images import Source, batches_of, file_input, network_input
from zoo.exporting.program import Network
from zoo.model.prediction import prediction
from zoo.training.labels import present

TOLERANCE = 0.01  # of the largest output: float32 rounds at 1e-6, and a difference above this is another network


@dataclass
class Agreement:
    """What was compared and found.

    `difference` is the largest one between two outputs, `relative` its share of the largest output; `changed` counts
    the images whose label is another one, `by_class` does so for each label of torch's: `{"images", "changed"}`.
    `pixels` are those of the preprocessed images that differ from zoo's own, of `pixels_compared`, by `pixel_steps` of
    255 at most. `unlike` says that one gave numbers where the other gave none, or other shapes; `undefined` counts the
    images for which the network itself gives no number (nan).
    """

    images: int = 0
    difference: float = 0.0
    largest: float = 0.0
    changed: int = 0
    by_class: dict[str, dict[str, int]] = field(default_factory=dict)
    pixels: int = 0
    pixels_compared: int = 0
    pixel_steps: int = 0
    unlike: str = ""
    undefined: int = 0

    @property
    def relative(self) -> float:
        return self.difference / self.largest if self.largest else self.difference

    @property
    def share(self) -> float:
        return self.changed / self.images if self.images else 0.0

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it; pixels only where any were compared."""
        values = {"images": self.images, "difference": self.difference, "relative": self.relative}
        values |= {"changed": self.changed, "changed_by_class": self.by_class}  # type: ignore[dict-item]
        if not self.pixels_compared:
            return values
        pixels = {"different": self.pixels, "of": self.pixels_compared, "largest": self.pixel_steps}
        return {**values, "pixels": pixels}


def compare(
    network: Network,
    run: Runner,
    source: Source,
    task: str,
    classes: Sequence[str],
    preprocessing: Preprocessing,
    thresholds: Sequence[float] = (),
) -> Agreement:
    """Run the file and the network on the held-out inputs of `source`; labels of a multilabel network are there from
    their `thresholds` on, 0.5 without.

    The first batch is run once more with its first image alone, doubled: a file that fits one number of images only
    does not get through.
    """
    found, raw = Agreement(), network.preprocess is not None
    scaled = None if source.features else preprocessing
    seen: Counter[str] = Counter()
    changed: Counter[str] = Counter()
    with torch.inference_mode():
        for number, batch in enumerate(batches_of(source.held_out, raw=raw)):
            expected = network.finished(prediction(network.model(network_input(batch, scaled)))).float()
            given = _checked(run(file_input(batch, scaled, raw=raw)), expected)
            if number == 0:
                _checked(run(file_input([batch[0]] * 2, scaled, raw=raw)), expected[[0, 0]])
            _add(found, expected, given)
            labels, differ = _labels(expected, given, task, network.probabilities is not None, thresholds)
            found.changed += int(differ.reshape(len(batch), -1).any(1).sum())
            _count(seen, changed, labels, differ, classes)
            if network.preprocess is not None:
                pixels = network.preprocess.fitted(torch.stack([one.raw for one in batch]))
                _add_pixels(found, pixels, torch.stack([one.fitted for one in batch]))
            found.images += len(batch)
    found.by_class = {name: {"images": seen[name], "changed": changed[name]} for name in seen}
    return found


def _checked(given: Any, expected: Tensor) -> Tensor:
    answer = torch.as_tensor(given)
    if answer.shape != expected.shape:
        message = f"the exported file gives {list(answer.shape)} where the network gives {list(expected.shape)}"
        raise WorkError(f"{message}: it does not take a batch of any size", suggestion="nothing was written")
    return answer.float()


def _add(found: Agreement, expected: Tensor, given: Tensor) -> None:
    finite = expected.isfinite() & given.isfinite()
    if not torch.isclose(expected[~finite], given[~finite], equal_nan=True).all():
        found.unlike = "one gives numbers where the other gives infinities or none"
    found.undefined += int(expected.isnan().reshape(len(expected), -1).any(1).sum())
    if finite.any():
        found.difference = max(found.difference, float((expected - given)[finite].abs().max()))
        found.largest = max(found.largest, float(expected[finite].abs().max()))


def _add_pixels(found: Agreement, pixels: Tensor, expected: Tensor) -> None:
    steps = (pixels - expected).abs()
    found.pixels += int((steps > 0).sum())
    found.pixels_compared += steps.numel()
    found.pixel_steps = max(found.pixel_steps, int(steps.max()))


def _labels(
    expected: Tensor, given: Tensor, task: str, probabilities: bool, thresholds: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """The network's labels, and whether each is another one in the file: indices [n], or of a multilabel set whether
    each label is there [n, k]. A regression has none."""
    if task == "classification":
        labels = expected.argmax(-1)
        return labels, labels != given.argmax(-1)
    if task == "regression":
        nothing = torch.zeros(len(expected), dtype=torch.bool)
        return nothing, nothing
    there, its = (present(each if probabilities else each.sigmoid(), thresholds) for each in (expected, given))
    return there, there != its


def _count(seen: Counter[str], changed: Counter[str], labels: Tensor, differ: Tensor, classes: Sequence[str]) -> None:
    """Of each class how many images have its label, and how many of them another one in the file."""
    if labels.dtype == torch.bool:
        if labels.ndim == 2:
            for place in range(labels.shape[1]):
                seen[_name(classes, place)] += int(labels[:, place].sum())
                changed[_name(classes, place)] += int(differ[:, place].sum())
        return
    rows, others = labels.reshape(len(labels), -1)[:, 0], differ.reshape(len(differ), -1).any(1)
    for label, other in zip(rows.tolist(), others.tolist(), strict=True):
        seen[_name(classes, label)] += 1
        changed[_name(classes, label)] += bool(other)


def _name(classes: Sequence[str], place: int) -> str:
    return classes[place] if place < len(classes) else str(place)
