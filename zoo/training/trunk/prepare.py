"""From a partly frozen model and its data to what the loop trains: the rest of the model on the trunk's outputs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from zoo.data.batches import Batches, ImageBatches, Order
from zoo.data.open_data import OpenData, Part
from zoo.data.transforms import derived_seed
from zoo.training.trunk.batches import FeatureBatches, StreamedBatches, collect, features_key
from zoo.training.trunk.engine import Engine, exact_engine, fast_engine
from zoo.training.trunk.graph import attribute
from zoo.training.trunk.split import Split, split
from zoo.training.trunk.store import FeatureCache, memory_budget

EXAMPLES = 4


@dataclass(frozen=True)
class Share:
    """Which part of the work is this process's, and how its batches are made."""

    device: torch.device
    batch_size: int | None = None
    step: int = 0
    rank: int = 0
    world: int = 1


@dataclass(frozen=True)
class Prepared:
    """What trains instead of the whole model. `network` is the rest in training, `validation_network` in evaluation;
    `record` is what the report says of it."""

    train: Batches
    validation: Batches
    network: nn.Module
    validation_network: nn.Module
    record: dict[str, Any]


@dataclass(frozen=True)
class Half:
    """One mode's split with the engine that runs its trunk."""

    parts: Split
    engine: Engine


def prepare(
    model: nn.Module,
    data: OpenData,
    share: Share,
    *,
    exact: bool,
    views: int = 0,
    tell: Callable[[str], None] = lambda text: None,
) -> Prepared:
    """Split `model`, compute its trunk's outputs for all data once (or as they come), and batch them.

    Args:
        model: on `share.device`, frozen as it will train.
        exact: keep float32 and every operation as it is, so that losses are those of the unsplit model.
        views: augmented passes to keep, where the data is augmented at random; 0 runs the trunk at every step.
        tell: takes a line for the person.

    Raises:
        UnsplittableError: with the reason why this model is trained the plain way.
    """
    started = time.perf_counter()
    example = example_batch(data, share.device)
    train_half = split_for(model, example, training=True, exact=exact)
    halves = {
        "train": train_half,
        "validation": split_for(model, example, training=False, exact=exact, like=train_half),
    }
    train, how = _train_batches(halves["train"], data, share, views, tell)
    validation = _kept(halves["validation"], data, "validation", share, 1)
    record = {
        "method": halves["train"].parts.method,
        "engine": str(halves["train"].engine.settings),
        "features": how,
        "seconds": time.perf_counter() - started,
    }
    tell(f"trunk: {how}; {record['engine']}; {record['seconds']:.1f} s")
    rest = halves["train"].parts.rest
    return Prepared(train, validation, rest, halves["validation"].parts.rest, record)


PARTS: tuple[Part, ...] = ("train", "validation")


def split_for(
    model: nn.Module,
    example: Tensor,
    *,
    training: bool,
    exact: bool,
    live: set[int] | None = None,
    like: Half | None = None,
) -> Half:
    """The model in the given mode, cut, its trunk running as fast as `exact` lets it. The mode is put back.

    The engine of `like` is used where the trunk is the same one.
    """
    before = model.training
    model.train(training)
    try:
        parts = split(model, example, live)
    finally:
        model.train(before)
    trunk = parts.trunk
    if like is not None and _same(trunk, like.parts.trunk):
        return Half(parts, like.engine)
    return Half(parts, exact_engine(trunk) if exact else fast_engine(trunk, example))


def _same(trunk: fx.GraphModule, other: fx.GraphModule) -> bool:
    """Whether both do the same with the same modules and tensors of one model."""
    if trunk.code != other.code:
        return False
    targets = [str(node.target) for node in trunk.graph.nodes if node.op in ("call_module", "get_attr")]
    return all(attribute(trunk, target) is attribute(other, target) for target in targets)


def example_batch(data: OpenData, device: torch.device) -> Tensor:
    """A few training inputs as the network gets them."""
    batches = data.batches("train", device=device, batch_size=EXAMPLES, shuffle=False, augment=False, once=True)
    inputs: Tensor = next(batches.epoch(0)).inputs
    return inputs


def _train_batches(
    half: Half, data: OpenData, share: Share, views: int, tell: Callable[[str], None]
) -> tuple[Batches, str]:
    """Training batches, and in words how they come about."""
    augmentation = data.options.augmentation
    if augmentation != "none" and not views:
        tell(f"augmentation {augmentation} changes every pass: the trunk runs at every step (views: K keeps K passes)")
        return StreamedBatches(_images(data, "train", share, None, augment=True), half.engine), "computed at every step"
    passes = views if augmentation != "none" else 1
    needed = _bytes_a_sample(half, example_batch(data, share.device)) * len(data.parts["train"]) * passes // share.world
    if needed > memory_budget() and needed > _free_disk() // 2:
        tell(f"its outputs would take {needed / 1e9:.0f} GB, more than memory and disk have: it runs at every step")
        return StreamedBatches(
            _images(data, "train", share, None, augment=False), half.engine
        ), "computed at every step"
    kept = _kept(half, data, "train", share, passes)
    where = "on disk" if any(view.on_disk for view in kept.views) else "in memory"
    size = sum(view.bytes for view in kept.views) / 1e6
    return kept, f"{len(data.parts['train'])} samples, {passes} view{'s'[: passes > 1]} kept {where}, {size:.0f} MB"


def _kept(half: Half, data: OpenData, part: Part, share: Share, passes: int) -> FeatureBatches:
    """Features of every sample of this process's share, one pass a view."""
    samples, cache = data.parts[part], FeatureCache()
    augmented = part == "train" and data.options.augmentation != "none"
    images = _images(data, part, share, False, augment=augmented, once=passes == 1)
    views = []
    for view in range(passes):
        key = features_key(half.engine, samples, images, view)
        views.append(collect(half.engine, images, view, key=key, cache=cache))
    return FeatureBatches(views, _order(data, part, share), share.device)


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
        rank=share.rank,
        world=share.world,
        once=once,
    )


def _order(data: OpenData, part: Part, share: Share) -> Order:
    """The whole model's own order where one process does the work; else an order of this process's share alone."""
    whole = _images(data, part, share, None, augment=False).order
    return whole if share.world == 1 else ShareOrder(whole)


class ShareOrder(Order):
    """Each process goes through its own kept features: batches of a share of the size, as many in every process."""

    def __init__(self, whole: Order) -> None:
        unshuffled = Order(whole.samples, whole.batch_size, seed=0, shuffle=False, rank=0, world=whole.world)
        shares = [sum(len(chunk[rank :: whole.world]) for chunk in _chunks(unshuffled)) for rank in range(whole.world)]
        samples = min(shares) if whole.shuffle else shares[whole.rank]
        seed = derived_seed(whole.seed, whole.rank) if whole.shuffle else whole.seed
        super().__init__(samples, whole.batch_size // whole.world, seed=seed, shuffle=whole.shuffle, rank=0, world=1)
        self.processes = whole.world

    def size(self, index: int) -> int:
        return super().size(index) * self.processes


def _chunks(order: Order) -> list[range]:
    return [
        range(start, min(start + order.batch_size, order.samples))
        for start in range(0, order.samples, order.batch_size)
    ]


def _bytes_a_sample(half: Half, example: Tensor) -> int:
    return sum(tensor[0].nbytes for tensor in half.engine(example))


def _free_disk() -> int:
    root = FeatureCache().root
    while not root.exists():
        root = root.parent
    return shutil.disk_usage(root).free
