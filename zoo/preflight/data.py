"""The data as a dry run sees it: opened for its classes, never downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoo import registry
from zoo.contracts import Context, Preprocessing
from zoo.data import transforms
from zoo.data.measure import decide_range, to_measure
from zoo.data.open_data import OpenData, open_data
from zoo.errors import InputError, Problem, ZooError, listed
from zoo.model.undisturbed import generators_kept
from zoo.preflight.readable import unreadable
from zoo.preflight.verdict import Known, Verdict, placed
from zoo.recipe import Recipe
from zoo.recipe.references import parameters_of
from zoo.training.devices import seed_everything

BATCH = 2
STAND_IN_CLASSES = 10  # for `auto`, where the data is not on this machine


@dataclass(frozen=True)
class Sample:
    """What the data asks of the network. `outputs` is None where the data is not on this machine.

    `input_shape` is [b, c, h, w] of images, [b, …] of features.
    """

    context: Context
    input_shape: tuple[int, ...]
    outputs: int | None


def look_at_data(recipe: Recipe, verdict: Verdict, known: Known, *, images: bool = False) -> Sample:
    """Open the data the recipe names, for the verdict. What is wrong with it goes there, too; a download is left for
    later. `known` is what the model's weights say of it. With `images` every sample is read, else some of them."""
    preprocessing = known.preprocessing
    if recipe.data is None:
        return _without(preprocessing, None)
    later = _downloads(recipe)
    try:
        preprocessing = transforms.resolve(preprocessing, recipe.data)
    except ZooError as error:
        verdict.errors += placed(recipe, ("data",), error)
        return _without(preprocessing, STAND_IN_CLASSES)
    try:
        known = replace(known, preprocessing=preprocessing)
        opened = open_recipe_data(recipe, known, download=False if later else None)
        with generators_kept():
            for part in opened.parts.values():
                part.raw(0)  # a data set that lists its targets was not asked for a sample yet
        sample = Sample(opened.context, _shape(opened), opened.outputs)
        _check_values(recipe, verdict, opened, images=images)
        _check_transforms(recipe, verdict, opened)
    except ZooError as error:
        if later:
            said = f"{recipe.data.source} is not here yet, so the number of classes is not known"
            place = recipe.document.value(("data", "source"))
            verdict.warnings.append(Problem(said, place, "finetune downloads it"))
        else:
            verdict.errors += placed(recipe, ("data",), error)
        return _without(preprocessing, STAND_IN_CLASSES)
    verdict.outputs, verdict.data = sample.outputs, opened
    return sample


def _check_values(recipe: Recipe, verdict: Verdict, opened: OpenData, *, images: bool) -> None:
    """Decode some images, or all, so that values or channels that do not fit and files that are none are said before
    anything starts, and note what features cannot have."""
    samples, names = opened.parts["train"], to_measure(opened)
    if samples.preprocessing is None:
        for name in names:
            error = InputError("features are taken as they are, not normalised", suggestion=f"remove data.{name}")
            verdict.errors += placed(recipe, ("data", name), error)
        return
    if recipe.data is not None and recipe.data.mean is None and _repeats(opened.preprocessing):
        said = f"{opened.preprocessing.channels} channels are normalised by the means of red, green and blue in turn"
        place = recipe.document.key(("data",))
        verdict.warnings.append(Problem(said, place, "mean: measure, std: measure; or write the numbers"))
    if "range" in names:
        return  # any values
    with generators_kept():
        found = unreadable(opened, every=images)
    if found:
        verdict.errors += placed(recipe, ("data",), InputError(found))


def _repeats(preprocessing: Preprocessing) -> bool:
    """Whether bands beyond three have the numbers of three colours."""
    mean = preprocessing.mean
    return len(mean) > 3 and all(value == mean[place % 3] for place, value in enumerate(mean))


def _check_transforms(recipe: Recipe, verdict: Verdict, data: OpenData) -> None:
    """Note each transform that does not work, at its place."""
    assert recipe.data is not None
    augmentation, place = data.augmentation, ("data", "augmentation")
    for index, value in enumerate(augmentation if isinstance(augmentation, tuple) else ()):
        written = ("data", "transforms", index) if recipe.data.transforms else place
        try:
            repeatable = transforms.check_transform(value, data.preprocessing)
        except ZooError as error:
            verdict.errors += placed(recipe, written, error)
            continue
        if not repeatable:
            said = f"{transforms.name_of(value)} draws from a random generator of its own, which zoo does not seed"
            said += ": a resumed run, or one with other workers, sees other images"
            hint = "draw from torch's, numpy's or random's own generator"
            verdict.warnings.append(Problem(said, recipe.document.value(written), hint))


def open_recipe_data(recipe: Recipe, known: Known, *, download: bool | None = None) -> OpenData:
    """The data of a recipe that has a data section; `download` goes before what the recipe says of it.

    Its classes are in the order in which a model that knows them gives their scores. Raises InputError for classes
    that a model whose head stays does not know.

    A data set that draws random numbers when it is opened gives the same for the same seed, and what is random
    afterwards does not depend on whether or when it was opened.
    """
    options = recipe.data
    assert options is not None
    asked = options
    if download is not None:
        asked = options.model_copy(update={"arguments": {**options.arguments, "download": download}})
    with generators_kept():
        seed_everything(recipe.seed if options.split_seed is None else options.split_seed)
        opened = open_data(asked, known.preprocessing, seed=recipe.seed, dataset=recipe.dataset)
        decide_range(opened)
    if not all(step.standardises for step in recipe.steps):
        opened = replace(opened, target_mean=(), target_std=())
    users = [step.place.action for step in recipe.steps if step.needs_data or step.place.action == "evaluate"]
    return replace(in_order_of(known, opened, users), options=options)


def in_order_of(known: Known, data: OpenData, users: Sequence[str] = ()) -> OpenData:
    """The data with its classes numbered as the model's outputs, where the model knows them by name; `users` are the
    steps that would take them for these."""
    mine, its = data.classes, known.classes
    if not mine or not its or mine == its:
        return data
    if set(mine) == set(its) or (known.kept and set(mine) < set(its) and data.task != "regression"):
        return data.with_classes(its)
    if data.task == "regression" or not known.kept or not any(name in its for name in mine):
        return data
    strange = [name for name in mine if name not in its]
    message = f"the model does not know {listed(strange)}: it gives scores for {listed(its)}"
    message += f", and {listed(dict.fromkeys(users))} would take its head as it is" if users else ""
    raise InputError(
        message, suggestion="give it a head that does, and keep what it knows: swap_head: {reuse: by_label}"
    )


def _downloads(recipe: Recipe) -> bool:
    """Whether opening the dataset as the recipe says would fetch it."""
    assert recipe.data is not None
    assert recipe.dataset is not None
    known = parameters_of(registry.load(recipe.dataset), "datasets")
    return "download" in known and recipe.data.arguments.get("download", known["download"].default) is True


def _without(preprocessing: Preprocessing, classes: int | None) -> Sample:
    """What to assume without data."""
    context = Context(classes, preprocessing=preprocessing)
    return Sample(context, (BATCH, preprocessing.channels, *preprocessing.size), None)


def _shape(opened: OpenData) -> tuple[int, ...]:
    part = opened.parts["train"]
    if part.preprocessing is None:
        value, _ = part.raw(0)
        return (BATCH, *np.shape(value))
    return (BATCH, opened.preprocessing.channels, *opened.preprocessing.size)
