"""`zoo.finetune`, `finetune_seeds`, `reproduce` and `check`: recipes, with objects in place of what they name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zoo.errors import InputError
from zoo.verbs.objects import PathLike, handed_over

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from zoo.contracts import Preprocessing
    from zoo.finetuning.reproduce import Reproduction
    from zoo.finetuning.result import Run
    from zoo.finetuning.seeds import SeedRuns
    from zoo.finetuning.trial import Within
    from zoo.preflight import Verdict
    from zoo.recipe import Recipe
    from zoo.recipe.options import Precision
    from zoo.training.callbacks import Listener

Overrides = Sequence[str] | Mapping[str, Any]


def finetune(
    recipe: PathLike | Mapping[str, Any],
    *,
    model: nn.Module | None = None,
    data: Any = None,
    transform: Callable[..., Any] | None = None,
    preprocessing: Preprocessing | None = None,
    overrides: Overrides = (),
    output: PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    precision: Precision | None = None,
    progress: Listener | None = None,
    within: str | None = None,
) -> Run:
    """Carry out a recipe and leave a checkpoint that rebuilds the model by itself.

    Args:
        recipe: a recipe's file, or a dictionary with the same keys.
        model: trained in place of the recipe's `model` section. A copy is trained, from the parameters it has; the
            object stays as it is. The checkpoint of a class that no plugin supplies names the class, and is loaded by
            `zoo.load(path, model=AFreshInstance())`.
        data: a `zoo.Data`, or a map-style data set of (input, class index), in place of the recipe's `data.source`. A
            seeded part is held out for validation unless a `zoo.Data` brings its own.
        transform: a random transform of one training image, uint8 [c, h, w] to uint8 of any size, in place of
            `data.augmentation`. Its draws come from torch's generator, which zoo seeds for each sample.
        preprocessing: what `model` expects its images to look like; ImageNet's usual one without it.
        overrides: `KEY=VALUE` texts as `--set` takes them, or a mapping (`{"train.lr": 1e-3}`).
        output: the run's folder, `checkpoints/NAME` by default, or the first of `NAME-2`, `NAME-3`, … where finished
            runs are. A file there that is not this run's is an error, one of an earlier run included.
        resume: go on where an interrupted run in the folder stopped; the result is that of a run never interrupted.
        overwrite: replace what an earlier run left in the folder; what zoo did not write there stays.
        device, precision: go before what the recipe says.
        progress: what shows it; a display on standard error by default.
        within: the time for all of it (`10m`, `1h30m`, `45s`): what the steps would take is measured on a few samples,
            and each train step gets its share of the time, in which it does at most what the recipe says.

    Returns:
        The run: `model`, `history`, `metrics`, `checkpoint`, `folder`, and `report`, the document of `--json`.

    Raises:
        InputError: mistakes in the recipe (all of them), in the data, a folder that holds something else, or a recipe
            that changed too much to resume.
        WorkError: training or writing failed. The last complete epoch is the checkpoint then, where there is one; so
            it is after a KeyboardInterrupt, which passes through.
    """
    from zoo.finetuning.finetune import finetune as carry_out

    with handed_over(model, data, transform, preprocessing) as names:
        checked = _read(recipe, overrides, names)
        run = carry_out(
            checked, within=_shared(checked, within, device, precision), output=output, resume=resume,
            overwrite=overwrite, device=device, precision=precision, progress=progress,
        )  # fmt: skip
        if model is not None:
            run.model  # noqa: B018 - of a run that was finished before it is loaded now, while the class is at hand
        return run


def _shared(recipe: Recipe, within: str | None, device: str | None, precision: Precision | None) -> Within | None:
    if within is None:
        return None
    from zoo.finetuning.estimate import share_time

    return share_time(recipe, within, device=device, precision=precision)


def finetune_seeds(
    recipe: PathLike | Mapping[str, Any],
    seeds: int = 5,
    *,
    model: nn.Module | None = None,
    data: Any = None,
    transform: Callable[..., Any] | None = None,
    preprocessing: Preprocessing | None = None,
    overrides: Overrides = (),
    output: PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    precision: Precision | None = None,
    progress: Listener | None = None,
) -> SeedRuns:
    """Carry out a recipe with several seeds, its own and those after it, and say how far their results lie apart.

    The samples held out are the same in all runs, those of the recipe's own seed (`data.split_seed`): the spread is
    that of training. Features that do not depend on the seed are computed once.

    Args:
        seeds: how many runs. Each has a folder `seed-N` in the run's folder, which gets `seeds.json`, too.
        resume: keep the runs that are finished, go on with an unfinished one, begin the others.

    The other arguments, and what is raised, are those of `zoo.finetune`.

    Returns the runs, in the order of their seeds, `metrics` (of each the mean, sd and the mean's 95 % interval), and
    `report`, the document of `--json`.
    """
    from zoo.finetuning.seeds import finetune_seeds as carry_out
    from zoo.recipe.from_python import as_overrides

    with handed_over(model, data, transform, preprocessing) as names:
        return carry_out(
            lambda more: _read(recipe, [*as_overrides(overrides), *more], names),
            seeds,
            output=output,
            resume=resume,
            overwrite=overwrite,
            device=device,
            precision=precision,
            progress=progress,
        )


def reproduce(
    run: PathLike,
    *,
    model: nn.Module | None = None,
    data: Any = None,
    transform: Callable[..., Any] | None = None,
    preprocessing: Preprocessing | None = None,
    output: PathLike | None = None,
    device: str | None = None,
    progress: Listener | None = None,
) -> Reproduction:
    """Carry out the recipe that a finished run left again, and compare the results bit for bit.

    Args:
        run: the run's folder, which is only read.
        model, data, transform, preprocessing: what the run was handed over in place of what a recipe names.
        output: keep the second run there; it is made in a temporary folder otherwise.
        device: the run's own without it.
        progress: what shows it; a display on standard error by default.

    Returns what was found: `equal`; where not, the first step or epoch that `parts`, the `tensors` and `metrics` that
    differ, and the likely `causes`. Raises InputError for a run that is not finished, and what `zoo.finetune` raises.
    """
    from zoo.finetuning.reproduce import reproduce as carry_out

    with handed_over(model, data, transform, preprocessing) as names:
        return carry_out(run, lambda path: _read(path, (), names), output=output, device=device, progress=progress)


def check(
    recipe: PathLike | Mapping[str, Any],
    *,
    model: nn.Module | None = None,
    data: Any = None,
    transform: Callable[..., Any] | None = None,
    preprocessing: Preprocessing | None = None,
    overrides: Overrides = (),
    estimate: bool = False,
    images: bool = False,
) -> Verdict:
    """What `zoo check` finds: a dry run of the recipe; nothing is trained, downloaded or written.

    The arguments are those of `zoo.finetune`. The verdict has `ok`, `errors` and `warnings` (each with `message`,
    `location` and `suggestion`), `trainable` and `frozen` (numbers of parameters at the last train step);
    `as_dict()` is the document of `--json`, and `require()` raises the errors.

    With `estimate` a recipe without a mistake is tried out on a few samples, in seconds, and `estimate` of the verdict
    says what all of it would take: time, memory, disk. With `images` every image is decoded, not 16 of each part.

    Raises InputError only where the file cannot be read; mistakes in it are in the verdict.
    """
    from zoo.data.copies import copies_in
    from zoo.preflight import Verdict
    from zoo.preflight import check as rehearse
    from zoo.recipe.yaml_reader import read_text

    if not isinstance(recipe, Mapping):
        read_text(os.fspath(recipe))
    with handed_over(model, data, transform, preprocessing) as names:
        try:
            checked = _read(recipe, overrides, names)
            verdict = rehearse(checked, images=images)
            verdict.notes += copies_in(verdict.data)
            if estimate and verdict.ok:
                from zoo.finetuning.estimate import estimate as tried_out

                verdict.estimate = tried_out(checked).as_dict()
            return verdict
        except InputError as error:
            return Verdict(errors=list(error.problems))


def _read(recipe: Any, overrides: Overrides, names: Mapping[str, str | None]) -> Recipe:
    from zoo.recipe.from_python import as_overrides, put_objects, read_document
    from zoo.recipe.load import check_recipe

    document = read_document(recipe)
    put_objects(document, **names)
    return check_recipe(document, as_overrides(overrides))
