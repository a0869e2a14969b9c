"""From a run and a train step's options to a job for the loop: batches, features, precision and memory layout."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate import PartialState
from torch import nn

from zoo.data.open_data import OpenData
from zoo.errors import InputError, ZooError, is_out_of_memory
from zoo.model.freezing import FrozenPart
from zoo.model.prediction import prediction
from zoo.recipe.options import seconds_of
from zoo.steps.train_changes import changes_said, changing, mixed
from zoo.training.autotune import Choice, Setting, apply_layout, choose_setting
from zoo.training.batch_size import choose_batch_size
from zoo.training.class_weights import class_names, weighted
from zoo.training.devices import choose_precision
from zoo.training.job import Job, arranged
from zoo.training.labels import in_order
from zoo.training.losses import make_loss
from zoo.training.metrics import explain
from zoo.training.resume import PLANNED
from zoo.training.trunk.choose import Speed
from zoo.training.trunk.prepare import PARTS, Share, prepare
from zoo.training.trunk.split import UnsplittableError

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.steps.train import Train

FOUND = ("lr", "batch_size")  # options that are found, by an lr_finder or by trial, where a word stands for them
WORTH_CHOOSING = 60  # seconds of training to fill: a faster setting pays for the search there


def _as_pinned(run: ActiveRun, step: Train) -> Train:
    """The step with what was found for it, and what a resumed run had chosen when it began, for the options that are
    left open still."""
    pins = run.pins.get(str(step.place.index), {})
    found = {key: pins[key] for key in FOUND if key in pins and isinstance(getattr(step, key), str)}
    if step.lr == "found" and "lr" not in found:
        raise InputError("train.lr: found, and no lr_finder ran in front of it", suggestion="write a number")
    step = step.model_copy(update=found)
    requested = step.precision or run.precision
    if requested not in ("auto", pins.get("precision")):
        return step
    return step.model_copy(
        update={key: value for key, value in pins.items() if key != PLANNED and getattr(step, key) in (None, "auto")}
    )


def make_job(run: ActiveRun, step: Train, frozen: FrozenPart) -> Job:
    """What a train step trains, with what was chosen for the options that are left open, which becomes the run's pins.

    Raises InputError where features are to be kept and cannot be.
    """
    written, step = step, _as_pinned(run, step)
    data, processes = cast(OpenData, run.data), PartialState()
    number, trains = step.number_among(run.recipe.steps)
    share = Share(
        run.device,
        step.samples,
        step=number,  # among train steps: a step of another kind in front changes no order
        seed=step.seed,
        rank=processes.process_index,
        world=processes.num_processes,
        sampler=step.sampler,
    )
    requested = step.precision or run.precision
    images = data.batches("train", **asdict(share))
    job = Job(
        model=run.assembly.model,
        train=images,
        validation=data.batches("validation", **asdict(share)),
        options=step,
        task=data.task,
        outputs=data.outputs,
        device=run.device,
        precision=choose_precision(requested, run.device),
        frozen=frozen,
        larger=run.trial.share("train") if run.trial else 1.0,
        weighted=weighted(step.loss, step.class_weights, data, evenly=step.sampler == "balanced"),
        thresholds=in_order(run.assembly.thresholds, class_names(data)) if run.assembly.thresholds else (),
        classes=data.classes,
        moments=run.moments,
        label=step.place.name if trains == 1 else f"{step.place.name} {number + 1}/{trains}",
    )
    job.model.to(run.device)
    if step.batch_size == "auto":
        job, share = _with_batch_size(run, job, share)
        step = job.options
    speed = Speed.of(step.feature_precision, requested)
    job = mixed(_on_features(run, job, share, speed), data, images.order.seed)
    for line in changes_said(data, job):
        run.listener.note(f"{job.label}: {line}")
    job = replace(job, setting=str(Setting(job.precision, False)))
    setting = _setting(step, job, requested)
    if setting is not None:
        layout = torch.channels_last if setting.setting.channels_last else torch.contiguous_format
        run.listener.note(f"precision: {setting}")
        job = replace(job, precision=setting.setting.precision, memory_format=layout, setting=str(setting))
    found = {key: getattr(step, key) for key in FOUND if isinstance(getattr(written, key), str)}
    run.pins[str(step.place.index)] = run.pins.get(str(step.place.index), {}) | found | _pins(job, speed)
    return job


def _with_batch_size(run: ActiveRun, job: Job, share: Share) -> tuple[Job, Share]:
    """The job with the batch size that its memory allows, which is said."""
    data = cast(OpenData, run.data)
    found = choose_batch_size(job, len(data.parts["train"]))
    share = replace(share, batch_size=found.samples)
    train, validation = (data.batches(part, **asdict(share)) for part in PARTS)
    options = job.options.model_copy(update={"batch_size": found.samples})
    run.listener.note(f"{job.label}: {found}; {len(train)} batches an epoch; lr is as it was")
    return replace(job, train=train, validation=validation, options=options), share


def _pins(job: Job, speed: Speed) -> dict[str, Any]:
    """What was chosen by timing or tolerance, as the options that choose it again."""
    layout = "channels_last" if job.memory_format == torch.channels_last else "contiguous"
    pins = {"precision": job.precision, "memory_layout": layout}
    if job.feature_cache:
        pins["feature_cache"] = job.feature_cache.get("use", "off")
    if "precision" in job.feature_cache:
        pins["feature_precision"] = speed.pin(job.feature_cache["precision"])
    return pins


def _on_features(run: ActiveRun, job: Job, share: Share, speed: Speed) -> Job:
    """The job on a frozen backbone's cached features where it can be split off; else as it is, with the reason.

    Raises InputError for the reason where the recipe says that it has to be.
    """
    if job.options.unfreeze_gradually:
        return _end_to_end(run, job, "unfreeze_gradually thaws the backbone while it trains")
    if job.options.feature_cache == "off" or not job.frozen.parameters:
        return job
    if job.options.gradient_checkpointing:
        run.listener.note("feature cache: none, trained end to end: gradient_checkpointing needs the network's blocks")
        return job
    data, options = cast(OpenData, run.data), job.options
    try:
        prepared = prepare(
            job.model,
            data,
            share,
            speed,
            changing=changing(options, data),
            views=options.views,
            use=options.feature_cache,
            validate_exactly=options.measures_exactly,
            note=run.listener.note,
        )
    except UnsplittableError as error:
        if options.feature_cache != "auto":
            message = f"{job.label}: feature_cache: {options.feature_cache}: {error}"
            raise InputError(message, suggestion="feature_cache: off trains end to end") from error
        return _end_to_end(run, job, str(error))
    return replace(
        job,
        train=prepared.train,
        validation=prepared.validation,
        network=prepared.network,
        validation_network=prepared.validation_network,
        feature_cache=prepared.record,
    )


def _end_to_end(run: ActiveRun, job: Job, reason: str) -> Job:
    run.listener.note(f"feature cache: none, trained end to end: {reason}")
    return replace(job, feature_cache={"method": "end to end", "reason": reason, "seconds": 0.0})


def _setting(step: Train, job: Job, precision: str) -> Choice | None:
    """Precision and layout: by timing, where they are left open; None for those of the job as it is."""
    layout = step.memory_layout
    if layout != "channels_last" and precision == "float32":
        return None
    network = job.network or job.model
    fixed = Choice(Setting(job.precision, layout == "channels_last"), {}, 0.0)
    found = fixed if precision != "auto" and layout != "auto" else _timed(job, network, precision, layout)
    if found is None and layout != "auto":
        found = fixed
    if found is not None:
        apply_layout(network, found.setting)
    return found


def _samples(job: Job) -> int:
    """How many samples training takes; of a time alone that it is to fill as many as timing settings pays for."""
    options = job.options
    filled = seconds_of(options.time_budget or "1s") >= WORTH_CHOOSING and not (options.epochs or options.max_steps)
    if filled:
        return sys.maxsize
    steps = options.max_steps or (options.epochs or 1) * len(job.train) * job.larger
    return round(steps * job.train.size(0))


def _timed(job: Job, network: nn.Module, precision: str, layout: str) -> Choice | None:
    """The fastest setting; None where training is too short, or too small, for timing it to pay."""
    layers = [module for module in network.modules() if any(p.ndim > 1 for p in module.parameters(recurse=False))]
    if len(layers) < 2 or PartialState().num_processes > 1:
        return None
    batch = next(job.train.epoch(0))
    inputs = arranged(batch.inputs, job)
    loss = make_loss(job.loss, job.task, label_smoothing=job.options.label_smoothing, device=job.device)
    network.train()
    try:
        return choose_setting(
            network,
            inputs,
            batch.targets,
            lambda outputs, targets: loss(prediction(outputs), targets),
            samples=_samples(job),
            precision=precision,
            layout=layout,
        )
    except ZooError:
        raise
    except Exception as error:
        if is_out_of_memory(error):  # training itself goes on with parts of a batch
            return None
        shapes = ", ".join(str(list(value.shape)) for value in inputs)
        raise explain(error, f"{job.label}, timing a step on inputs {shapes}") from error
