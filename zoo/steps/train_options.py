"""Options of a train step that contradict one another, or the recipe around it: found as the recipe is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zoo.recipe import Step
from zoo.recipe.document import Document
from zoo.recipe.step import check_expression
from zoo.training.optimizers import named

if TYPE_CHECKING:
    from zoo.steps.train import Train

CLASS_LOSSES = ("auto", "cross_entropy", "CrossEntropyLoss")  # those that label smoothing does something to
LENGTHS = ("epochs", "max_steps", "time_budget", "planned")  # what says how long training is; one of them has to
LAST = "last.safetensors"  # the last epoch, where another one is kept


def check_options(step: Train, document: Document, earlier: Sequence[Step], trains: Sequence[Train]) -> None:
    """Note what contradicts itself; `trains` are the train steps among the `earlier` ones."""
    path = step.place.path
    if all(getattr(step, key) is None for key in LENGTHS):
        message = f"{step.place.action}: epochs is missing"
        document.add(path, message, "write epochs, max_steps or time_budget", at_key=True)
    planned = [first for first, _ in step.planned or ()]
    if planned and (planned[0] or planned != sorted(set(planned))):
        message = "train.planned: a plan begins with optimizer step 0, and its steps rise"
        document.add((*path, "planned"), message, "write time_budget in its place, which plans anew")
    if step.warmup > 1 and step.warmup != int(step.warmup):
        message = f"train.warmup: {step.warmup} is neither a share below 1 nor an integer number of steps"
        document.add((*path, "warmup"), message)
    taken = [one for one in earlier if one.place.action == "save" and LAST in map(str.casefold, one.files)]
    if step.keeps_best and taken:
        where = taken[0].place.location.within
        message = f"train: {LAST}, the last epoch beside the best, is what the save step in {where} writes"
        document.add(taken[0].place.path, message, "give it another name", at_key=True)
    _check_average(step, document)
    _check_cost(step, document, earlier)
    for pattern in step.lr_scale:
        check_expression(document, (*path, "lr_scale", pattern), pattern, at_key=True)
    _check_unfreezing(step, document)
    _check_optimizer(step, document, trains)
    word, listed_ = document.get(("data", "augmentation"), "none"), document.get(("data", "transforms"))
    if step.feature_cache == "kept" and (word != "none" or listed_) and not step.views:
        what = "data.transforms change" if listed_ else f"augmentation {word} changes"
        message = f"train.feature_cache: {what} every epoch"
        document.add((*path, "feature_cache"), message, "write views: K for K augmented passes, or every_step")
    weights = step.class_weights if isinstance(step.class_weights, dict) else {}
    for name in (name for name, weight in weights.items() if weight < 0):
        message = f"train.class_weights: {name!r} counts {weights[name]:g}, less than nothing"
        document.add((*path, "class_weights", name), message, "write 0 or more")
    loss = next(iter(step.loss)) if isinstance(step.loss, dict) else step.loss
    if step.label_smoothing and loss not in CLASS_LOSSES:
        message = f"train.label_smoothing does nothing with the loss {loss}"
        document.add((*path, "label_smoothing"), message, "remove it", at_key=True)


def _check_unfreezing(step: Train, document: Document) -> None:
    path = step.place.path
    patterns = step.gradual.groups if step.gradual and isinstance(step.gradual.groups, list) else []
    for index, pattern in enumerate(patterns):
        check_expression(document, (*path, "unfreeze_gradually", "groups", index), pattern)
    if step.gradual and step.feature_cache in ("kept", "every_step"):
        message = f"train.feature_cache: {step.feature_cache}: unfreeze_gradually thaws the backbone"
        hint = "remove it, or train the head on cached features in a step in front: freeze: all_but_head, train"
        document.add((*path, "feature_cache"), message, hint)


def _check_optimizer(step: Train, document: Document, trains: Sequence[Train]) -> None:
    """What contradicts itself about weight decay, and whether there is a state to carry over."""
    path, (name, arguments) = step.place.path, named(step.optimizer)
    if step.weight_decay is not None and "weight_decay" in arguments:
        message = f"train: weight_decay is {step.weight_decay:g}, and {name} has one of its own"
        document.add((*path, "weight_decay"), message, "remove one of the two", at_key=True)
    if step.optimizer_state == "fresh":
        return
    place = (*path, "optimizer_state")
    if not trains:
        document.add(place, "train.optimizer_state: carried: no train step stands in front", "write fresh")
        return
    before, own = named(trains[-1].optimizer), {**arguments, "weight_decay": None}
    if before[0] != name or {**before[1], "weight_decay": None} != own:
        where = trains[-1].place.location.within
        message = f"train.optimizer_state: carried: the train step in {where} has the optimizer {before[0]}"
        message += " with other arguments" if before[0] == name else f", this one {name}"
        document.add(place, message, "give both the same, or write fresh")


def _check_average(step: Train, document: Document) -> None:
    """Note an average that is none, or that does not go with another choice of weights."""
    path, rule = step.place.path, step.soup
    if rule is None:
        return
    given = [name for name in ("last", "greedy", "swa") if getattr(rule, name) is not None]
    if len(given) != 1:
        document.add(
            (*path, "average"), "train.average: one of last, greedy and swa", "for instance average: {last: 3}"
        )
    elif rule.swa is not None and rule.swa > 1 and rule.swa != int(rule.swa):
        message = f"train.average: swa: {rule.swa} is neither a share below 1 nor the number of an epoch"
        document.add((*path, "average", "swa"), message)
    others = {"ema": step.ema is not None, "keep": step.keep not in ("auto", "last")}
    for name in (name for name, there in others.items() if there):
        message = f"train.{name}: average decides already which weights remain"
        document.add((*path, name), message, f"remove {name}, or average", at_key=True)


def _check_cost(step: Train, document: Document, earlier: Sequence[Step]) -> None:
    """Note options on cost that do nothing, or do not go together."""
    path = step.place.path
    before = [other.place.name for other in earlier if other.place.name in ("train", "lr_finder")]
    if step.lr == "found" and before[-1:] != ["lr_finder"]:
        message = "train.lr: found, and no lr_finder stands in front of this train step"
        document.add((*path, "lr"), message, "put the step lr_finder in front of it, or write a number")
    if not step.gradient_checkpointing:
        return
    if step.compile:
        message = "train.gradient_checkpointing: not with compile, which decides itself what to compute again"
        document.add((*path, "gradient_checkpointing"), message, "remove one of them", at_key=True)
    if step.feature_cache in ("kept", "every_step"):
        message = (
            "train.gradient_checkpointing: not with a feature cache, which runs the frozen blocks without gradients"
        )
        document.add((*path, "gradient_checkpointing"), message, "write feature_cache: off, or remove it", at_key=True)
