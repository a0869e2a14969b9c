"""Choose a frozen backbone's precision by what it does to answers.

A distance between features says little: a head may look at what moved, or past it. So heads answer. Features of some
training images, in float32 and in a lower precision, go through the rest of the model to what reaches its head, and a
linear head that is solved on the float32 side classifies both. Each image is classified by the head that is solved
without it (leave-one-out, in closed form), so that every image helps to fit and every one is held out. The model's own
head would not do: as a rule it is fresh, and has no answers yet.

The bounds are those of docs/performance.md, "Precision of features"; benchmarks/bfloat16_features.py measures what they
let through. What was found is kept in the cache folder (zoo.cache) for later runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.cache import cache_folder

SIZES = (32, 512)  # images that are compared: at first, and where those leave a doubt
NEAR = 0.01  # the distance up to which the first images are enough
CHANGED = 0.01  # of the labels may change
LOSS = 0.02  # by which share of it the squared error may grow
PENALTIES = tuple(10.0**power for power in range(-5, 2))  # of ridge, relative to the features' mean square

Block = tuple[
    Tensor, Tensor, Tensor
]  # what reaches the head, in float32 and in the lower precision [n, d], and targets


@dataclass(frozen=True)
class Comparison:
    """Features of a lower `precision` beside those of float32, on so many `samples`.

    `distance` is the relative Frobenius norm of the difference in what reaches the head, over all samples; `changed`
    the share of labels that change, `accuracy` the share of right ones gained or lost, `loss` by which share of it
    the squared error grows.
    """

    precision: str
    samples: int
    distance: float
    changed: float
    accuracy: float
    loss: float

    @property
    def agrees(self) -> bool:
        """Whether answers stay the same, as far as it matters."""
        return self.changed <= CHANGED and self.loss <= LOSS

    def __str__(self) -> str:
        near = f"{self.precision} features within {100 * self.distance:.2g} % of float32 on {self.samples} images"
        return f"{near}, {100 * self.changed:.1f} % of labels changed, loss {100 * self.loss:+.1f} %"


def compare(blocks: Callable[[range], Block], samples: int, *, precision: str, task: str, outputs: int) -> Comparison:
    """The comparison on as many as it takes of up to `samples` images.

    `blocks` gives those of a range, out of a fixed random choice. What hardly moves changes few answers anywhere, which
    a few images show; of how many change, one has to see many.
    """
    taken = 0
    seen: list[Block] = []
    while True:
        size = min(next(size for size in SIZES if size > taken), samples)
        seen.append(blocks(range(taken, size)))
        features, moved, targets = (torch.cat([part.cpu() for part in parts]) for parts in zip(*seen, strict=True))
        exact, other = features.double(), moved.double()  # few rows; not every accelerator solves in float64
        distance = float((other - exact).norm() / exact.norm().clamp_min(1e-12))
        judged = judge(exact, other, as_values(targets, task, outputs), task)
        found = Comparison(precision, size, distance, *judged)
        if size == min(samples, SIZES[-1]) or (found.agrees and distance <= NEAR):
            return found
        taken = size


def as_values(targets: Tensor, task: str, outputs: int) -> Tensor:
    """Targets [n] or [n, k] as what least squares fits, [n, k]: one-hot, multi-hot, or values in units of their own
    deviation."""
    if task == "classification":
        return targets.double() if targets.is_floating_point() else F.one_hot(targets, outputs).double()
    values = targets.double().reshape(len(targets), -1)
    return values if task == "multilabel" else values / values.std(0).clamp_min(1e-12)


def judge(features: Tensor, moved: Tensor, values: Tensor, task: str) -> tuple[float, float, float]:
    """What moving `features` [n, d] does to answers of heads solved on them: `Comparison`'s changed, accuracy, loss."""
    plain, other = held_out_answers(features, moved, values)
    before, after = (values - plain).square().mean(), (values - other).square().mean()
    loss = float(after / before.clamp_min(1e-12)) - 1
    if task == "regression":
        return 0.0, 0.0, loss
    if task == "multilabel":
        labels = [answers > 0.5 for answers in (plain, other)]
        right = [(answers == (values > 0.5)).double().mean() for answers in labels]
        margin = (plain - 0.5).abs()
        shift = (other - plain) * (plain - 0.5).sign()
    else:
        labels = [answers.argmax(1) for answers in (plain, other)]
        right = [(answers == values.argmax(1)).double().mean() for answers in labels]
        best, places = plain.topk(2, dim=1) if plain.shape[1] > 1 else (plain.expand(-1, 2), None)
        margin = best[:, 0] - best[:, 1]
        chosen = other if places is None else other.gather(1, places)
        shift = (chosen[:, 0] - chosen[:, -1]) - margin
    changed = max(float((labels[0] != labels[1]).double().mean()), _expected_changes(margin, shift))
    return changed, float(right[1] - right[0]), loss


def _expected_changes(margin: Tensor, shift: Tensor) -> float:
    """The share of all pairs of a margin and a shift in which the shift takes more than the margin: what is to be
    expected of more samples than these, of which perhaps none is near a boundary."""
    sorted_margins = margin.flatten().sort().values
    return float(torch.searchsorted(sorted_margins, -shift.flatten()).double().mean() / margin.numel())


def held_out_answers(features: Tensor, moved: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """For each row, the answer of the ridge regression that is solved on all other rows of `features` [n, d]: on the
    row itself, and on the same row of `moved`; [n, k] each.

    In closed form (Allen's PRESS; Sherman-Morrison for the weights without a row), in the dual, where everything is
    [n, n]. The penalty is the one whose held-out squared error is least.
    """
    centre = features.mean(0)
    x, step, y = features - centre, moved - features, values - values.mean(0)
    scale = x.square().mean().sqrt().clamp_min(1e-12) * x.shape[1] ** 0.5
    x, step = x / scale, step / scale
    sizes, vectors = torch.linalg.eigh(x @ x.T)
    steps = step @ x.T
    best: tuple[float, Tensor, Tensor] | None = None
    for penalty in PENALTIES:
        inverse = (vectors / (sizes.clamp_min(0) + penalty * len(x))) @ vectors.T
        dual = inverse @ y
        kept = penalty * len(x) * inverse.diagonal() - 1 / len(x)  # 1 - the leverage of each row
        residual = penalty * len(x) * dual / kept.clamp_min(1e-9)[:, None]
        error = float(residual.square().mean())
        if best is None or error < best[0]:
            plain = values - residual
            without = (steps @ inverse).diagonal()[:, None] * residual
            best = (error, plain, plain + steps @ dual - without)
    assert best is not None
    return best[1], best[2]


class FoundComparisons:
    """Comparisons of earlier runs, one small JSON file a key."""

    def __init__(self, key: str, root: Path | None = None) -> None:
        name = hashlib.sha256(f"{key} {SIZES} {NEAR}".encode()).hexdigest()[:32]
        self.path = (root or cache_folder()) / "comparisons" / f"{name}.json"

    def find(self) -> Comparison | None:
        with suppress(OSError, ValueError, TypeError, RecursionError):
            return Comparison(**json.loads(self.path.read_text(encoding="utf-8")))
        return None

    def keep(self, found: Comparison) -> None:
        with suppress(OSError):  # an unwritable cache costs the next run its seconds, nothing else
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(asdict(found)), encoding="utf-8")
