"""Prepare the feature cache: from a partly frozen model and its data to the rest of the model on cached features.

Training mode and evaluation mode are two splits, as a module may differ between them in ways that move the boundary
(dropout in front of a trainable layer). Where both have the same frozen backbone, one engine and one set of tensors
serve both. With random augmentation nothing can be cached, unless the recipe asks for `views`: then so many augmented
passes are, and the epochs take them in turn; otherwise the frozen backbone runs at every step, still without autograd
and as fast as its engine makes it. So it does for images that are mixed (mixup, cutmix), unless features shall be kept.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor, fx, nn

from zoo.data.batches import Batches, ImageBatches, Order
from zoo.data.open_data import OpenData, Part
from zoo.data.sampler import Sampler
from zoo.data.transforms import derived_seed
from zoo.model.undisturbed import undisturbed
from zoo.recipe.options import FeatureCacheUse
from zoo.training.trunk.batches import FeatureBatches, StreamedBatches, collect, features_key
from zoo.training.trunk.choose import Speed, choose_engine
from zoo.training.trunk.cost import Changing, Cost, measure_cost
from zoo.training.trunk.engine import Engine
from zoo.training.trunk.graph import attribute
from zoo.training.trunk.split import Split, split
from zoo.training.trunk.store import FeatureCache, Features, memory_budget

EXAMPLES = 4
UNCHANGED = Changing()
EVERY_STEP = "frozen backbone: runs at every step"


@dataclass(frozen=True)
class Share:
    """This process's share of the work, and its batches; `step`, `seed` and `sampler` decide their order."""

    device: torch.device
    batch_size: int | None = None
    step: int = 0
    seed: int | None = None
    rank: int = 0
    world: int = 1
    sampler: Sampler | None = None


@dataclass(frozen=True)
class Prepared:
    """What is trained in place of the model: `network`, and `validation_network` in evaluation, on batches of features.

    `record` is the report's record of it.
    """

    train: Batches
    validation: Batches
    network: nn.Module
    validation_network: nn.Module
    record: dict[str, Any]


def prepare(
    model: nn.Module,
    data: OpenData,
    share: Share,
    speed: Speed,
    *,
    changing: Changing = UNCHANGED,
    views: int = 0,
    use: FeatureCacheUse = "auto",
    validate_exactly: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> Prepared:
    """Split `model`, compute its frozen backbone's features for all data once (or at every step), and batch them.

    Args:
        model: on `share.device`, frozen as it will train.
        changing: what changes images at random in every epoch.
        views: augmented passes to cache, where the data is augmented at random; 0 runs the backbone at every step.
        use: whether features are "kept" or computed at "every_step"; "auto" keeps them where there is room.
        validate_exactly: compute the validation samples' features in float32 whatever the others are computed in, so
            that an epoch is judged by what its weights answer in float32.
        note: called with each line to display.

    Raises:
        UnsplittableError: with the reason why this model has to be trained end to end.
    """
    started = time.perf_counter()
    example = example_batch(data, share.device)
    training, evaluation = (split_for(model, example, training=mode) for mode in (True, False))
    engine, comparison = choose_engine(model, evaluation, data, example, speed)
    precision = engine.settings.precision
    same = same_trunk(training.trunk, evaluation.trunk)
    trains = engine if same else speed.engine(training.trunk, example, precision)
    if validate_exactly and precision != "float32":
        engine = speed.engine(evaluation.trunk, example, "float32")
    train, how, cost = _train_batches(trains, data, share, changing, views, use, note)
    validation = _cached(engine, data, "validation", share, 1)
    seconds = time.perf_counter() - started
    described = f"{trains.settings}, {comparison}" if comparison else str(trains.settings)
    note(f"{how}; {described}; {seconds:.1f} s")
    record = {
        "method": training.method,
        "engine": str(trains.settings),
        "precision": precision,
        "comparison": asdict(comparison) if comparison else None,
        "features": how,
        "use": "every_step" if how == EVERY_STEP else "kept",
        "cost": asdict(cost) if cost else None,
        "seconds": seconds,
        "passes": {
            part: sum(view.seconds for view in batches.views)
            for part, batches in (("train", train), ("validation", validation))
            if isinstance(batches, FeatureBatches)
        },
    }
    return Prepared(train, validation, training.rest, evaluation.rest, record)


PARTS: tuple[Part, ...] = ("train", "validation")


def split_for(model: nn.Module, example: Tensor, *, training: bool, live: set[int] | None = None) -> Split:
    """The model split in the given mode. The mode is restored."""
    with undisturbed(model, training=training):
        return split(model, example, live)


def same_trunk(trunk: fx.GraphModule, other: fx.GraphModule) -> bool:
    """Whether both do the same with the same modules and tensors of one model."""
    if trunk.code != other.code:
        return False
    targets = [str(node.target) for node in trunk.graph.nodes if node.op in ("call_module", "get_attr")]
    return all(attribute(trunk, target) is attribute(other, target) for target in targets)


def example_batch(data: OpenData, device: torch.device) -> Tensor:
    """A few training inputs, as the network gets them."""
    batches = data.batches("train", device=device, batch_size=EXAMPLES, shuffle=False, augment=False, once=True)
    inputs: Tensor = next(batches.epoch(0)).inputs
    return inputs


def _train_batches(
    engine: Engine,
    data: OpenData,
    share: Share,
    changing: Changing,
    views: int,
    use: FeatureCacheUse,
    note: Callable[[str], None],
) -> tuple[Batches, str, Cost | None]:
    """Training batches, in words how they are made, and what it costs where nothing can be kept."""
    augmented = data.augmentation != "none"
    streamed = StreamedBatches(_images(data, "train", share, None, augment=augmented), engine)
    if changing and not views:
        cost = measure_cost(engine, data, share.device)
        note(cost.said(changing, len(data.parts["train"])))
        return streamed, EVERY_STEP, cost
    if use == "every_step":
        return streamed, EVERY_STEP, None
    passes = views if augmented else 1
    needed = (
        _bytes_per_sample(engine, example_batch(data, share.device)) * len(data.parts["train"]) * passes // share.world
    )
    if use == "auto" and needed > memory_budget() and needed > _free_disk() // 2:
        note(f"features would take {needed / 1e9:.0f} GB, more than memory and disk have: no feature cache")
        return streamed, EVERY_STEP, None
    kept = _cached(engine, data, "train", share, passes)
    where = "on disk" if any(view.on_disk for view in kept.views) else "in memory"
    size = sum(view.bytes for view in kept.views) / 1e6
    samples, plural = len(data.parts["train"]), "s" if passes > 1 else ""
    return kept, f"feature cache: {samples} samples, {passes} view{plural} {where}, {size:.0f} MB", None


def _cached(engine: Engine, data: OpenData, part: Part, share: Share, passes: int) -> FeatureBatches:
    """Cached features of every sample of this process's share, one pass for each view."""
    samples, cache = data.parts[part], FeatureCache()
    augmented = part == "train" and data.augmentation != "none"
    images = _images(data, part, share, False, augment=augmented, once=passes == 1)
    views = []
    for view in range(passes):
        key = features_key(engine, samples, images, view)
        views.append(collect(engine, images, view, key=key, cache=cache))
    order = _images(data, part, share, None, augment=False).order
    if share.world > 1 and not _fits_everywhere(views, share.world):
        return FeatureBatches(views, ShareOrder(order), share.device)
    return FeatureBatches([gathered(view, order) for view in views], order, share.device)


def _fits_everywhere(views: Sequence[Features], world: int) -> bool:
    """Whether every process has room in memory for the features of all of them; the same answer in each."""
    fits = sum(view.bytes for view in views) * world <= memory_budget()
    return all(gather_object([fits]))


def gathered(features: Features, order: Order) -> Features:
    """The features of every sample, of those that each process has computed of its share: batches are then the same
    samples as with one process."""
    if order.world == 1:
        return features
    computed = gather_object([features.everything()])
    whole: dict[str, Tensor] = {}
    for rank, (tensors, targets) in enumerate(computed):
        places = torch.cat([torch.arange(order.samples)[chunk][rank :: order.world] for chunk in _slices(order)])
        for name, values in (
            *((f"feature_{index:02d}", one) for index, one in enumerate(tensors)),
            ("targets", targets),
        ):
            whole.setdefault(name, values.new_empty(order.samples, *values.shape[1:]))[places] = values
    return Features([whole], order.samples, seconds=features.seconds)


def _images(
    data: OpenData, part: Part, share: Share, shuffle: bool | None, *, augment: bool, once: bool = False
) -> ImageBatches:
    return data.batches(
        part,
        device=share.device,
        batch_size=share.batch_size,
        shuffle=shuffle,
        augment=augment,
        step=share.step,
        seed=share.seed,
        rank=share.rank,
        world=share.world,
        sampler=share.sampler,
        once=once,
    )


class ShareOrder(Order):
    """The order of one process's own cached features, where those of all are too many for its memory: batches of its
    share of the size, as many in every process."""

    def __init__(self, order: Order) -> None:
        unshuffled = Order(order.samples, order.batch_size, seed=0, shuffle=False, rank=0, world=order.world)
        chunks = [range(unshuffled.samples)[chunk] for chunk in _slices(unshuffled)]
        shares = [sum(len(chunk[rank :: order.world]) for chunk in chunks) for rank in range(order.world)]
        samples = min(shares) if order.shuffle else shares[order.rank]
        seed = derived_seed(order.seed, order.rank) if order.shuffle else order.seed
        own = np.concatenate([chunk[order.rank :: order.world] for chunk in chunks])[:samples]
        chances = None if order.chances is None else order.chances[own]
        size = order.batch_size // order.world
        super().__init__(samples, size, seed=seed, shuffle=order.shuffle, rank=0, world=1, chances=chances)
        self.processes = order.world

    def size(self, index: int) -> int:
        return super().size(index) * self.processes


def _slices(order: Order) -> list[slice]:
    """Where each batch of an epoch in the data's own order lies."""
    starts = range(0, order.samples, order.batch_size)
    return [slice(start, min(start + order.batch_size, order.samples)) for start in starts]


def _bytes_per_sample(engine: Engine, example: Tensor) -> int:
    return sum(tensor[0].nbytes for tensor in engine(example))


def _free_disk() -> int:
    root = FeatureCache().root
    while not root.exists():
        root = root.parent
    return shutil.disk_usage(root).free
