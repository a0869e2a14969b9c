"""What a model gives for held-out samples, one row a sample: made once, and then what every number is computed from."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.state import PartialState
from accelerate.utils import gather_object
from torch import Tensor, nn

from zoo.data.open_data import OpenData, Part
from zoo.data.samples import Samples
from zoo.errors import InputError, listed
from zoo.formats.files import atomic_file, write_all
from zoo.model.undisturbed import undisturbed
from zoo.training.labels import class_of, in_order, output_names, present
from zoo.training.losses import Loss
from zoo.training.metrics import explained
from zoo.training.micro_batches import InParts
from zoo.training.tta import PLAIN, Views

MOST_COLUMNS = 100  # classes up to which predictions.csv has all outputs


@dataclass(frozen=True)
class Predictions:
    """A model's outputs for samples, in the order of their parts and of the data set, on the CPU.

    `outputs` are the network's own, float32 [n, k]: logits, or the values of a regression. `targets` are as the data
    gives them: class indices [n], or float32 [n, k]. `parts` and `names` say of each sample which part of the data it
    is in and what it is called: its file's path, or its index in the data set. `classes` are the names of the outputs;
    `thresholds` the probability from which on each label of a multilabel set counts as there, 0.5 where there are none.
    """

    outputs: Tensor
    targets: Tensor
    parts: tuple[str, ...]
    names: tuple[str, ...]
    classes: tuple[str, ...]
    task: str
    thresholds: tuple[float, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def of(self, part: str) -> Predictions:
        """Those of one part alone."""
        chosen = [place for place, its in enumerate(self.parts) if its == part]
        return replace(
            self,
            outputs=self.outputs[chosen],
            targets=self.targets[chosen],
            parts=tuple(self.parts[place] for place in chosen),
            names=tuple(self.names[place] for place in chosen),
        )

    def judged(self, thresholds: Mapping[str, float]) -> Predictions:
        """The same with a label's threshold by its name, as an assembly has them."""
        return replace(self, thresholds=in_order(thresholds, self.class_names) if thresholds else ())

    @property
    def class_names(self) -> tuple[str, ...]:
        """The outputs' names, or `output_names`', where they have none."""
        return output_names(self.classes, self.outputs[0].numel(), self.task)

    @property
    def labels(self) -> Tensor:
        """The class of each sample, int64 [n]; of soft targets the likeliest one."""
        return class_of(self.targets)

    @property
    def present(self) -> Tensor:
        """Which labels of a multilabel set each sample is said to have, bool [n, k]."""
        return present(self.scores, self.thresholds)

    @property
    def scores(self) -> Tensor:
        """Probabilities [n, k], of each class (classification) or of each label by itself; a regression's values."""
        if self.task == "regression":
            return self.outputs
        return self.outputs.softmax(-1) if self.task == "classification" else self.outputs.sigmoid()


class _Answered(NamedTuple):
    """One batch's: its number and samples, what the network gave for them, and what the data says of them."""

    number: int
    positions: list[int]
    outputs: Tensor
    targets: Tensor


def predict_parts(
    model: nn.Module,
    data: OpenData,
    parts: Sequence[Part],
    device: torch.device,
    *,
    batch_size: int | None = None,
    alone: bool = False,
    views: Views = PLAIN,
) -> Predictions:
    """The predictions of `model`, in evaluation mode and as it is, for the samples of `parts`.

    With `views` (test-time augmentation) the outputs are those of the views, averaged.
    Several processes take whole batches in turn, unless one of them works `alone`, and each gets all predictions: the
    batches, and so the numbers to their last digit, are those of one process.
    Raises InputError for samples that cannot be read, WorkError where the network fails.
    """
    processes = PartialState()
    rank, world = (0, 1) if alone else (processes.process_index, processes.num_processes)
    found: list[tuple[Part, _Answered]] = []
    size, data = data.preprocessing.size, views.data(data)
    forward = InParts(model)
    answered = lambda images: views.outputs(forward, images, data.task, size)  # noqa: E731
    with explained("measuring"), undisturbed(model, training=False), torch.inference_mode():
        for part in parts:
            found += [(part, row) for row in _answers(answered, data, part, device, batch_size, rank, world)]
    if world > 1:
        found = sorted(gather_object(found), key=lambda row: (parts.index(row[0]), row[1].number))
    names = {part: sample_names(data.parts[part]) for part in parts}
    return Predictions(
        torch.cat([row.outputs for _, row in found]),
        torch.cat([row.targets for _, row in found]),
        tuple(part for part, row in found for _ in row.positions),
        tuple(names[part][position] for part, row in found for position in row.positions),
        data.classes,
        data.task,
    )


def _answers(
    answered: Callable[[Tensor], Tensor],
    data: OpenData,
    part: Part,
    device: torch.device,
    batch_size: int | None,
    rank: int,
    world: int,
) -> Iterator[_Answered]:
    """What the network gives for this process's batches of a part."""
    images = data.batches(part, device=device, shuffle=False, augment=False, once=True, batch_size=batch_size)
    images.order.take_turns(rank, world)
    for number, batch in enumerate(images.epoch(0)):
        outputs = answered(batch.inputs).cpu()
        yield _Answered(number * world + rank, batch.positions.tolist(), outputs, batch.targets.cpu())


def sample_names(samples: Samples) -> list[str]:
    """What each sample is called: its file's path where the data set lists files, else its index in the data set."""
    indices, dataset = samples.indices.tolist(), samples.dataset
    listed = getattr(dataset, "inputs", None)
    if listed is None:  # torchvision's folders have pairs of path and class index
        pairs = getattr(dataset, "samples", None)
        listed = [pair[0] for pair in pairs if isinstance(pair, tuple)] if isinstance(pairs, list) else []
    listed = listed if isinstance(listed, list | tuple) else []
    if len(listed) != len(dataset) or not isinstance(listed[0], str | os.PathLike):
        return [str(index) for index in indices]
    return [os.fspath(listed[index]) for index in indices]


def written_name(name: str) -> str:
    """A sample's name as predictions.csv has it: what of a file's name is no text is written as `\\xNN`."""
    return name.encode("utf-8", "backslashreplace").decode()


def is_formula(name: str) -> bool:
    """Whether a spreadsheet would take a cell with this name for a formula. Files have names as they are, so that every
    reader gets them back; what is dangerous is said in place of being changed."""
    if not name.startswith(("=", "+", "-", "@", "\t", "\r")):
        return False
    try:
        float(name)
    except ValueError:
        return True
    return False


def formula_warning(file: str, names: Iterable[str]) -> str | None:
    """What to say of a table with these names in its cells."""
    if not (found := list(dict.fromkeys(filter(is_formula, names)))):
        return None
    return f"{file}: a spreadsheet takes {listed(map(repr, found), 3)} for formulas: import these columns as text"


def write_predictions(path: Path, predictions: Predictions, loss: Loss) -> None:
    """Write them as a CSV file, a row a sample, from which every metric can be computed again.

    Columns: `image` (path or index), `part`; `class`, `predicted` (names), `probability` (of the predicted class),
    `margin` (to the second likeliest), `loss`, and `weight` where classes have weights in the loss; of a multilabel set
    or a regression `target: NAME` in place of the first four, of soft targets beside them; and, up to 100 of them,
    `output: NAME`, the network's own outputs. Numbers have all their digits: the float32 values exactly, also where
    they are read as float64.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(_rows(predictions, loss))
    with atomic_file(path) as file:
        write_all(file, text.getvalue().encode("utf-8", "backslashreplace"), 0)


def _rows(predictions: Predictions, loss: Loss) -> Iterator[list[Any]]:
    values, weights = loss.each(predictions.outputs, predictions.targets)
    columns: dict[str, list[Any]] = {"image": list(predictions.names), "part": list(predictions.parts)}
    width = predictions.outputs[0].numel()
    names = predictions.class_names
    if predictions.task == "classification":
        scores = predictions.scores
        best = scores.topk(min(2, width))
        columns["class"] = [names[index] for index in predictions.labels.tolist()]
        columns["predicted"] = [names[index] for index in predictions.outputs.argmax(-1).tolist()]
        columns["probability"] = best.values[:, 0].tolist()
        columns["margin"] = (best.values[:, 0] - (best.values[:, 1] if width > 1 else 0)).tolist()
    if predictions.targets.is_floating_point():
        given = predictions.targets.reshape(len(predictions), -1)
        columns |= {f"target: {name}": given[:, place].tolist() for place, name in enumerate(names)}
    columns["loss"] = values.tolist()
    if not (weights == 1).all():
        columns["weight"] = weights.tolist()
    if width <= MOST_COLUMNS or predictions.task != "classification":
        outputs = predictions.outputs.reshape(len(predictions), -1)
        columns |= {f"output: {name}": outputs[:, place].tolist() for place, name in enumerate(names)}
    yield list(columns)
    yield from (list(row) for row in zip(*columns.values(), strict=True))


def read_predictions(path: Path, classes: Sequence[str], task: str) -> Predictions:
    """What `write_predictions` wrote. Raises InputError where the file is not it, or has no outputs of each class."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        columns = [f"output: {name}" for name in _names(rows, classes)]
        outputs = torch.tensor([[float(row[column]) for column in columns] for row in rows])
        given = [column for column in rows[0] if column.startswith("target: ")]
        if given:
            targets = torch.tensor([[float(row[column]) for column in given] for row in rows])
        else:
            places = {name: place for place, name in enumerate(_names(rows, classes))}
            targets = torch.tensor([places[row["class"]] for row in rows])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read as a run's predictions: {error}") from error
    parts, names = tuple(row["part"] for row in rows), tuple(row["image"] for row in rows)
    return Predictions(outputs, targets, parts, names, tuple(classes), task)


def _names(rows: Sequence[dict[str, str]], classes: Sequence[str]) -> list[str]:
    if not rows:
        raise ValueError("it has no rows")
    return list(classes) or [column.removeprefix("output: ") for column in rows[0] if column.startswith("output: ")]
