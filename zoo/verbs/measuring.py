"""`zoo.evaluate`, `compare` and `predict`: checkpoints, or models in memory, on data that is named or at hand."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from zoo.verbs.objects import PathLike, data_named, device_of, evaluating, source_of

if TYPE_CHECKING:
    from torch import nn

    from zoo.recipe.options import Named


def evaluate(
    checkpoint: PathLike | nn.Module,
    data: Any = None,
    *,
    part: Literal["train", "validation", "test", "all"] | None = None,
    metrics: Sequence[Named] | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    tta: str | Sequence[str] | None = None,
) -> dict[str, Any]:
    """`{"metrics": {…}, "intervals": {name: [low, high]}, "samples": n, "part": …, …}` of a checkpoint, or of a model
    that zoo made (it stays as it is). The intervals hold 95 %; a number that the samples do not define is None.

    Args:
        data: without it, held-out samples of the data that the model was trained on. A recipe's file: its held-out
            samples. An image folder, a CSV file or the name of a data set, or a data set as `zoo.finetune` takes it:
            all of its samples. Classes are matched by name.
        part: of the data. Without it, of held-out samples the part that the checkpoint's own numbers are of: the test
            part where there is one. Every look at it is recorded.
        metrics: names as in a recipe; those that the model was trained with without it.
        device: where a checkpoint is measured, "auto" by default; a model is measured where it is.
        tta: views of each image whose answers are averaged, as in the step `evaluate`: "flip", ["five_crop", "flip"].

    Raises InputError for a file that is no checkpoint, data that is not there, or classes the model lacks.
    """
    from zoo.training.evaluate import evaluate as measure

    where = source_of(checkpoint)
    with data_named(data) as named, evaluating(where):
        on = device_of(checkpoint, device)
        return measure(where, named, part=part, metrics=metrics, device=on, batch_size=batch_size, tta=tta)


def compare(
    a: PathLike | nn.Module,
    b: PathLike | nn.Module,
    data: Any = None,
    *,
    part: Literal["train", "validation", "test", "all"] | None = None,
    metrics: Sequence[Named] | None = None,
    device: str | None = None,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """How two models differ on the same images, with a paired test of whether that is more than chance.

    Args:
        a, b: checkpoints, the folders of runs, or models that zoo made, on one device. They have the same task and
            classes; these are matched by name.
        data, part, metrics, batch_size: as for `zoo.evaluate`. Without `data` both must have the same images held out.
        device: where checkpoints are run, "auto" by default.

    Returns `{"a", "b", "data", "parts", "samples", "metrics", "main", "better", "classes", "images", "notes"}`. A
    metric is `{"a", "b", "difference", "interval", "p_value", "test", "shown"}`: B minus A, with a 95 % interval;
    `shown` where the test rejects "no difference" at 5 %. `better` is "a" or "b" where that is so for the `main`
    metric, else None. `images` are those on which the models part (of a regression the 100 that differ most), `classes`
    a row for each class, its p-value adjusted for their number (Holm).

    Raises InputError for files that are no checkpoints, models of different tasks or classes, and images that are not
    the same.
    """
    from zoo.comparison.compare import compare as measure

    first, second = source_of(a), source_of(b)
    own = next((model for model in (a, b) if not isinstance(model, str | os.PathLike)), a)
    with data_named(data) as named, evaluating(first), evaluating(second):
        on = device_of(own, device)
        return measure(first, second, named, part=part, metrics=metrics, device=on, batch_size=batch_size)


def predict(
    checkpoint: PathLike | nn.Module,
    images: Any,
    top: int = 5,
    *,
    threshold: float | None = None,
    device: str | None = None,
    tta: str | Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """One row an image: `{"image", "predictions": [{"label", "probability"}, …]}`, the likeliest first.

    Args:
        checkpoint: a file that zoo wrote, or a model that zoo made (it stays as it is).
        images: an image file, a folder (searched with all that is below it), a PIL image, a uint8 tensor
            [channels, height, width], or a list of these. `image` in a row is the path, or the place in the list.
        top: how many classes a row has.
        threshold: of a multilabel network: a row's `labels` are those with this probability or more; without it each
            label's own threshold counts, 0.5 where the checkpoint has none.
        device: where a checkpoint is run, "auto" by default; a model is run where it is.
        tta: views of each image whose answers are averaged, as in the step `evaluate`: "flip", ["five_crop", "flip"].

    A regression's rows have `value` in place of `probability`. An image that cannot be read has `error` in place of
    `predictions`. Raises InputError for a path that does not exist and a folder without images.
    """
    from zoo.training.predict import predict as run

    alone = isinstance(images, str | os.PathLike) or hasattr(images, "shape") or hasattr(images, "convert")
    listed = [images] if alone else list(images)
    where = source_of(checkpoint)
    with evaluating(where):
        return run(where, listed, top, threshold=threshold, device=device_of(checkpoint, device), tta=tta)
