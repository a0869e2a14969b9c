"""What changes a train step's samples at random: mixup and cutmix, and what is said of that and of augmentation."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from zoo.data.mixing import MixedBatches, Mixing
from zoo.data.presets import FITTED, FLIP, mixing_of
from zoo.data.transforms import said_of
from zoo.errors import InputError, Problem, ZooError
from zoo.training.job import Job
from zoo.training.losses import check_loss
from zoo.training.schedulers import training_length
from zoo.training.trunk.batches import StreamedBatches
from zoo.training.trunk.cost import USUAL_VIEWS, Changing

if TYPE_CHECKING:
    from zoo.data.open_data import OpenData
    from zoo.preflight.rehearsal import Rehearsal
    from zoo.steps.train import Train

NAMES = ("mixup", "cutmix")


def mixing(step: Train, data: OpenData, *, of_features: bool) -> Mixing:
    """The step's own `mixup` and `cutmix`, else what the word of `data.augmentation` mixes by, but for cutmix where
    there is nothing that it could cut a box out of, or a box has no share of the target."""
    images = not of_features and data.parts["train"].preprocessing is not None
    usual = mixing_of(data.options.augmentation)
    if data.task == "regression" or not images:
        usual = {name: alpha for name, alpha in usual.items() if name != "cutmix"}
    own = {name: getattr(step, name) for name in NAMES if getattr(step, name) is not None}
    return Mixing(**{**usual, **own})


def keeps_features(step: Train) -> bool:
    """Whether the features of a frozen backbone are asked to be kept, and not just where nothing changes them."""
    return step.feature_cache == "kept" or bool(step.views)


def check_mixing(step: Train, rehearsal: Rehearsal, *, frozen: bool) -> None:
    """Note what cannot be mixed: boxes of what is no image, a regression's values by areas, a batch of one sample, and
    targets of a loss that takes one class a sample."""
    data = rehearsal.verdict.data
    of_features = frozen and keeps_features(step)
    if data is None or not (mixed := mixing(step, data, of_features=of_features)):
        return
    if step.cutmix:
        _check_cutmix(step, rehearsal, data, of_features)
    said, own = str(mixed), next((name for name in NAMES if getattr(step, name)), "")
    if (step.samples or data.options.batch_size) < 2:
        message = f"train: {said} mixes the samples of a batch, and batches have one sample"
        _note(step, rehearsal, own, message, "write batch_size: 2 or more")
    try:
        check_loss(step.loss, data.task, data.outputs, label_smoothing=step.label_smoothing, soft=True)
    except ZooError as error:
        without = " and ".join(f"{name}: 0" for name in mixed.as_dict())
        for problem in error.problems:
            if "shares of several" in problem.message:  # other mistakes of the loss are noted by the step
                hint = f"{problem.suggestion}; or write {without}"
                _note(step, rehearsal, "loss", f"train: {said}: {problem.message}", hint)


def _check_cutmix(step: Train, rehearsal: Rehearsal, data: OpenData, of_features: bool) -> None:
    if data.task == "regression":
        message = "train.cutmix: the share of an image's area is no share of a regression's value"
        _note(step, rehearsal, "cutmix", message, "write mixup in its place")
    elif data.parts["train"].preprocessing is None:
        message = f"train.cutmix: {data.options.source} contains features, and boxes are cut out of images"
        _note(step, rehearsal, "cutmix", message, "write mixup in its place")
    elif of_features:
        kept = f"views: {step.views} keeps" if step.views else "feature_cache: kept trains on"
        message = f"train.cutmix: {kept} features, and boxes are cut out of images"
        _note(step, rehearsal, "cutmix", message, "write feature_cache: every_step and no views, or mixup in its place")


def _note(step: Train, rehearsal: Rehearsal, key: str, message: str, hint: str) -> None:
    path = (*step.place.path, key)
    known = rehearsal.recipe.document.get(path) is not None
    location = rehearsal.recipe.document.key(path if key and known else step.place.path)
    rehearsal.verdict.errors.append(Problem(message, location, hint))


def changing(step: Train, data: OpenData) -> Changing:
    """What changes images at random in every epoch; nothing where features are asked to be kept all the same."""
    augmented, own = data.augmentation != "none", [name for name in NAMES if getattr(step, name)]
    why = [said_of(data.options)] if augmented else []
    if not keeps_features(step):
        why += own
    without = "cutmix: 0 with " if own == ["mixup", "cutmix"] or (augmented and step.cutmix) else ""
    instead = f"views: {USUAL_VIEWS}" if augmented else "feature_cache: kept (of mixed features)"
    if not augmented and own == ["cutmix"]:
        without = "mixup in place of cutmix with "
    return Changing(" and ".join(why), without + instead, USUAL_VIEWS if augmented else 1)


def check_changing(step: Train, rehearsal: Rehearsal, *, frozen: bool) -> None:
    """Warn of a frozen backbone that has to run on every image in every epoch, as these change at random."""
    data = rehearsal.verdict.data
    if data is None or not frozen or step.views or step.feature_cache == "off" or step.unfreeze_gradually:
        return
    first = next((each for each in rehearsal.assembly.model.parameters() if each.dim() > 1), None)
    if first is None or first.requires_grad:  # `freeze: batchnorm` leaves no features that could be kept
        return
    samples, per_epoch = len(data.parts["train"]), len(data.order("train", batch_size=step.samples))
    epochs, _ = training_length(step, math.ceil(per_epoch / step.accumulate))
    if (found := changing(step, data)) and epochs > found.passes:
        each = f"{samples:,} images"
        message = f"train: {found.why}: the frozen backbone runs on {epochs} x {each}, as each epoch has others"
        hint = f"{found.instead} runs it on {found.passes} x {each} and keeps their features"
        rehearsal.warn(step.place.path, InputError(message, suggestion=hint))


def mixed(job: Job, data: OpenData, seed: int) -> Job:
    """The job with its samples mixed: in the images, also where a frozen backbone runs at every step, or else in the
    features that are kept. `seed` is that of the order."""
    of_features = job.feature_cache.get("use") == "kept"
    how = mixing(job.options, data, of_features=of_features)
    if not how:
        return job
    made = functools.partial(MixedBatches, mixing=how, task=job.task, outputs=job.outputs, seed=seed)
    images = job.train
    train = (
        StreamedBatches(made(images.batches), images.engine) if isinstance(images, StreamedBatches) else made(images)
    )
    return replace(job, train=train, mixing=how.as_dict() | ({"of": "features"} if of_features else {}))


def changes_of(data: OpenData) -> list[Any]:
    """The report's record of how training images are changed at random."""
    changes = data.augmentation
    return [] if changes == "none" else [changes] if isinstance(changes, str) else list(changes)


def changes_said(data: OpenData, job: Job) -> Iterator[str]:
    """Lines for the person: what a word of `data.augmentation` came to on this data, and what is mixed."""
    if data.options.augmentation in FITTED:
        names = [value if isinstance(value, str) else next(iter(value)) for value in changes_of(data)]
        grey = "" if FLIP in names else "; images without colour are not mirrored"
        yield f"{said_of(data.options)} is {', '.join(names)}{grey}"
    if job.mixing:
        alphas = " or ".join(f"{name} {job.mixing[name]:g}" for name in NAMES if name in job.mixing)
        where = "the kept features (manifold mixup)" if "of" in job.mixing else "the samples"
        yield f"{alphas} mixes {where} of each batch in pairs"
