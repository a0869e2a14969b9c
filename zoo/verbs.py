"""The verbs of `import zoo` that take what Python code has at hand: models in memory, data sets, transforms.

What they do is done in the rooms; `zoo.build`, `load`, `load_into`, `convert`, `inspect`, `diff` and `names` are those
rooms' own functions.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import InputError
from zoo.given import given, is_given, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from zoo.contracts import Data, Preprocessing
    from zoo.conversion.merge import Merged, Method
    from zoo.exporting.embed import Embedded
    from zoo.exporting.export import Exported
    from zoo.finetuning.reproduce import Reproduction
    from zoo.finetuning.result import Run
    from zoo.finetuning.seeds import SeedRuns
    from zoo.finetuning.trial import Within
    from zoo.model.assembly import Assembly
    from zoo.preflight import Verdict
    from zoo.recipe import Recipe
    from zoo.recipe.options import Named, Precision
    from zoo.registry import Component
    from zoo.remap.remaps import Remap
    from zoo.training.callbacks import Listener

PathLike = str | os.PathLike[str]
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

    with _handed_over(model, data, transform, preprocessing) as names:
        checked = _read(recipe, overrides, names)
        run = carry_out(
            checked,
            within=_shared(checked, within, device, precision),
            output=output,
            resume=resume,
            overwrite=overwrite,
            device=device,
            precision=precision,
            progress=progress,
        )
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

    with _handed_over(model, data, transform, preprocessing) as names:
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

    with _handed_over(model, data, transform, preprocessing) as names:
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
) -> Verdict:
    """What `zoo check` finds: a dry run of the recipe; nothing is trained, downloaded or written.

    The arguments are those of `zoo.finetune`. The verdict has `ok`, `errors` and `warnings` (each with `message`,
    `location` and `suggestion`), `trainable` and `frozen` (numbers of parameters at the last train step);
    `as_dict()` is the document of `--json`, and `require()` raises the errors.

    With `estimate` a recipe without a mistake is tried out on a few samples, in seconds, and `estimate` of the verdict
    says what all of it would take: time, memory, disk.

    Raises InputError only where the file cannot be read; mistakes in it are in the verdict.
    """
    from zoo.preflight import Verdict
    from zoo.preflight import check as rehearse
    from zoo.recipe.yaml_reader import read_text

    if not isinstance(recipe, Mapping):
        read_text(os.fspath(recipe))
    with _handed_over(model, data, transform, preprocessing) as names:
        try:
            checked = _read(recipe, overrides, names)
            verdict = rehearse(checked)
            if estimate and verdict.ok:
                from zoo.finetuning.estimate import estimate as tried_out

                verdict.estimate = tried_out(checked).as_dict()
            return verdict
        except InputError as error:
            return Verdict(errors=list(error.problems))


@contextlib.contextmanager
def _handed_over(
    model: nn.Module | None, data: Any, transform: Callable[..., Any] | None, preprocessing: Preprocessing | None
) -> Iterator[dict[str, str | None]]:
    """Inside, the objects are components; yields the name of each, for the recipe."""
    objects: dict[str, dict[str, Callable[..., Any]]] = {}
    names: dict[str, str | None] = {"model": None, "data": None, "transform": None}
    if model is not None:
        names["model"] = name = name_of(model)
        objects["architectures"] = {name: _copies(model, name, preprocessing)}
    elif preprocessing is not None:
        raise InputError("preprocessing belongs to a model that is handed over", suggestion="add model=…")
    if data is not None:
        opened = as_data(data)
        names["data"] = name = name_of(opened.train)
        objects["datasets"] = {name: lambda: opened}
    if transform is not None:
        names["transform"] = name = name_of(transform)
        objects["transforms"] = {name: transform}
    with given(objects):
        yield names


def _copies(model: nn.Module, name: str, preprocessing: Preprocessing | None) -> Callable[[], nn.Module]:
    """What makes copies of a model, on the device that is the default when it is called, each knowing what it is."""
    import torch

    from zoo.checkpoint.save import check_structure
    from zoo.model.info import ModelInfo, assembly_of, attach, info_of

    if not isinstance(model, torch.nn.Module):
        raise InputError(f"model is {type(model).__name__}, not an nn.Module")
    info = info_of(model) or ModelInfo(name)
    check_structure(assembly_of(model, info))
    if preprocessing is not None:
        info = replace(info, preprocessing=preprocessing)

    def copied() -> nn.Module:
        return attach(assembly_of(copy.deepcopy(model).to(torch.empty(0).device), info))

    return copied


def as_data(data: Any) -> Data:
    """`data` itself, or a map-style data set of (input, class index) as one: what its first sample is decides."""
    import numpy as np
    import torch

    from zoo.contracts import Data
    from zoo.data.split import read

    if isinstance(data, Data):
        return data
    if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, str | Mapping):
        message = f"data is {type(data).__name__}, not a map-style data set (with __len__ and __getitem__)"
        raise InputError(message, suggestion="a list of (input, target), a torch Dataset, or a zoo.Data")
    if not len(data):
        raise InputError("the data set has no samples")
    value, target = read(data, 0)
    if np.size(target) != 1 or float(target) != int(target) or np.asarray(target).dtype.kind == "f":
        message = f"the first target, {target!r}, is not a class index"
        raise InputError(message, suggestion='say what it is: zoo.Data(data, task="regression") or "multilabel"')
    floats = isinstance(value, torch.Tensor | np.ndarray) and torch.as_tensor(value).is_floating_point()
    return Data(data, classes=tuple(getattr(data, "classes", ())), inputs="features" if floats else "image")


def _read(recipe: Any, overrides: Overrides, names: Mapping[str, str | None]) -> Recipe:
    from zoo.recipe.from_python import as_overrides, put_objects, read_document
    from zoo.recipe.load import check_recipe

    document = read_document(recipe)
    put_objects(document, **names)
    return check_recipe(document, as_overrides(overrides))


def save(
    model: nn.Module,
    path: PathLike,
    *,
    classes: Sequence[str] | None = None,
    preprocessing: Preprocessing | None = None,
    task: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    only: Literal["all", "trainable"] = "all",
    dtype: str | None = None,
) -> dict[str, Any]:
    """Write a model as one checkpoint that describes itself; a file that is there is replaced.

    Args:
        model: built or loaded by zoo, so that `zoo.load(path)` needs nothing else. Of a model that zoo did not make
            the checkpoint names the class, and is loaded by `zoo.load(path, model=AFreshInstance())`.
        classes, preprocessing, task: what the checkpoint says of them, where `model.zoo` does not or says otherwise.
        metrics: plain values that the file keeps.
        only: `trainable` leaves out what the base weights give bit for bit; `zoo.load` then needs them.
        dtype: store floating-point tensors as `float32`, `float16` or `bfloat16`.

    Returns `{"path", "sha256", "bytes", "tensors", "only"}`. Raises InputError where the model is no longer what zoo
    built, or its state dict holds what cannot be saved; WorkError where the disk is full.
    """
    from zoo.checkpoint.save import check_structure, save_checkpoint
    from zoo.model.info import ModelInfo, assembly_of, info_of

    known = info_of(model) or ModelInfo(name_of(model))
    given_here: dict[str, Any] = {
        "classes": tuple(classes) if classes is not None else None,
        "preprocessing": preprocessing,
    }
    given_here |= {"task": task}
    info = replace(known, **{key: value for key, value in given_here.items() if value is not None})
    if only == "trainable" and is_given(info.architecture):
        message = "only='trainable' needs an architecture that zoo can build, to know what its weights give"
        raise InputError(message, suggestion="save all of it")
    assembly = assembly_of(model, info)
    check_structure(assembly)
    return save_checkpoint(assembly, path, metrics=metrics, only=only, dtype=dtype)


@dataclass(frozen=True)
class Frozen:
    """What `zoo.freeze` left frozen: numbers of parameters (elements), and the names of the frozen tensors."""

    trainable: int
    frozen: int
    parameters: tuple[str, ...]
    buffers: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.frozen:,} of {self.trainable + self.frozen:,} parameters are frozen"


def freeze(model: nn.Module, policy: str | Iterable[str] = "all_but_head", **arguments: Any) -> Frozen:
    """Freeze what a policy says, and only that: no gradient, evaluation mode whatever calls `train()`.

    Args:
        policy: the name of a freezing policy (`zoo list --kind freezing`), whose `arguments` follow; or names of
            parameters, buffers and modules (with all that is inside them), where what is no name is a regular
            expression on names. "none" unfreezes.

    Raises InputError where a policy or a name does not exist or matches nothing, with the nearest ones.
    """
    from zoo import registry
    from zoo.model.freezing import freeze as freeze_names
    from zoo.model.info import with_frozen

    if isinstance(policy, str):
        component = registry.resolve(policy, "freezing")
        names = _names_by(component, registry.load(component), model, arguments)
    elif arguments:
        raise InputError(f"{', '.join(arguments)} belong to a named policy, not to a list of names")
    else:
        names = _names_of(model, policy)
    part = freeze_names(model, names)
    with_frozen(model, part)
    sizes = dict.fromkeys((True, False), 0)
    for parameter in model.parameters():
        sizes[parameter.requires_grad] += parameter.numel()
    return Frozen(sizes[True], sizes[False], part.parameters, part.buffers)


def _names_by(
    component: Component, policy: Callable[..., Iterable[str]], model: nn.Module, arguments: Any
) -> list[str]:
    import inspect

    from zoo.plugin_calls import call, texts

    try:
        inspect.signature(policy).bind(model, **arguments)
    except TypeError as error:
        name = component.name
        raise InputError(f"{name}: {error}", suggestion=f"see: zoo show {name}") from error
    return texts(component, call(component, lambda: policy(model, **arguments)), "dotted names")


def _names_of(model: nn.Module, given_names: Iterable[str]) -> list[str]:
    """Names as they are; what is none is a regular expression on names."""
    from zoo.model.freeze_policies import pattern

    tensors = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    known = {name for name, _ in (*tensors, *model.named_modules(remove_duplicate=False))}
    wanted = list(given_names)
    patterns = [name for name in wanted if name not in known]
    return [*(name for name in wanted if name in known), *(pattern(model, patterns=patterns) if patterns else ())]


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

    source, named = _data(data)
    objects = {} if source is None else {named: lambda: source}
    where = _assembly(checkpoint)
    with given({"datasets": objects}) if objects else contextlib.nullcontext(), _evaluating(where):
        on = _device(checkpoint, device)
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

    source, named = _data(data)
    objects = {} if source is None else {named: lambda: source}
    first, second = _assembly(a), _assembly(b)
    own = next((model for model in (a, b) if not isinstance(model, str | os.PathLike)), a)
    with given({"datasets": objects}) if objects else contextlib.nullcontext(), _evaluating(first), _evaluating(second):
        on = _device(own, device)
        return measure(first, second, named, part=part, metrics=metrics, device=on, batch_size=batch_size)


def merge(
    members: Sequence[PathLike],
    destination: PathLike,
    *,
    method: Method = "average",
    to: str | None = None,
    to_arguments: Mapping[str, Any] | None = None,
    remap: Remap = None,
    alpha: float | None = None,
    data: Any = None,
    device: str | None = None,
    batch_size: int | None = None,
    overwrite: bool = False,
) -> Merged:
    """Average checkpoints that were fine-tuned from one base into a zoo checkpoint, written complete or not at all.

    Args:
        members: two files or more. Zoo checkpoints of one architecture, or files in other layouts, which are brought
            into that of the first zoo checkpoint, or of `to`, by `remap` or else by the rules that `auto` finds. Heads
            are joined by class name.
        method: "average" (all alike), "greedy" (from the best down, while `data` says that it gets no worse) or
            "wise-ft" (`alpha` of the way from the first to the second).
        to, to_arguments: the architecture, where no member says it.
        alpha: of wise-ft: 0 is the first, 1 the second; without it the best on `data`, or 0.5.
        data: validation data, as `zoo.evaluate` takes it, never the test set: members and result are measured on it,
            batch norms estimated on its training part.
        overwrite: replace `destination` where it is there already.

    Raises InputError for members of other bases or structures, WorkError where the average is clearly worse on `data`
    than every member (a barrier) or writing fails. Nothing is left then.
    """
    from zoo.conversion.merge import merge as average

    source, named = _data(data)
    with given({"datasets": {named: lambda: source}}) if source is not None else contextlib.nullcontext():
        return average(
            members, destination, method=method, to=to, to_arguments=to_arguments, remap=remap, alpha=alpha,
            data=named, device=device or "auto", batch_size=batch_size, overwrite=overwrite,
        )  # fmt: skip


def export(
    checkpoint: PathLike | nn.Module,
    file: PathLike,
    *,
    preprocess: bool = False,
    softmax: bool = False,
    int8: bool = False,
    max_changed: float | None = None,
    data: Any = None,
    images: int = 500,
    calibration: int = 128,
    overwrite: bool = False,
) -> Exported:
    """Write a checkpoint, or a model that zoo made, as a file that runs without zoo; it is compared with torch first.

    Args:
        file: `.onnx`, run by onnxruntime (`pip install "zoo-kit[export]"`), or `.pt2`, loaded by `torch.export.load`.
            Batches may have any size. It is written complete or not at all.
        preprocess: let the file take uint8 images [n, h, w, c] of any size: resizing, cropping and normalisation are in
            it. Without it the file takes what the network takes, float32 [n, c, h, w].
        softmax: let it give probabilities in place of logits (of a multilabel network by the sigmoid).
        int8: quantise the ONNX file, the ranges of activations measured on training images.
        max_changed: of int8, the share of images whose label may change, 0.05 without it; of a regression how far a
            value may move, as a share of the largest. Of float32 no label may change.
        data: as for `zoo.evaluate`; the checkpoint's own without it. Where that is not there, random images take its
            place in the comparison, and `notes` says so; int8 is refused then.
        images, calibration: how many held-out images are compared, and how many training images int8 is calibrated on.
        overwrite: replace `file` where it is there already.

    Returns what was written, and `agreement`: the largest difference, changed labels, and those of each class. Raises
    InputError for a request that cannot be met, WorkError, and nothing is written, where the network cannot be exported
    or its answers are not torch's.
    """
    from zoo.exporting.export import export as write

    source, named = _data(data)
    where = _on_the_cpu(_assembly(checkpoint))
    with given({"datasets": {named: lambda: source}}) if source is not None else contextlib.nullcontext():
        return write(
            where, file, preprocess=preprocess, softmax=softmax, int8=int8, max_changed=max_changed, data=named,
            images=images, calibration=calibration, overwrite=overwrite,
        )  # fmt: skip


def embed(
    network: PathLike | nn.Module,
    data: Any,
    file: PathLike,
    *,
    module: str | None = None,
    weights: str | None = None,
    part: Literal["train", "validation", "test"] | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    overwrite: bool = False,
) -> Embedded:
    """Write what a module gives for each sample of a data set, with paths and labels; a batch at a time is in memory.

    Args:
        network: a checkpoint, the name of an architecture, which needs `weights`, or a model that zoo made.
        data: a folder of images (in class folders or not), a CSV file, the name of a data set, a recipe's file, or a
            data set as `zoo.finetune` takes it. Labels are the data's own; without any they are -1.
        file: `.safetensors`, `.npz` or `.parquet` (`pip install "zoo-kit[parquet]"`), written complete or not at all.
        module: the path of the module whose output is taken; without it the head's input is.
        part: of the data; all parts without it.
        device: where a checkpoint is run, "auto" by default; a model is run where it is.

    Returns what was written: `images`, `shape`, `module`, and `way`, how the features were computed. Raises InputError
    for a module that is not there, data that cannot be opened, and images that cannot be read.
    """
    from zoo.exporting.embed import embed as write

    source, named = _data(data)
    known = network if isinstance(network, str | os.PathLike) else _assembly(network)
    with given({"datasets": {named: lambda: source}}) if source is not None else contextlib.nullcontext():
        return write(
            known, named, file, module=module, weights=weights, part=part, batch_size=batch_size,
            device=_device(network, device), overwrite=overwrite,
        )  # fmt: skip


def _on_the_cpu(source: Any) -> Any:
    """A path as it is; of a model elsewhere a copy on the CPU, where files are compared."""
    if isinstance(source, str | os.PathLike) or all(p.device.type == "cpu" for p in source.model.parameters()):
        return source
    return replace(source, model=copy.deepcopy(source.model).cpu())


def _data(data: Any) -> tuple[Data | None, Any]:
    """An object and its name; or None and what `zoo.training.evaluate` takes."""
    if data is None:
        return None, None
    if isinstance(data, str | os.PathLike):
        text = os.fspath(data)
        if not text.endswith((".yaml", ".yml")):
            return None, text
        from zoo.recipe import load_recipe

        if (section := load_recipe(text).data) is None:
            raise InputError(f"{text} has no data section")
        return None, section
    opened = as_data(data)
    return opened, name_of(opened.train)


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
    where = _assembly(checkpoint)
    with _evaluating(where):
        return run(where, listed, top, threshold=threshold, device=_device(checkpoint, device), tta=tta)


def _assembly(checkpoint: Any) -> Any:
    """A path as it is; of a model what zoo knows about it. Raises InputError for a model that zoo did not make."""
    if isinstance(checkpoint, str | os.PathLike):
        return checkpoint
    from zoo.model.info import assembly_of, info_of

    if (info := info_of(checkpoint)) is None:
        raise InputError(
            f"zoo does not know the classes and the preprocessing of this {type(checkpoint).__name__}",
            suggestion="write a checkpoint that says them, zoo.save(model, PATH, classes=…), and "
            "zoo.load(PATH, model=model)",
        )
    return assembly_of(checkpoint, info)


def _device(checkpoint: Any, device: str | None) -> str:
    if isinstance(checkpoint, str | os.PathLike):
        return device or "auto"
    if device is not None:
        raise InputError("a model is run where it is", suggestion=f"move it: model.to({device!r})")
    return str(next((parameter.device for parameter in checkpoint.parameters()), "cpu"))


@contextlib.contextmanager
def _evaluating(source: Assembly | PathLike) -> Iterator[None]:
    """A model in memory is in evaluation mode inside, and afterwards as it was."""
    if isinstance(source, str | os.PathLike):
        yield
        return
    from zoo.model.undisturbed import undisturbed

    with undisturbed(source.model, training=False):
        yield
