"""Open the data set that a recipe names: its split, and the batches of either part."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from zoo import registry
from zoo.contracts import Context, Data, Preprocessing
from zoo.data import split, transforms
from zoo.data.batches import ImageBatches, Order
from zoo.data.describe import describe
from zoo.data.presets import FITTED
from zoo.data.sampler import Sampler, balanced_chances
from zoo.data.samples import Fetcher, Samples
from zoo.errors import InputError, any_of
from zoo.plugin_calls import call, expect
from zoo.recipe.options import DataOptions
from zoo.recipe.signature import converted

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
TASKS = ("classification", "multilabel", "regression")
INPUTS = ("image", "features")
MOST_WORKERS = 8
CACHE_SHARE = 0.25  # of the memory that is free when the data is opened


@dataclass
class OpenData:
    """A data set ready to be batched; `outputs` is the width a network needs.

    `parts` are the training part, the validation part, which chooses, and, where there is one, the test part, which
    reports. `notes` are the data set's remarks for the person. `target_mean` and `target_std` are those of a
    regression's training targets, a number an output; () where the data set keeps no list of them.
    """

    options: DataOptions
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    task: str
    outputs: int
    parts: dict[Part, Samples]
    seed: int
    notes: tuple[str, ...] = ()
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    _fetchers: dict[Part, Fetcher] = field(default_factory=dict)
    _colours: bool | None = None  # whether training images have any, once that was asked

    @property
    def context(self) -> Context:
        """What `auto` in a surgery is filled in from."""
        context = Context(self.outputs, self.classes, self.preprocessing, self.task)
        return replace(context, target_mean=self.target_mean, target_std=self.target_std)

    @functools.cached_property
    def class_counts(self) -> tuple[float, ...]:
        """How many training samples each class has: of soft targets the sum of its probabilities, of several labels a
        sample how many have it. Reads every training sample where the data set keeps no list of its targets."""
        targets = self.parts["train"].every_target()
        counts = targets.sum(0) if targets.ndim == 2 else targets.bincount(minlength=self.outputs)
        return tuple(float(count) for count in counts)

    @property
    def soft(self) -> bool:
        """Whether a training target is a probability of each class, in place of one class."""
        return self.task == "classification" and split.probabilities(self.parts["train"].raw(0)[1]) is not None

    @property
    def augmentation(self) -> transforms.Augmentation:
        """How training images are changed at random; `none` where they are not."""
        if self.options.augmentation not in FITTED:
            return transforms.changes_of(self.options)
        if self._colours is None:
            self._colours = self.parts["train"].has_colours()
        return transforms.changes_of(self.options, channels=self.preprocessing.channels, colours=self._colours)

    def prepare(self, preprocessing: Preprocessing) -> None:
        """Prepare the images of all parts so from now on; features stay as they are. What was decoded and kept stays
        where it does not depend on it."""
        if (preprocessing.range, preprocessing.layout) != (self.preprocessing.range, self.preprocessing.layout):
            self._fetchers.clear()
        self.preprocessing = preprocessing
        for samples in self.parts.values():
            samples.preprocessing = None if samples.preprocessing is None else preprocessing

    def with_classes(self, classes: tuple[str, ...]) -> OpenData:
        """The same data with class indices, or a regression's values, in the order of `classes`, which has to contain
        all of its own."""
        places = [classes.index(name) for name in self.classes]
        parts = {part: samples.renumbered(places, len(classes)) for part, samples in self.parts.items()}
        mean, std = (
            tuple(its[self.classes.index(name)] for name in classes) if its else ()
            for its in (self.target_mean, self.target_std)
        )
        own = replace(self, target_mean=mean, target_std=std)
        return replace(own, classes=classes, outputs=len(classes), parts=parts, _fetchers={})

    def summary(self) -> dict[str, Any]:
        """What a report says about the data."""
        sizes = {str(part): len(samples) for part, samples in self.parts.items()}
        return {**self.description(), **sizes}

    def description(self) -> dict[str, Any]:
        """What the data is, whichever part of it is meant."""
        return {"source": self.options.source, "task": self.task, "outputs": self.outputs}

    def batches(
        self,
        part: Part,
        *,
        device: torch.device | str = "cpu",
        batch_size: int | None = None,
        shuffle: bool | None = None,
        augment: bool | None = None,
        step: int = 0,
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
        sampler: Sampler | None = None,
        once: bool = False,
    ) -> ImageBatches:
        """Batches of a part, one process's share. Training is shuffled and augmented by default, validation never.

        `batch_size` counts the samples of all `world` processes together; `step` is the number of the train step, from
        0, each of which has an order of its own (that of `seed`, where it has one). A `sampler` draws what is shuffled
        so that classes are equally likely. With `once` decoded samples are not
        kept for a next epoch.
        """
        training = part == "train"
        shuffled = training if shuffle is None else shuffle
        key = (self.seed, step) if seed is None else (seed,)
        order = self.order(
            part, batch_size=batch_size, shuffle=shuffled, key=key, rank=rank, world=world, sampler=sampler
        )
        augmentation = self.augmentation if (training if augment is None else augment) else "none"
        workers = self._workers(part, augmentation)
        return ImageBatches(
            self._fetcher(part),
            order,
            augmentation=augmentation,
            device=torch.device(device),
            workers=workers,
            once=once,
        )

    def order(
        self,
        part: Part,
        *,
        batch_size: int | None = None,
        shuffle: bool = True,
        key: tuple[int, ...] = (),
        rank: int = 0,
        world: int = 1,
        sampler: Sampler | None = None,
    ) -> Order:
        """Which samples of a part are in which batch; `key` is what the order is drawn from. `len` is an epoch's
        number of batches."""
        size, drawn = batch_size or self.options.batch_size, transforms.derived_seed(*key)
        samples = self.parts[part]
        chances = balanced_chances(samples.every_target(), self.task) if sampler and shuffle else None
        return Order(len(samples), size, seed=drawn, shuffle=shuffle, rank=rank, world=world, chances=chances)

    def _fetcher(self, part: Part) -> Fetcher:
        if part not in self._fetchers:
            self._fetchers[part] = Fetcher(self.parts[part], self._caches(part))
        return self._fetchers[part]

    def _caches(self, part: Part) -> bool:
        """Whether this part's decoded samples are kept: they are the same in every epoch, and fit into memory."""
        random = part == "train" and transforms.is_random_per_image(self.augmentation)
        if self.options.cache == "off" or random:
            return False
        free = CACHE_SHARE * _free_memory() / _local_processes()
        return self.options.cache == "memory" or self._decoded_bytes(("train", "validation")) <= free

    def _decoded_bytes(self, parts: Sequence[Part]) -> int:
        size = self.preprocessing.channels * self.preprocessing.size[0] * self.preprocessing.size[1]
        size *= 1 if self.preprocessing.range is None else 4
        return size * sum(len(self.parts[part]) for part in parts if part in self.parts)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the decoded images that training end to end keeps in memory; the test part is seen once."""
        return self._decoded_bytes([part for part in ("train", "validation") if self._caches(part)])

    def _workers(self, part: Part, augmentation: transforms.Augmentation) -> int:
        """Threads, or processes for random transforms: as many as there are cores, none for tensors in memory."""
        if self.options.workers != "auto":
            return self.options.workers
        value, _ = self.parts[part].raw(0)
        in_memory = not isinstance(value, str | os.PathLike) and not transforms.is_random_per_image(augmentation)
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return 0 if in_memory else min(max(cores // _local_processes(), 1), MOST_WORKERS)


def open_data(
    options: DataOptions,
    preprocessing: Preprocessing | None = None,
    *,
    seed: int = 0,
    dataset: registry.Component | None = None,
    whole: bool = False,
) -> OpenData:
    """The data set that `options` names (or the `dataset` found by that name), split and limited by the options' own
    `split_seed`, else by `seed`.

    `preprocessing` is the weights'; the options' own size, mean, std and interpolation override it. Of a data set
    without a validation part a seeded share of the training samples, stratified by class, is held out, and another one
    for testing where `test_fraction` asks for it and the data set has no test part; `limit` takes a stratified choice
    of at most so many samples of each part. With `whole` nothing is held out: the parts are those of the data set, the
    first of them called `train`. Raises InputError for an unknown or wrongly used data set, WorkError for one that
    fails.
    """
    data = _call(options, dataset)
    resolved = transforms.resolve(preprocessing or Preprocessing(), options)
    split_seed = seed if options.split_seed is None else options.split_seed
    chosen = _given_parts(data, options, split_seed) if whole else _split(data, options, split_seed)
    classes, outputs = _classes_and_outputs(data, chosen["train"])
    if data.task == "classification" and outputs < 2 and not whole:
        message = (
            f"{options.source} has one class{f', {classes[0]!r}' if classes else ''}: there is nothing to distinguish"
        )
        raise InputError(message, suggestion="name the folder in which every class has a folder, or more data")
    features = data.inputs == "features"
    if features and transforms.changes_of(options) != "none":
        key = "transforms" if options.transforms else "augmentation"
        raise InputError(f"{options.source} contains features, not images", suggestion=f"remove data.{key}")
    image = None if features else resolved
    parts = {part: Samples(*samples, image, data.task, outputs) for part, samples in chosen.items()}
    if data.task != "classification":  # whose targets have all been looked at
        parts["train"].target(parts["train"].raw(0)[1], 0)
    about = describe(data.task, classes, outputs, parts, "" if whole else _held_out(data, options))
    return OpenData(
        options,
        resolved,
        classes,
        data.task,
        outputs,
        parts,
        seed,
        (f"data: {about}", *data.notes),
        *_mean_and_std(data, chosen["train"]),
    )


def _mean_and_std(data: Data, train: Chosen) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Of a regression's training targets, a number an output; a spread of 0 is given as 1."""
    dataset, indices = train
    listed = split.listed_targets(dataset) if data.task == "regression" else None
    if listed is None:
        return (), ()
    try:
        values = np.asarray(listed, dtype=np.float64).reshape(len(listed), -1)[indices]
    except (TypeError, ValueError):  # names, say: reading the samples tells which
        return (), ()
    mean, std = values.mean(0), values.std(0)
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):  # reading the samples names those
        return (), ()
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


def _held_out(data: Data, options: DataOptions) -> str:
    """How a data set without a validation or test part of its own got one."""
    kind = ", stratified" if data.task == "classification" else ""
    shares = {"validation": options.validation_fraction, "test": options.test_fraction}
    return "; ".join(
        f"{part} is {share:.0%} of the training samples, drawn at random{kind}"
        for part, share in shares.items()
        if getattr(data, part) is None and share
    )


def _call(options: DataOptions, dataset: registry.Component | None) -> Data:
    component = registry.resolve(dataset or options.source, "datasets")
    make = registry.load(component)
    try:
        inspect.signature(make).bind(**options.arguments)
    except TypeError as error:
        raise InputError(f"data set {options.source}: {error}", suggestion=f"see: zoo show {options.source}") from error
    except ValueError:  # built into C: it says itself what it takes
        pass
    made = call(component, lambda: make(**converted(make, options.arguments)), failing="cannot be opened")
    data = expect(component, made, Data)
    for word, value, known in (("task", data.task, TASKS), ("inputs", data.inputs, INPUTS)):
        if value not in known:
            message = f"data set {options.source} has the unknown {word} {value!r}"
            raise InputError(message, suggestion=f"its code may give {any_of(known)}")
    for part in PARTS:
        _check_part(options.source, part, getattr(data, part))
    return data


def _check_part(source: str, part: str, samples: Any) -> None:
    """Raises InputError for a part that cannot be read by position, or whose samples are no pairs."""
    if samples is None and part != "train":
        return
    if not (hasattr(samples, "__len__") and hasattr(samples, "__getitem__")):
        message = f"data set {source}: its {part} part is {type(samples).__name__}, which has no length or no positions"
        raise InputError(message, suggestion="give a map-style data set: __len__ and __getitem__")
    try:
        size = len(samples)
    except Exception as error:  # torch's IterableDataset has the attribute, and no length
        message = f"data set {source}: the length of its {part} part is not known: {type(error).__name__}: {error}"
        raise InputError(message, suggestion="give a map-style data set: __len__ and __getitem__") from error
    if size:
        split.read(samples, 0)


Chosen = tuple[Any, split.Indices]


def _given_parts(data: Data, options: DataOptions, seed: int) -> dict[Part, Chosen]:
    """(data set, positions) of each part that the data set has itself, limited."""
    given: dict[Part, Any] = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        part: (dataset, np.sort(_spread(data, dataset, options, seed)))
        for part, dataset in given.items()
        if dataset is not None
    }


def _split(data: Data, options: DataOptions, seed: int) -> dict[Part, Chosen]:
    """(data set, positions) of each part; what the data set lacks is held out of its training samples."""
    fractions: dict[Part, float] = {"validation": options.validation_fraction, "test": options.test_fraction or 0.0}
    lacking: dict[Part, float] = {p: share for p, share in fractions.items() if getattr(data, p) is None and share}
    if not lacking:
        return _given_parts(data, options, seed)
    if (left := 1 - sum(lacking.values())) <= 0:
        shares = " and ".join(f"data.{part}_fraction {share:g}" for part, share in lacking.items())
        raise InputError(f"{shares} leave nothing to train on", suggestion="let them add up to less than 1")
    order = _spread(data, data.train, options, seed, left)
    if len(order) <= len(lacking):
        what = " and ".join(lacking)
        raise InputError(f"{options.source} contains {len(order)} samples: too few to hold some out for {what}")
    rest, *held_out = split.hold_out(order, *lacking.values())
    if options.limit:  # rounding may have left one more
        first = sum(map(len, held_out))
        rest = np.sort(order[first : first + options.limit])
    others = _given_parts(replace(data, train=None), options, seed)
    own = {part: (data.train, positions) for part, positions in zip(lacking, held_out, strict=True)}
    found: dict[Part, Chosen] = {"train": (data.train, rest), **others, **own}
    return {part: found[part] for part in PARTS if part in found}


def _spread(data: Data, dataset: Any, options: DataOptions, seed: int, left: float = 1.0) -> split.Indices:
    """A stratified random order of the data set's positions; of at most `limit` behind what is held out of them."""
    if not len(dataset):
        raise InputError("the data set contains no samples")
    strata = split.class_indices(dataset) if data.task == "classification" else None
    order = split.spread(strata, len(dataset), seed)
    return order[: round(options.limit / left)] if options.limit else order


def _classes_and_outputs(data: Data, train: Chosen) -> tuple[tuple[str, ...], int]:
    """Class names and the number of outputs a network needs."""
    classes = tuple(str(name) for name in data.classes)
    if data.task == "classification":
        soft = split.probabilities(split.read(train[0], int(train[1][0]))[1])
        if not classes:
            count = max(split.class_indices(data.train)) + 1 if soft is None else len(soft)
            classes = tuple(map(str, range(count)))
        if soft is not None and len(soft) != len(classes):
            raise InputError(f"targets have {len(soft)} probabilities, but there are {len(classes)} class names")
        return classes, len(classes)
    dataset, indices = train
    outputs = int(np.asarray(dataset[int(indices[0])][1]).size)  # np.size(tensor) is a method
    if classes and len(classes) != outputs:
        raise InputError(f"targets have {outputs} values, but there are {len(classes)} class names")
    return classes, outputs


def _free_memory() -> int:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return 8 * 2**30


def _local_processes() -> int:
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
