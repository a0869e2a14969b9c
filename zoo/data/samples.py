"""The chosen samples of a data set, one by one: decoded, resized and cropped, targets as tensors; and their cache."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.contracts import Preprocessing
from zoo.data import transforms
from zoo.data.decode import to_image
from zoo.data.split import SHOWN, Indices, class_index, listed_targets, no_class_index, probabilities, read
from zoo.errors import InputError, Problem, ZooError, first_problems
from zoo.recipe.validate import shown

PRESENCE = "a multi-label target says of each class how much of it is there; other numbers need task='regression'"

LOOKED_AT = 32  # images, for whether there are colours

Sample = tuple[Tensor, Tensor]


class Samples:
    """Part of a data set: `indices` choose and order it. Inputs are images, or features where `preprocessing` is None.

    Picklable where the data set is, so that worker processes can hold it.
    """

    def __init__(
        self, dataset: Any, indices: Indices, preprocessing: Preprocessing | None, task: str, outputs: int
    ) -> None:
        self.dataset = dataset
        self.indices = indices
        self.preprocessing = preprocessing
        self.task = task
        self.outputs = outputs
        self.places: Sequence[int] | None = None  # the class index that each class has in another numbering

    def renumbered(self, places: Sequence[int], outputs: int) -> Samples:
        """The same samples, class i counted as class `places[i]` of `outputs`."""
        other = copy.copy(self)
        other.places, other.outputs = places, outputs
        return other

    def __len__(self) -> int:
        return len(self.indices)

    def raw(self, position: int) -> tuple[Any, Any]:
        """Input and target as the data set gives them. Raises WorkError naming the sample where it raises."""
        return read(self.dataset, int(self.indices[position]))

    def decoded(self, value: Any) -> Tensor:
        """A raw input as an image of its own size (uint8), or a feature tensor (float32)."""
        if self.preprocessing is None:
            return torch.as_tensor(value, dtype=torch.float32)
        return to_image(value, self.preprocessing.channels)

    def fitted(self, value: Any) -> Tensor:
        """A raw input as evaluation sees it: resized and cropped to the network's size where it is an image."""
        image = self.decoded(value)
        return image if self.preprocessing is None else transforms.fit(image, self.preprocessing)

    def has_colours(self) -> bool:
        """Whether any of a few images, spread over the part, is more than grey; one that cannot be read is left out."""
        for position in range(0, len(self), max(len(self) // LOOKED_AT, 1)):
            with suppress(ZooError):
                image = self.decoded(self.raw(position)[0])
                if not torch.equal(image[:1].expand_as(image[:3]), image[:3]):
                    return True
        return False

    def every_target(self) -> Tensor:
        """All targets, int64 [n] or float32 [n, outputs]: of the list that the data set keeps, else by reading every
        sample. Raises InputError for what is no target."""
        listed = listed_targets(self.dataset)
        raw = [self.raw(at)[1] for at in range(len(self))] if listed is None else [listed[at] for at in self.indices]
        return torch.stack([self.target(value, position) for position, value in enumerate(raw)])

    def target(self, value: Any, position: int) -> Tensor:
        """A class index (int64, no dimensions); float32 [outputs] for other tasks, and of a soft target the probability
        of each class. Raises InputError for others."""
        sample = int(self.indices[position])
        soft = probabilities(value) if self.task == "classification" else None
        if self.task != "classification" or soft is not None:
            values = self._numbers(value if soft is None else soft, sample)
            if self.places is None:
                return values
            return torch.zeros(self.outputs).index_copy_(0, torch.tensor(self.places), values)
        index, known = class_index(value), self.outputs if self.places is None else len(self.places)
        if index is None:
            raise InputError([no_class_index(sample, value)])
        if index >= known:
            raise InputError(f"sample {sample}: class index {index} is not one of 0..{known - 1}")
        return torch.tensor(index if self.places is None else self.places[index])

    def _numbers(self, value: Any, sample: int) -> Tensor:
        """The target of a regression or multi-label sample."""
        known = self.outputs if self.places is None else len(self.places)
        try:
            values = torch.as_tensor(value, dtype=torch.float32).reshape(-1)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"sample {sample}: its target {shown(value)} is no vector of numbers") from error
        if len(values) != known:
            raise InputError(f"sample {sample}: its target has {len(values)} values, not {known}")
        if not bool(values.isfinite().all()):
            raise InputError(f"sample {sample}: its target {values.tolist()} contains what is no number")
        if self.task == "multilabel" and bool(((values < 0) | (values > 1)).any()):
            raise InputError(f"sample {sample}: its target {values.tolist()} is outside 0..1", suggestion=PRESENCE)
        return values

    def unreadable(self, first: InputError) -> InputError:
        """Every sample that cannot be read, as one error; `first` is the one found first, and the error itself
        where every sample can be read."""
        found: list[Problem] = []
        for position in range(len(self)):
            try:
                value, target = self.raw(position)
                self.decoded(value)
                self.target(target, position)
            except ZooError as error:
                found += error.problems
        return InputError(first_problems(found, SHOWN)) if found else first


class Augmented(torch.utils.data.Dataset[Sample | ZooError]):
    """Samples under a random transform whose draw depends on (seed, epoch, sample) alone; indexed by (epoch, position),
    or by (epoch, position, draw) where a sample may come twice in an epoch.

    An item is a sample, or the error that reading it raised: raised in a worker process, it would be a traceback for
    the caller.
    """

    def __init__(self, samples: Samples, transform: Callable[[Tensor], Tensor], seed: int) -> None:
        self.samples = samples
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: tuple[int, ...]) -> Sample | ZooError:
        epoch, position, *draw = key
        try:
            value, target = self.samples.raw(position)
            image, sample = self.samples.decoded(value), int(self.samples.indices[position])
            image = transforms.seeded(self.transform, image, self.seed, epoch, sample, *draw)
            return image, self.samples.target(target, position)
        except ZooError as error:
            return error


class Fetcher:
    """Batches of samples without augmentation, from any thread; with `cache` every sample is decoded once and kept."""

    def __init__(self, samples: Samples, cache: bool) -> None:
        self.samples = samples
        self.cache = cache
        self._reading = (
            threading.Lock()
        )  # a data set need not be thread-safe; decoding and resizing run without the lock
        self._inputs: Tensor | None = None
        self._targets: Tensor | None = None
        self._filled = np.zeros(len(samples), dtype=bool)

    @torch.inference_mode(False)  # what is kept is used in training, whoever asked for it first
    def __call__(self, positions: Sequence[int] | Indices) -> Sample:
        """(inputs, targets) of `positions`, stacked. Raises InputError naming every unreadable sample of the set."""
        if not self.cache:
            return self.once(positions)
        missing = [position for position in positions if not self._filled[position]]
        for position in missing:
            self._store(position, self._load(position))
        assert self._inputs is not None
        assert self._targets is not None
        chosen = torch.as_tensor(np.asarray(positions))
        return self._inputs[chosen], self._targets[chosen]

    @torch.inference_mode(False)
    def once(self, positions: Sequence[int] | Indices) -> Sample:
        """As a call, for samples that are used once: caches none."""
        return stack([self._cached(position) or self._load(position) for position in positions])

    def _cached(self, position: int) -> Sample | None:
        if not self._filled[position] or self._inputs is None or self._targets is None:
            return None
        return self._inputs[position], self._targets[position]

    def _load(self, position: int) -> Sample:
        try:
            with self._reading:
                value, target = self.samples.raw(position)
            return self.samples.fitted(value), self.samples.target(target, position)
        except InputError as error:
            raise self.samples.unreadable(error) from error

    def _store(self, position: int, sample: Sample) -> None:
        value, target = sample
        with self._reading:
            if self._inputs is None or self._targets is None:
                self._targets = torch.empty((len(self.samples), *target.shape), dtype=target.dtype)
                self._inputs = torch.empty((len(self.samples), *value.shape), dtype=value.dtype)
        self._inputs[position] = value
        self._targets[position] = target
        self._filled[position] = True


def collate(items: Sequence[Sample | ZooError]) -> Sample | list[ZooError]:
    """The items as a batch, or the errors among them; a worker process returns either."""
    errors = [item for item in items if isinstance(item, ZooError)]
    if errors:
        return errors
    try:
        return stack([item for item in items if not isinstance(item, ZooError)])
    except ZooError as error:
        return [error]


def stack(samples: Sequence[Sample]) -> Sample:
    """Samples of one shape as a batch. Raises InputError where shapes differ."""
    try:
        return torch.stack([value for value, _ in samples]), torch.stack([target for _, target in samples])
    except RuntimeError as error:
        shapes = sorted({str([list(value.shape), list(target.shape)]) for value, target in samples})
        raise InputError(f"samples differ in shape: input and target {' or '.join(shapes[:3])}") from error
