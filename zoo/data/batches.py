"""Batches in an order that depends on seed and epoch alone, from any batch on, shared out to processes."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from zoo.data import transforms
from zoo.data.sampler import Chances
from zoo.data.samples import Augmented, Fetcher, Sample, collate
from zoo.data.split import Indices
from zoo.errors import InputError, WorkError

Inputs = Any  # a tensor of images, or the tuple of tensors that a frozen backbone made of them


class Batch(NamedTuple):
    """`inputs` are normalised and on the device; `positions` are the samples' places in their part of the data."""

    inputs: Inputs
    targets: Tensor
    positions: Tensor


class Batches(Protocol):
    """What the training loop takes: batches of images here, of a frozen backbone's features elsewhere."""

    def __len__(self) -> int:
        """Batches in an epoch, the same in every process."""
        ...

    def size(self, index: int) -> int:
        """Samples in the epoch's batch `index`, all processes together."""
        ...

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This process's share of the batches of `epoch`, from batch `start` on; the same ones for the same seed."""
        ...

    def close(self) -> None:
        """End the worker processes; the next epoch starts new ones."""
        ...


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device; to a GPU through pinned memory, so that the copy runs beside the computation."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def loader_ended(error: BaseException) -> WorkError | None:
    """What torch raises, wherever the main thread is just then, once a process that loads images has ended."""
    if "DataLoader worker" not in str(error):
        return None
    message = "a process that loads images was ended by the system, most often because memory ran out"
    return WorkError(message, suggestion="take fewer: --set data.workers=1")


class Order:
    """Which samples are in which batch. `batch_size` counts the samples of all `world` processes together.

    Where there are `chances`, the probability of each sample, an epoch draws as many samples as there are, with
    replacement, in place of shuffling them.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        rank: int,
        world: int,
        chances: Chances | None = None,
    ) -> None:
        if batch_size < world:
            raise InputError(f"batch_size {batch_size} is less than one sample for each of {world} processes")
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world = world
        self.chances = chances if shuffle else None
        self.turn, self.turns = 0, 1

    def take_turns(self, rank: int, world: int) -> None:
        """Let each of `world` processes have entire batches, every `world`-th one, in place of its share of each."""
        self.turn, self.turns = rank, world

    def __len__(self) -> int:
        full, rest = divmod(self.samples, self.batch_size)
        # batch norm cannot train on a single sample: a last batch that leaves a process fewer than two is dropped
        too_small = self.shuffle and full > 0 and rest < 2 * self.world
        return full if rest == 0 or too_small else full + 1

    def size(self, index: int) -> int:
        return min(self.batch_size, self.samples - index * self.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> list[Indices]:
        """Positions of this process's samples, batch by batch."""
        return self._shared(self._drawn(epoch), start)

    def draws(self, epoch: int, start: int = 0) -> list[Indices] | None:
        """Where samples may come twice in an epoch: the place in it of each of `epoch`'s positions; None elsewhere."""
        return None if self.chances is None else self._shared(np.arange(self.samples), start)

    def _drawn(self, epoch: int) -> Indices:
        """The epoch's samples in their order, those of all processes."""
        generator = np.random.default_rng([self.seed, epoch])
        if self.chances is not None:
            return generator.choice(self.samples, size=self.samples, p=self.chances)
        return generator.permutation(self.samples) if self.shuffle else np.arange(self.samples)

    def _shared(self, order: Indices, start: int) -> list[Indices]:
        chunks = (order[index * self.batch_size :][: self.batch_size] for index in range(start, len(self)))
        return [chunk[self.rank :: self.world] for chunk in chunks][self.turn :: self.turns]


class ImageBatches:
    """Batches of images or features: uint8 up to the device, then flipped where asked, and normalised there.

    Without random transforms of single images, threads decode ahead of the loop (and keep what they decoded, where
    the fetcher caches and these batches are not taken just `once`); with them, persistent worker processes do.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        order: Order,
        *,
        augmentation: transforms.Augmentation,
        device: torch.device,
        workers: int,
        once: bool = False,
    ) -> None:
        self.fetcher = fetcher
        self._fetch = fetcher.once if once else fetcher
        self.order = order
        self.augmentation = augmentation
        self.device = device
        self.workers = workers
        self._loader: DataLoader[Any] | None = None
        self._keys: list[list[tuple[int, ...]]] = []

    def __len__(self) -> int:
        return len(self.order)

    def size(self, index: int) -> int:
        return self.order.size(index)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """See `Batches.epoch`. Raises InputError naming every sample that cannot be read."""
        plan = self.order.epoch(epoch, start)
        draws = self.order.draws(epoch, start)  # a sample that comes twice is changed otherwise the second time
        random = transforms.is_random_per_image(self.augmentation)
        loaded = self._by_processes(epoch, plan, draws) if random else self._by_threads(plan)
        flips = self._flips(epoch) if self.augmentation == "flip" else None
        preprocessing = self.fetcher.samples.preprocessing
        for positions, drawn, (inputs, targets) in zip(plan, draws or plan, loaded, strict=True):
            places = torch.as_tensor(positions)
            inputs, targets = to_device(inputs, self.device), to_device(targets, self.device)
            if flips is not None:
                mirrored = to_device(flips[torch.as_tensor(drawn)], self.device).view(-1, 1, 1, 1)
                inputs = torch.where(mirrored, inputs.flip(-1), inputs)
            if preprocessing is not None:
                inputs = transforms.normalise(inputs, preprocessing)
            yield Batch(inputs, targets, places)

    def close(self) -> None:
        """See `Batches.close`. Left to the garbage collector, the process may wait for its workers for ever."""
        self._loader = None

    def _flips(self, epoch: int) -> Tensor:
        """Whether to flip each sample, drawn for all at once: batch size and number of processes do not matter."""
        generator = torch.Generator().manual_seed(transforms.derived_seed(self.order.seed, epoch))
        return torch.rand(len(self.fetcher.samples), generator=generator) < 0.5

    def _by_threads(self, plan: Sequence[Indices]) -> Iterator[Sample]:
        if not self.workers:
            yield from map(self._fetch, plan)
            return
        with ThreadPoolExecutor(self.workers) as pool:
            ahead = collections.deque(pool.submit(self._fetch, positions) for positions in plan[: self.workers + 1])
            try:
                for positions in plan[self.workers + 1 :]:
                    yield ahead.popleft().result()
                    ahead.append(pool.submit(self._fetch, positions))
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def _by_processes(self, epoch: int, plan: Sequence[Indices], draws: Sequence[Indices] | None) -> Iterator[Sample]:
        self._keys[:] = [[(epoch, int(position)) for position in positions] for positions in plan]
        if draws is not None:
            pairs = ((keys, places.tolist()) for keys, places in zip(self._keys, draws, strict=True))
            self._keys[:] = [[(*key, 1 + at) for key, at in zip(*pair, strict=True)] for pair in pairs]
        if self._loader is None:
            self._loader = self._make_loader()
        try:
            for batch in self._loader:
                if isinstance(batch, list):
                    first = batch[0]
                    raise self.fetcher.samples.unreadable(first) if isinstance(first, InputError) else first
                yield batch
        except RuntimeError as error:
            if (ended := loader_ended(error)) is None:
                raise
            self._loader = None
            raise ended from error

    def _make_loader(self) -> DataLoader[Any]:
        samples = self.fetcher.samples
        assert samples.preprocessing is not None
        transform = transforms.augmentation(self.augmentation, samples.preprocessing)
        return DataLoader(
            Augmented(samples, transform, self.order.seed),
            batch_sampler=self._keys,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            collate_fn=collate,
            generator=torch.Generator(),  # the loader draws seeds, which must not change the global generator
        )
