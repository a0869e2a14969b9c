"""The step `train`: from a run as it stands to a job for the loop, and from the loop to a row of the report."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate import PartialState

from zoo.data.open_data import OpenData
from zoo.errors import WorkError, ZooError, listed
from zoo.model.freezing import FrozenPart, hashes, prove
from zoo.model.prediction import prediction
from zoo.recipe.options import Train
from zoo.training.autotune import Calibration, Setting, calibrate
from zoo.training.callbacks import Listener, Listeners
from zoo.training.devices import choose_precision, give_back_freed_memory
from zoo.training.job import Job, arranged, fill
from zoo.training.losses import make_loss
from zoo.training.tensorboard import FOLDER, Curves, steps_done
from zoo.training.trainer import NotFiniteError, Trainer
from zoo.training.trunk.prepare import Share, prepare
from zoo.training.trunk.split import UnsplittableError

if TYPE_CHECKING:
    from zoo.finetuning.run import Run
    from zoo.recipe import Step


def train(run: Run, step: Step) -> None:
    """Trains, proves that what is frozen did not move, and keeps the record."""
    assembly, data = run.assembly, cast(OpenData, run.data)
    assembly.classes, assembly.task = data.classes, data.task
    frozen = assembly.frozen or FrozenPart()
    saved, run.saved = run.saved, None
    if saved is not None:
        fill(assembly.model.state_dict(), saved.model)  # the trunk is computed from it
    began = time.monotonic()
    job = _job(run, step, frozen)
    give_back_freed_memory(run.device)
    preparation = time.monotonic() - began
    trainer = Trainer(job, run.state, _listener(run, step, resumed=saved is not None))
    before = saved.run["frozen"] if saved is not None else hashes(assembly.model, frozen)
    if saved is not None:
        trainer.restore(saved)
    if saved is None or saved.anew:
        trainer.begin(step.index, {**run.memory(), "frozen": before})
    try:
        progress = trainer.run()
    except (KeyboardInterrupt, Exception) as error:
        _rewind(run, step, trainer, preparation, error)
        raise
    proof = prove(before, hashes(assembly.model, frozen))
    if not proof.holds:
        run.trained = False  # a model that is not what the recipe says is no result
        raise WorkError(f"{len(proof.moved)} frozen tensors moved in training: {listed(proof.moved)}")
    run.trained |= progress.epoch > 0
    _record(run, step, trainer, preparation, proof.as_dict())


def _rewind(run: Run, step: Step, trainer: Trainer, preparation: float, error: BaseException) -> None:
    """Leaves the last good epoch in the model, and its record, behind an interrupted or failed train step."""
    if isinstance(error, NotFiniteError) and PartialState().is_main_process:
        with suppress(OSError, ZooError):
            run.state.fail(str(error.problems[0].message), run.conditions)
    try:
        own = trainer.rewind()
    except ZooError:
        run.trained = False  # what is in the model now is nothing to keep
        return
    run.trained |= own
    label = trainer.job.label
    run.kept = f"{label} after epoch {trainer.progress.epoch}" if own else f"the model as {label} began"
    _record(run, step, trainer, preparation, None)


def _listener(run: Run, step: Step, *, resumed: bool) -> Listener:
    if not cast(Train, step.options).tensorboard:
        return run.listener
    curves = Curves(run.folder / FOLDER, first=steps_done(run.stages), resumed=resumed)
    return Listeners(curves, run.listener)  # a log that cannot be written fails before anything is displayed


def _job(run: Run, step: Step, frozen: FrozenPart) -> Job:
    options = cast(Train, step.options)
    data, processes = cast(OpenData, run.data), PartialState()
    share = Share(run.device, options.batch_size, step.index, processes.process_index, processes.num_processes)
    trains = [other.index for other in run.recipe.steps if other.kind == "train"]
    requested = options.precision or run.precision
    job = Job(
        model=run.assembly.model,
        train=data.batches("train", **asdict(share)),
        validation=data.batches("validation", **asdict(share)),
        options=options,
        task=data.task,
        outputs=data.outputs,
        device=run.device,
        precision=choose_precision(requested, run.device),
        frozen=frozen,
        label="train" if len(trains) == 1 else f"train {trains.index(step.index) + 1}/{len(trains)}",
    )
    job.model.to(run.device)
    job = _behind_trunk(run, job, share, exact=requested == "float32")
    setting = _setting(run, step, job, requested) if requested != "float32" else None
    if setting is None:
        return job
    layout = torch.channels_last if setting.setting.channels_last else torch.contiguous_format
    run.listener.note(f"precision: {setting}")
    return replace(job, precision=setting.setting.precision, memory_format=layout, setting=str(setting))


def _behind_trunk(run: Run, job: Job, share: Share, *, exact: bool) -> Job:
    """The job on cached features of a frozen backbone where one can be split off; else as it is, with the reason."""
    if job.options.feature_cache == "off" or not job.frozen.parameters:
        return job
    data = cast(OpenData, run.data)
    try:
        prepared = prepare(job.model, data, share, exact=exact, views=job.options.views, tell=run.listener.note)
    except UnsplittableError as error:
        run.listener.note(f"feature cache: none, trained end to end: {error}")
        return replace(job, trunk={"method": "plain", "reason": str(error), "seconds": 0.0})
    return replace(
        job,
        train=prepared.train,
        validation=prepared.validation,
        network=prepared.network,
        validation_network=prepared.validation_network,
        trunk=prepared.record,
    )


def _setting(run: Run, step: Step, job: Job, precision: str) -> Calibration | None:
    """Precision, where it is left open, and layout by timing; a resumed run keeps the choice it began with."""
    kept = run.settings.get(str(step.index))
    if kept is not None and precision in ("auto", kept["precision"]):
        return Calibration(Setting(**kept), {}, 0.0, remembered=True)
    network = job.network or job.model
    layers = [module for module in network.modules() if any(p.ndim > 1 for p in module.parameters(recurse=False))]
    epochs = job.options.epochs or 1
    steps = job.options.max_steps or epochs * len(job.train)
    if len(layers) < 2 or PartialState().num_processes > 1:
        return None
    batch = next(job.train.epoch(0))
    loss = make_loss(job.options.loss, job.task, label_smoothing=job.options.label_smoothing, device=job.device)
    network.train()
    found = calibrate(
        network,
        arranged(batch.inputs, job),
        batch.targets,
        lambda outputs, targets: loss(prediction(outputs), targets),
        samples=steps * job.train.size(0),
        precision=precision,
    )
    run.settings[str(step.index)] = asdict(found.setting if found else Setting(job.precision))
    return found


def _record(run: Run, step: Step, trainer: Trainer, preparation: float, proof: dict[str, Any] | None) -> None:
    """A row of the report; `preparation` are the seconds of the trunk and of choosing a setting."""
    progress, job, model = trainer.progress, trainer.job, run.assembly.model
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    chosen = progress.best["epoch"] if trainer.best and progress.best else progress.epoch
    samples = sum(job.train.size(index) for index in range(len(job.train)))
    run.stages.append(
        {
            "step": step.index + 1,
            "action": "train",
            "metrics": progress.history[chosen - 1]["validation"] if chosen else {},
            "epochs": progress.history,
            "best": progress.best,
            "kept_epoch": chosen,
            "trainable": trainable,
            "frozen": total - trainable,
            "samples": samples,
            "precision": job.precision,
            "setting": job.setting,
            "trunk": job.trunk,
            "freeze_proof": proof,
            "seconds": preparation + progress.seconds,
        }
    )
