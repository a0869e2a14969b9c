"""Batches of a frozen backbone's features, as the training loop takes them (zoo.data.batches.Batches)."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.data.batches import Batch, Batches, ImageBatches, Order, to_device
from zoo.data.samples import Samples
from zoo.data.transforms import identity_of
from zoo.given import any_given
from zoo.training.devices import hardware
from zoo.training.trunk.engine import Engine
from zoo.training.trunk.store import FeatureCache, Features, memory_budget


class FeatureBatches:
    """Batches of cached features: `inputs` is what the rest of the model takes. Epochs take the views in turn."""

    def __init__(self, views: Sequence[Features], order: Order, device: torch.device) -> None:
        self.views = views
        self.order = order
        self.device = device

    def __len__(self) -> int:
        return len(self.order)

    def size(self, index: int) -> int:
        return self.order.size(index)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        features = self.views[epoch % len(self.views)]
        for positions in self.order.epoch(epoch, start):
            tensors, targets = features.take(positions)
            inputs = tuple(to_device(tensor, self.device) for tensor in tensors)
            yield Batch(inputs, to_device(targets, self.device), torch.as_tensor(positions))

    def close(self) -> None:
        """There are no worker processes."""


class StreamedBatches:
    """Batches that run through the frozen backbone at every step: for random augmentation, which nothing can cache."""

    def __init__(self, batches: Batches, engine: Engine) -> None:
        self.batches = batches
        self.engine = engine

    def __len__(self) -> int:
        return len(self.batches)

    def size(self, index: int) -> int:
        return self.batches.size(index)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for batch in self.batches.epoch(epoch, start):
            yield Batch(self.engine(batch.inputs), batch.targets, batch.positions)

    def close(self) -> None:
        self.batches.close()


def collect(
    engine: Engine,
    batches: ImageBatches,
    view: int,
    *,
    key: str,
    cache: FeatureCache,
    progress: Callable[[int], None] | None = None,
) -> Features:
    """The features of one pass over `batches`, from the cache where an earlier run stored them under the same key."""
    budget = memory_budget()
    found = cache.find(key, budget)
    if found is not None:
        return found
    writer, began = cache.writer(budget), time.perf_counter()
    try:
        for batch in batches.epoch(view):
            writer.add(engine(batch.inputs), batch.targets)
            if progress is not None:
                progress(len(batch.targets))
        features = writer.finish()
    except BaseException:
        writer.discard()
        raise
    cache.keep(key, writer)
    features.seconds = time.perf_counter() - began
    return features


def features_key(engine: Engine, samples: Samples, batches: ImageBatches, view: int) -> str:
    """The key of cached features: a digest of everything that they depend on.

    That is the frozen backbone's code and tensors, how it is run (precision, fused layers, memory layout) and on what
    (machines that share a cache need not have the same devices, whose results differ in the last digits, as those of
    another number of threads do), each sample
    (a file by its path, size and time of change, pixels by their bytes) and its target, the transform, the batch size,
    and which share of the samples this process has; with random augmentation also the seed and the number of the view.
    """
    digest, settings = hashlib.sha256(), engine.settings
    how = (settings.precision, settings.fused, settings.channels_last)
    where = (hardware(batches.device), torch.get_num_threads(), torch.__version__)
    for part in (engine.trunk.code, *how, *where):
        digest.update(f"{part}\n".encode())
    for name, tensor in engine.trunk.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(_bytes(tensor))
    digest.update(_settings(engine.trunk).encode())
    if any_given():  # code of the caller's may change under the same name: its features serve this run only
        digest.update(os.urandom(16))
    order = batches.order
    digest.update(f"{samples.preprocessing} {samples.task} {order.rank}/{order.world} {order.batch_size}".encode())
    changes = identity_of(batches.augmentation)
    digest.update(f"{changes} {(order.seed, view) if changes != 'none' else ''}".encode())
    for position in range(order.rank, len(samples), order.world):
        value, target = samples.raw(position)
        digest.update(_fingerprint(value))
        digest.update(repr(target).encode())
    return digest.hexdigest()[:40]


def _settings(trunk: nn.Module) -> str:
    """Each module's class and settings (strides, eps, padding), which its tensors do not show."""
    rows = [f"{path} {type(module).__name__} {module.extra_repr()}" for path, module in trunk.named_modules()]
    return "\n".join(rows)


def _fingerprint(value: Any) -> bytes:
    """What identifies an image: of a file path, size and time of change, of pixels their bytes."""
    if isinstance(value, str | os.PathLike):
        status = os.stat(value)
        return f"{os.path.abspath(value)} {status.st_size} {status.st_mtime_ns}".encode()
    if isinstance(value, Tensor):
        return _bytes(value)
    array = np.asarray(value)
    return f"{array.shape} {array.dtype}".encode() + array.tobytes()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
