"""Choose the engine of a frozen backbone: the fastest precision whose features leave answers as they are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx, nn

from zoo.data.batches import Order
from zoo.data.open_data import OpenData
from zoo.data.split import Indices
from zoo.model.heads import heads_if_any
from zoo.model.paths import get_module
from zoo.model.trace import tensors_in
from zoo.model.undisturbed import undisturbed
from zoo.recipe.options import FeaturePrecision
from zoo.training.devices import bfloat16_is_native
from zoo.training.trunk.agreement import SIZES, Block, Comparison, FoundComparisons, compare
from zoo.training.trunk.batches import features_key
from zoo.training.trunk.engine import Engine, exact_engine, fast_engine
from zoo.training.trunk.split import Split


@dataclass(frozen=True)
class Speed:
    """How fast features may be computed: `precision` is the recipe's `feature_precision`; `exact` keeps every operation
    as it is where that is float32, so that losses are those of training end to end."""

    exact: bool = False
    precision: FeaturePrecision = "auto"

    @classmethod
    def of(cls, features: FeaturePrecision, training: str) -> Speed:
        """As the options say it: where nothing is said of features, training in float32 asks for exact ones."""
        exact = features == "exact" or (features == "auto" and training == "float32")
        return cls(exact, "float32" if exact else features)

    def pin(self, precision: str) -> str:
        """The option that gives an engine of a precision that was chosen again."""
        return "exact" if self.exact and precision == "float32" else precision

    def engine(self, trunk: fx.GraphModule, example: Tensor, precision: str) -> Engine:
        """An engine of a precision that was chosen."""
        return exact_engine(trunk) if self.exact and precision == "float32" else fast_engine(trunk, example, precision)


AT_ONCE = SIZES[0]  # images, whose feature maps are in memory together
SHARE, LEAST = 8, 128  # a comparison takes up to an eighth of the images, or so many, and no more than `SIZES[-1]`
Reach = Callable[[tuple[Tensor, ...]], Tensor]  # from a backbone's features to what reaches the head, [n, d]
LOWER = ("bfloat16", "mixed")  # tried in this order, the fastest first


def choose_engine(
    model: nn.Module, parts: Split, data: OpenData, example: Tensor, speed: Speed
) -> tuple[Engine, Comparison | None]:
    """The engine for the frozen backbone of `parts`, a split for evaluation; and how its answers compare with float32's
    where that is what it was chosen by."""
    wanted = speed.precision
    if wanted == "auto" and (speed.exact or not bfloat16_is_native(example.device)):
        wanted = "float32"
    if wanted != "auto":
        return speed.engine(parts.trunk, example, wanted), None
    exact, found = fast_engine(parts.trunk, example), None
    if len(data.parts["train"]) < SIZES[0]:
        return exact, found
    with undisturbed(model, training=False, attributes=True):
        sample = Sample(exact, _reach(model, parts), data, example.device)
        for precision in LOWER:
            engine = fast_engine(parts.trunk, example, precision)
            found = sample.compared(engine)
            if found.agrees:
                return engine, found
    return exact, found


class Sample:
    """Training images on which engines are compared with the `exact` one: a fixed random choice, not augmented."""

    def __init__(self, exact: Engine, reach: Reach, data: OpenData, device: torch.device) -> None:
        self.exact, self.reach, self.data = exact, reach, data
        self.images = data.batches("train", device=device, shuffle=False, augment=False, once=True)
        order = np.random.default_rng(0).permutation(len(data.parts["train"]))
        self.chosen = order[: min(max(len(order) // SHARE, LEAST), SIZES[-1])]
        self._reached: dict[int, Tensor] = {}  # by what the exact engine computes, batch by batch

    def compared(self, engine: Engine) -> Comparison:
        """The comparison with `engine`, from the cache where an earlier run made the same."""
        data = self.data
        known = FoundComparisons(f"{len(self.chosen)} {features_key(engine, data.parts['train'], self.images, 0)}")
        found = known.find()
        if found is None:
            blocks = functools.partial(self._block, engine)
            precision = engine.settings.precision
            found = compare(blocks, len(self.chosen), precision=precision, task=data.task, outputs=data.outputs)
            known.keep(found)
        return found

    def _block(self, engine: Engine, places: range) -> Block:
        self.images.order = Chosen(self.chosen[places.start : places.stop])
        rows = []
        for number, batch in enumerate(self.images.epoch(0), places.start // AT_ONCE):
            if number not in self._reached:
                self._reached[number] = self.reach(self.exact(batch.inputs))
            rows.append((self._reached[number], self.reach(engine(batch.inputs)), batch.targets))
        reached, moved, targets = (torch.cat(parts) for parts in zip(*rows, strict=True))
        return reached, moved, targets


def _reach(model: nn.Module, parts: Split) -> Reach:
    """What a split model's features become on their way to its head, [n, d]; for a model without one, its output."""
    arrived: list[Tensor] = []
    heads = heads_if_any(model)
    if heads:
        head = get_module(model, heads[0])
        head.register_forward_pre_hook(lambda module, inputs: arrived.append(inputs[0]))

    def reach(features: tuple[Tensor, ...]) -> Tensor:
        arrived.clear()
        with torch.no_grad():
            outputs = parts.rest(*(one.float() if one.is_floating_point() else one for one in features))
        return _rows(arrived[0] if arrived else next(tensors_in(outputs)))

    return reach


def _rows(values: Tensor) -> Tensor:
    """One row a sample: the mean over places of a map [n, c, h, w], or over tokens of [n, tokens, c]."""
    if values.ndim == 4:
        return values.mean((2, 3))
    return values if values.ndim == 2 else values.flatten(1, -2).mean(1)


class Chosen(Order):
    """Batches of these positions, in this order."""

    def __init__(self, positions: Indices) -> None:
        super().__init__(len(positions), AT_ONCE, seed=0, shuffle=False, rank=0, world=1)
        self.positions = positions

    def epoch(self, epoch: int, start: int = 0) -> list[Indices]:
        return [self.positions[chunk] for chunk in super().epoch(epoch, start)]
