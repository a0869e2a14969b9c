"""What is wrong with a train step that only its model and its data show, as `zoo check` notes it."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from zoo.data.sampler import epoch_of
from zoo.errors import InputError, Problem, ZooError, listed
from zoo.lint import fails_on_one_sample
from zoo.model.depths import find_chain
from zoo.model.paths import get_module
from zoo.model.unstandardise import are_far, unstandardising
from zoo.recipe.catalogue import OF_VALIDATION
from zoo.recipe.options import Named
from zoo.steps.freeze import Freeze
from zoo.steps.thresholds import Thresholds
from zoo.training.choosing import LOSS, metric_of
from zoo.training.class_weights import class_names, weighted
from zoo.training.gradual import GradualUnfreezing
from zoo.training.library_metrics import CLASS
from zoo.training.metrics import make_metrics, names_of
from zoo.training.optimizers import make_optimizer, named
from zoo.training.schedulers import Schedule, schedule_traps, training_length

if TYPE_CHECKING:
    from zoo.preflight.rehearsal import Rehearsal
    from zoo.steps.train import Train


def check_metrics(metrics: Sequence[Named] | None, rehearsal: Rehearsal) -> None:
    """Raises InputError for metrics that do not fit the task; those of one class wait for data that is not here yet."""
    data, sample = rehearsal.verdict.data, rehearsal.sample
    known = [each for each in metrics or () if data is not None or CLASS not in named(each)[1]]
    make_metrics(known, sample.context.task, sample.outputs or 2, classes=sample.context.classes)


def check_choice(step: Train, key: str, rehearsal: Rehearsal) -> None:
    """Raises InputError where what is chosen by is no metric."""
    name = step.chosen_by[key == "early_stopping"]
    if not name or name in (LOSS, *names_of(step.metrics or ())):
        return
    if OF_VALIDATION.sub("", name) == LOSS:
        hint = "write loss: what chooses is measured on the validation data"
        raise InputError(f"no metric is called {name!r}", suggestion=hint)
    check_metrics([metric_of(name)], rehearsal)


def check_checkpointing(step: Train, rehearsal: Rehearsal) -> None:
    """Note gradient checkpointing of a network that has no blocks, or none that keeps anything."""
    if not step.gradient_checkpointing:
        return
    place = rehearsal.recipe.document.key((*step.place.path, "gradient_checkpointing"))
    model = rehearsal.assembly.model
    try:
        blocks = [get_module(model, path) for path in find_chain(model)]
    except InputError:
        what = "the network has no chain of blocks to compute again"
    else:
        if any(parameter.requires_grad for block in blocks for parameter in block.parameters()):
            return
        what = "no block of the network trains, so that none keeps anything for the backward pass"
    rehearsal.verdict.errors.append(Problem(f"train.gradient_checkpointing: {what}", place, "remove it"))


def check_batch(step: Train, rehearsal: Rehearsal) -> None:
    """Note a batch of a single sample, where batch norm cannot train on it."""
    data, document, own = rehearsal.verdict.data, rehearsal.recipe.document, (*step.place.path, "batch_size")
    if data is None or (size := step.samples or data.options.batch_size) > 1 < len(data.parts["train"]):
        return
    if fails_on_one_sample(rehearsal.assembly.model, rehearsal.sample.input_shape):
        place, what, hint = (
            (own if step.batch_size else ("data", "batch_size")),
            f"batch_size {size}",
            "write 2 or more",
        )
        if size > 1:
            place, what, hint = ("data",), "the training part has one sample", "more images are needed"
        message = f"train: {what}: batch norm cannot train on a single sample"
        rehearsal.verdict.errors.append(Problem(message, document.value(place), hint))


def check_class_weights(step: Train, rehearsal: Rehearsal) -> None:
    """Raises InputError for weights that do not fit the loss or the data, and warns of a class that counts twice."""
    data = rehearsal.verdict.data
    if data is None or step.class_weights is None:
        return
    weighted(step.loss, step.class_weights, data)
    if absent := [name for name, count in zip(class_names(data), data.class_counts, strict=True) if not count]:
        said = f"train.class_weights: the training part has no sample of {listed(absent)}: what has none counts 1"
        rehearsal.warn((*step.place.path, "class_weights"), InputError(said))
    if step.class_weights == "balanced" and step.sampler == "balanced":
        message = (
            "train: class_weights: balanced and sampler: balanced both even out the classes: rare ones count twice"
        )
        hint = "one of the two is enough"
        rehearsal.warn(step.place.path, InputError(message, suggestion=hint), about="sampler")


def check_average(step: Train, rehearsal: Rehearsal) -> None:
    """Warn of an average of more epochs than training has, as far as its length is known."""
    rule, data = step.soup, rehearsal.verdict.data
    if rule is None or data is None or not has_length(step):
        return
    epochs = _length(step, rehearsal)["epochs"]
    if rule.last and rule.last > epochs:
        message, least = f"last: {rule.last} epochs, and training has {_epochs(epochs)}", rule.last
    elif rule.swa and rule.swa > epochs:
        message, least = f"swa: from epoch {rule.swa:g} on, and training has {_epochs(epochs)}", int(rule.swa)
    else:
        return
    hint = f"write epochs: {least + (rule.last is None)}, or a smaller number"
    rehearsal.warn(step.place.path, InputError(f"train.average: {message}", suggestion=hint), about="average")


def check_features(step: Train, rehearsal: Rehearsal, *, frozen: bool) -> None:
    """Warn of options on the features of a frozen backbone that do nothing here."""
    data = rehearsal.verdict.data
    asked = [f"feature_cache: {step.feature_cache}"] if step.feature_cache in ("kept", "every_step") else []
    asked += [f"views: {step.views}"] if step.views else []
    if not frozen and asked:
        message = f"train: {' and '.join(asked)}, and nothing is frozen: there are no features to keep"
        hint = "put freeze: all_but_head in front, or remove it"
    elif step.views and data is not None and data.augmentation == "none":
        message = f"train.views: {step.views} passes over the images, and nothing changes these: all are the same"
        hint = "write data.augmentation, or remove views"
    elif step.views and step.feature_cache in ("off", "every_step"):
        message = (
            f"train.views: feature_cache: {step.feature_cache} keeps no features, so that there are no views of any"
        )
        hint = "write feature_cache: kept, or remove views"
    else:
        return
    about = "views" if step.views else "feature_cache"
    rehearsal.warn(step.place.path, InputError(message, suggestion=hint), about=about)


def check_sampler(step: Train, rehearsal: Rehearsal) -> None:
    """Raises InputError where classes cannot be drawn evenly, and says what an epoch becomes."""
    data = rehearsal.verdict.data
    if data is None or step.sampler is None:
        return
    data.order("train", sampler=step.sampler)
    rehearsal.say(f"train: sampler: balanced: {epoch_of(data.class_counts, class_names(data))}")


def check_thresholds(step: Train, rehearsal: Rehearsal) -> None:
    """Warn where thresholds of labels that were set before training are not set again behind it."""
    later = rehearsal.recipe.steps[step.place.index + 1 :]
    if rehearsal.assembly.thresholds and not any(isinstance(each, (Thresholds, type(step))) for each in later):
        message = "train: the labels' thresholds were set for the weights in front of this step, and stay"
        hint = "put thresholds: tuned behind it"
        rehearsal.warn(step.place.path, InputError(message, suggestion=hint))


def build_schedule(step: Train, rehearsal: Rehearsal) -> None:
    """Build optimizer and schedule as training would, and note its rates; how long it would be does not matter to what
    fails."""
    model, stages = rehearsal.assembly.model, rehearsal.verdict.stages
    gradual = GradualUnfreezing(model, None)
    with suppress(InputError):  # which check_thawing notes
        gradual = GradualUnfreezing(model, step.gradual)
    optimizer = make_optimizer(model, step, gradual.begins)
    stages[-1] = replace(stages[-1], groups=gradual.rates(optimizer))
    try:
        Schedule(optimizer, step, steps=100, epochs=10, higher_is_better=True)
    except ZooError as error:
        rehearsal.note(step.place.path, error, about="scheduler")


def check_thawing(step: Train, rehearsal: Rehearsal) -> None:
    """Note the phases of gradual unfreezing, and warn of groups that training is too short for. Raises InputError where
    nothing can thaw."""
    if step.gradual is None:
        return
    gradual = GradualUnfreezing(rehearsal.assembly.model, step.gradual)
    epochs = _length(step, rehearsal)["epochs"] if has_length(step) else sys.maxsize
    stages = rehearsal.verdict.stages
    rows = gradual.rows(epochs)
    never = sum(row["parameters"] for row in rows if row["epoch"] is None)
    counted = {"trainable": stages[-1].trainable - never, "frozen": stages[-1].frozen + never}
    stages[-1] = replace(stages[-1], phases=rows, **counted)
    if late := [phase for phase in gradual.phases if phase.epoch >= epochs]:
        names = listed(phase.group for phase in late)
        message = f"train.unfreeze_gradually: training has {_epochs(epochs)}, and {names} would thaw behind them"
        hint = f"write epochs: {late[-1].epoch + step.gradual.every}, or a smaller every"
        rehearsal.warn(step.place.path, InputError(message, suggestion=hint), about="unfreeze_gradually")


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' if count != 1 else ''}"


def has_length(step: Train) -> bool:
    """Whether the recipe says how long training is: that of a time alone is found when its speed is measured."""
    return step.epochs is not None or step.max_steps is not None


def _length(step: Train, rehearsal: Rehearsal) -> dict[str, int]:
    """`steps`, `epochs` and `per_epoch` of a training on the data, as far as that is known."""
    data, per_epoch = rehearsal.verdict.data, 1
    if data is not None:
        per_epoch = math.ceil(len(data.order("train", batch_size=step.samples)) / step.accumulate)
    epochs, steps = training_length(step, per_epoch)
    return {"steps": steps, "epochs": epochs, "per_epoch": per_epoch}


def check_schedule(step: Train, rehearsal: Rehearsal) -> None:
    """Note what the schedule would do in a training as long as the data makes it."""
    data = rehearsal.verdict.data
    if data is None or not has_length(step):
        return
    watched, better = "", None
    with suppress(ZooError):  # a metric that cannot be made is noted by itstep
        metrics = make_metrics(step.measured(data.task), data.task, data.outputs, classes=data.classes)
        watched, better = metrics.main, metrics.higher_is_better
    for trap in schedule_traps(step, **_length(step, rehearsal), watched=watched, higher_is_better=better):
        place = rehearsal.recipe.document.value((*step.place.path, trap.where[0]))
        noted = rehearsal.verdict.errors if trap.fatal else rehearsal.verdict.warnings
        noted.append(trap.problem(place))


def check_unit(step: Train, rehearsal: Rehearsal) -> None:
    """Warn of a regression's targets that are far from what the head gives as training begins, which is near 0."""
    data = rehearsal.verdict.data
    if data is None or not data.target_std or unstandardising(rehearsal.assembly.model) is not None:
        return
    fresh = rehearsal.recipe.checkpoint is None
    for mean, std in zip(data.target_mean, data.target_std, strict=True):
        if fresh and are_far([mean], [std]):
            message = (
                f"train: targets have a mean of {mean:g} and a spread of {std:g}, and the head gives values near 0"
            )
            hint = "put swap_head: auto in front: its head learns them standardised, and gives them in their unit"
            rehearsal.warn(step.place.path, InputError(message, suggestion=hint))
            return


def nothing_trains(step: Train, rehearsal: Rehearsal) -> None:
    steps = rehearsal.recipe.steps[: step.place.index]
    places = [step.place.location.within for step in steps if isinstance(step, Freeze)]
    by = f": the freeze step in {places[-1]} leaves nothing" if places else ""
    hint = "freeze less, for instance freeze: all_but_head, or put what shall train behind the freeze step"
    if next(rehearsal.assembly.model.parameters(), None) is None:
        by, hint = ": the model has no parameters", "remove the step"
    location = rehearsal.recipe.document.key(step.place.path)
    rehearsal.verdict.errors.append(Problem(f"train: there is nothing to train{by}", location, hint))
