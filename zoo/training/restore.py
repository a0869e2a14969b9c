"""What a trainer has to know to go on as if it had not been interrupted: all of it gathered, and put back."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from accelerate.utils import gather_object

from zoo.training.components import restore_state, state_of
from zoo.training.devices import generator_states, restore_generators
from zoo.training.gradual import GradualUnfreezing
from zoo.training.job import Progress, fill
from zoo.training.optimizers import carry_over, load_state, make_optimizer
from zoo.training.state import Saved

if TYPE_CHECKING:
    from zoo.steps.train import Train
    from zoo.training.trainer import Trainer


def training_state(trainer: Trainer) -> dict[str, Any]:
    if trainer.plan:
        trainer.plan.count()
    own = [{"generators": generator_states(), "loss_sum": trainer.loss_sum.item()}]
    scaler = trainer.accelerator.scaler
    return {
        "progress": asdict(trainer.progress),
        "optimizer": trainer.optimizer.state_dict(),
        "schedule": trainer.schedule.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "average": [trainer.average.updates, trainer.average.average] if trainer.average else None,
        "best": trainer.best,
        "soup": trainer.soup.state_dict() if trainer.soup is not None else None,
        "rates": trainer.rates,
        "callbacks": trainer.callbacks.state_dict(),
        "metrics": trainer.metrics.state_dict(),
        "loss": state_of(trainer.loss.own),
        "processes": own if trainer.accelerator.num_processes == 1 else gather_object(own),
    }


def restore(trainer: Trainer, saved: Saved) -> None:
    """Continue from a saved state. Raises WorkError where it does not fit.

    Where the step's options have changed since, the new ones are used; `begin` has to follow where
    `saved.restarts`.
    """
    training = saved.training
    before = None if saved.options is None else type(trainer.job.options).model_validate(saved.options)
    if before is not None and saved.restarts and trainer.job.options.optimizer_state == "carried":
        trainer.progress.carried = _take_moments(trainer, before, training)  # that the step was given
    if not saved.restarts:
        restore_weights(trainer, saved)
        if trainer.progress.plan:
            trainer.lengthen(trainer.progress.plan[-1][1])
        trainer.callbacks.load_state_dict(training.get("callbacks", {}))
        trainer.metrics.load_state_dict(training.get("metrics", {}))
        restore_state(trainer.loss.own, training.get("loss"))
        if before is None:
            load_state(trainer.optimizer.optimizer, training["optimizer"])
            trainer.schedule.load_state_dict(training["schedule"])
        else:
            _continue_with_new_options(trainer, before, training)
    own = training["processes"][trainer.accelerator.process_index % len(training["processes"])]
    trainer.loss_sum.fill_(own["loss_sum"])
    restore_generators(own["generators"])


def _continue_with_new_options(trainer: Trainer, before: Train, training: dict[str, Any]) -> None:
    """Keep the optimizer's moments, and set the learning rate that the new options give after the steps so far."""
    _take_moments(trainer, before, training)
    trainer.schedule.replay(
        [(row["steps"], row["validation"].get(trainer.metrics.main)) for row in trainer.progress.history]
    )
    if trainer.best is None or (trainer.progress.best or {}).get("metric") != trainer.criterion.metric:
        trainer.best = trainer.progress.best = None  # of the epochs from here on
    trainer.progress.stopped = trainer.stalled()


def _take_moments(trainer: Trainer, before: Train, training: dict[str, Any]) -> int:
    """Read the optimizer's state through the groups that the options before made; of how many tensors there is."""
    with trainer.gradual.left():
        model = trainer.job.model
        former = make_optimizer(model, before, GradualUnfreezing(model, before.gradual).begins)
    load_state(former, training["optimizer"])
    return carry_over(trainer.optimizer.optimizer, former.state)


def restore_weights(trainer: Trainer, saved: Saved) -> None:
    training = saved.training
    fill(trainer.job.model.state_dict(), saved.model)
    trainer.progress = Progress(**training["progress"])
    trainer.noted = True
    if len(trainer.progress.digests) <= trainer.progress.epoch:  # a file cannot contain its own
        trainer.progress.digests.append(saved.digest)
    if trainer.accelerator.scaler is not None and training["scaler"]:
        trainer.accelerator.scaler.load_state_dict(training["scaler"])
    trainer.rates = list(training.get("rates", trainer.rates))  # those of an epoch that has only to be measured
    if trainer.average:
        trainer.average.updates, values = training["average"]
        fill(trainer.average.average, values)
    if trainer.soup is not None:
        trainer.soup.load_state_dict(training["soup"])
    best = training["best"] if trainer.job.options.keeps_best else None
    trainer.best = {name: tensor.to(trainer.device) for name, tensor in best.items()} if best else None
