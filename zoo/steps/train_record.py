"""What a train step leaves behind: its row of the report, and the last good epoch where it was cut short."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from accelerate import PartialState
from torch import Tensor

from zoo.data.open_data import OpenData
from zoo.errors import ZooError
from zoo.steps.train_changes import changes_of
from zoo.training.class_weights import as_record
from zoo.training.folder import NOT_FINITE
from zoo.training.not_finite import RECORD, keep_batch
from zoo.training.predictions import sample_names
from zoo.training.resume import PLANNED
from zoo.training.trainer import NotFiniteError, Trainer

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.steps.train import Train


def rewind(
    run: ActiveRun,
    step: Train,
    trainer: Trainer,
    preparation: float,
    error: BaseException,
    own: Mapping[str, Any],
) -> None:
    """Leaves the last good epoch in the model, and its record, behind an interrupted or failed train step."""
    if isinstance(error, NotFiniteError):
        with suppress(OSError, ZooError):
            _keep_batch(run, trainer, error)
        with suppress(OSError, ZooError):
            if PartialState().is_main_process:
                run.state.fail(str(error.problems[0].message), run.conditions)
    try:
        complete = trainer.rewind()
    except ZooError:
        run.trained = False  # what is in the model now is nothing to keep
        return
    run.trained |= complete
    if not complete:
        step.undone(run)
    label = trainer.job.label
    run.kept = f"{label} after epoch {trainer.progress.epoch}" if complete else f"the model as {label} began"
    record_train(run, step, trainer, preparation, None, own)


def moments_for_next(run: ActiveRun, step: Train, trainer: Trainer) -> dict[Tensor, dict[str, Any]]:
    """The optimizer's state by parameter, where the next train step goes on with it."""
    steps = run.recipe.steps[step.place.index + 1 :]  # a step that builds on train has its options
    asked = next((other.optimizer_state for other in steps if hasattr(other, "optimizer_state")), "fresh")
    return dict(trainer.optimizer.optimizer.state) if asked == "carried" else {}


def _keep_batch(run: ActiveRun, trainer: Trainer, error: NotFiniteError) -> None:
    """The batch that broke training, in the run's folder; a word on it."""
    data = cast(OpenData, run.data)
    folder = run.folder / NOT_FINITE
    record = keep_batch(folder, trainer, error.index, run.assembly, sample_names(data.parts["train"]))
    where = f", first in {record['first']}" if record.get("first") else ""
    run.listener.note(f"warning: the batch of step {record['optimizer_step']}{where} is kept: {folder / RECORD}")


def _measured(trainer: Trainer, epoch: int) -> dict[str, Any]:
    found: dict[str, Any] = trainer.progress.history[epoch - 1]["validation"] if epoch else {}
    return found


def record_train(
    run: ActiveRun,
    step: Train,
    trainer: Trainer,
    preparation: float,
    proof: dict[str, Any] | None,
    own: Mapping[str, Any],
) -> None:
    """A row of the report; `preparation` are the seconds in front of training and behind it, `own` is what a
    step that builds on train adds, or says instead."""
    if trainer.progress.plan:
        run.pins[str(step.place.index)] |= {PLANNED: trainer.progress.plan}
    progress, job, model = trainer.progress, trainer.job, run.assembly.model
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    chosen = progress.best["epoch"] if trainer.best and progress.best else progress.epoch
    samples = sum(job.train.size(index) for index in range(len(job.train)))
    record = {
        "metrics": trainer.averaged["metrics"] if trainer.averaged else _measured(trainer, chosen),
        "measured_with": job.approximate,
        "epochs": progress.history,
        "best": progress.best,
        "kept_epoch": chosen,
        "average": trainer.averaged,
        "stopped": progress.stopped,
        "plan": progress.plan,
        "trainable": trainable,
        "frozen": total - trainable,
        "samples": samples,
        "class_weights": as_record(job.weighted, cast(OpenData, run.data)) if job.weighted else None,
        "sampler": job.options.sampler,
        "precision": job.precision,
        "setting": job.setting,
        "changes": changes_of(cast(OpenData, run.data)),
        "mixing": job.mixing,
        "batch_size": job.train.size(0),
        "parts": progress.parts,
        "validation_parts": progress.validation_parts,
        "out_of_memory": progress.out_of_memory,
        "checkpointed": len(trainer.checkpointed),
        "compiled": {"seconds": trainer.compiled.seconds} if trainer.compiled else None,
        "feature_cache": job.feature_cache,
        "feature_precision": job.feature_cache.get("precision"),
        "groups": trainer.groups,
        "phases": progress.phases,
        "carried": progress.carried,
        "freeze_proof": proof,
        "seconds": max(preparation + progress.seconds, progress.spent),  # what is spent has the steps tried out, too
    }
    run.record(step, **record | dict(own))
    if PartialState().is_main_process:
        run.climb(step.place.index + 1, step.place.name, progress.digests)
