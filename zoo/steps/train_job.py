"""From a run and a train step's options to a job for the loop: batches, features, precision and memory layout."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, cast

import torch
from accelerate import PartialState
from torch import nn

from zoo.data.open_data import OpenData
from zoo.errors import InputError, ZooError
from zoo.model.freezing import FrozenPart
from zoo.model.prediction import prediction
from zoo.training.autotune import Choice, Setting, apply_layout, choose_setting
from zoo.training.class_weights import class_names, weighted
from zoo.training.devices import choose_precision
from zoo.training.job import Job, arranged
from zoo.training.labels import in_order
from zoo.training.losses import make_loss
from zoo.training.metrics import explain
from zoo.training.trunk.choose import Speed
from zoo.training.trunk.prepare import Share, prepare
from zoo.training.trunk.split import UnsplittableError

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.steps.train import Train


def _as_pinned(run: ActiveRun, step: Train) -> Train:
    """The step with what a resumed run had chosen when it began, for the options that are left open still."""
    pins = run.pins.get(str(step.place.index), {})
    requested = step.precision or run.precision
    if requested not in ("auto", pins.get("precision")):
        return step
    return step.model_copy(update={key: value for key, value in pins.items() if getattr(step, key) in (None, "auto")})


THAWS = "unfreeze_gradually thaws the backbone while it trains"


def make_job(run: ActiveRun, step: Train, frozen: FrozenPart) -> Job:
    """What a train step trains, with what was chosen for the options that are left open, which becomes the run's pins.

    Raises InputError where features are to be kept and cannot be.
    """
    step = _as_pinned(run, step)
    data, processes = cast(OpenData, run.data), PartialState()
    number, trains = step.number_among(run.recipe.steps)
    share = Share(
        run.device,
        step.batch_size,
        step=number,  # among train steps: a step of another kind in front changes no order
        seed=step.seed,
        rank=processes.process_index,
        world=processes.num_processes,
        sampler=step.sampler,
    )
    requested = step.precision or run.precision
    job = Job(
        model=run.assembly.model,
        train=data.batches("train", **asdict(share)),
        validation=data.batches("validation", **asdict(share)),
        options=step,
        task=data.task,
        outputs=data.outputs,
        device=run.device,
        precision=choose_precision(requested, run.device),
        frozen=frozen,
        weighted=weighted(step.loss, step.class_weights, data, evenly=step.sampler == "balanced"),
        thresholds=in_order(run.assembly.thresholds, class_names(data)) if run.assembly.thresholds else (),
        moments=run.moments,
        label=step.place.name if trains == 1 else f"{step.place.name} {number + 1}/{trains}",
    )
    job.model.to(run.device)
    speed = Speed.of(step.feature_precision, requested)
    job = _on_features(run, job, share, speed)
    setting = _setting(step, job, requested)
    if setting is not None:
        layout = torch.channels_last if setting.setting.channels_last else torch.contiguous_format
        run.listener.note(f"precision: {setting}")
        job = replace(job, precision=setting.setting.precision, memory_format=layout, setting=str(setting))
    run.pins[str(step.place.index)] = run.pins.get(str(step.place.index), {}) | _pins(job, speed)
    return job


def _pins(job: Job, speed: Speed) -> dict[str, str]:
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
    if job.options.feature_cache == "off" or not (job.frozen.parameters or job.options.unfreeze_gradually):
        return job
    data, options = cast(OpenData, run.data), job.options
    try:
        if options.unfreeze_gradually:
            raise UnsplittableError(THAWS)
        prepared = prepare(
            job.model,
            data,
            share,
            speed,
            views=options.views,
            use=options.feature_cache,
            validate_exactly=options.measures_exactly,
            note=run.listener.note,
        )
    except UnsplittableError as error:
        if options.feature_cache != "auto":
            message = f"{job.label}: feature_cache: {options.feature_cache}: {error}"
            raise InputError(message, suggestion="feature_cache: off trains end to end") from error
        run.listener.note(f"feature cache: none, trained end to end: {error}")
        return replace(job, feature_cache={"method": "end to end", "reason": str(error), "seconds": 0.0})
    return replace(
        job,
        train=prepared.train,
        validation=prepared.validation,
        network=prepared.network,
        validation_network=prepared.validation_network,
        feature_cache=prepared.record,
    )


def _setting(step: Train, job: Job, precision: str) -> Choice | None:
    """Precision and layout: by timing, where they are left open; None for those of the job as it is."""
    layout = step.memory_layout
    if layout == "auto" and precision == "float32":
        return None
    network = job.network or job.model
    fixed = Choice(Setting(job.precision, layout == "channels_last"), {}, 0.0)
    found = fixed if precision != "auto" and layout != "auto" else _timed(job, network, precision, layout)
    if found is None and layout != "auto":
        found = fixed
    if found is not None:
        apply_layout(network, found.setting)
    return found


def _timed(job: Job, network: nn.Module, precision: str, layout: str) -> Choice | None:
    """The fastest setting; None where training is too short, or too small, for timing it to pay."""
    layers = [module for module in network.modules() if any(p.ndim > 1 for p in module.parameters(recurse=False))]
    if len(layers) < 2 or PartialState().num_processes > 1:
        return None
    epochs = job.options.epochs or 1
    steps = job.options.max_steps or epochs * len(job.train)
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
            samples=steps * job.train.size(0),
            precision=precision,
            layout=layout,
        )
    except ZooError:
        raise
    except Exception as error:
        shapes = ", ".join(str(list(value.shape)) for value in inputs)
        raise explain(error, f"{job.label}, timing a step on inputs {shapes}") from error
