"""The step `train`: from a run as it stands to a job for the loop, and from the loop to a row of the report."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

import torch
from accelerate import PartialState
from pydantic import Field
from torch import nn

from zoo.checkpoint.save import save_checkpoint
from zoo.contracts import TrackedRun
from zoo.data.open_data import OpenData
from zoo.errors import InputError, Problem, WorkError, ZooError, listed
from zoo.lint import fails_on_one_sample
from zoo.model.freezing import FrozenPart, hashes, prove
from zoo.model.prediction import prediction
from zoo.recipe import Step
from zoo.recipe.catalogue import SCHEDULERS
from zoo.recipe.document import Document
from zoo.recipe.options import (
    BestBy,
    CallbackName,
    EarlyStopping,
    FeatureCacheUse,
    FeaturePrecision,
    LossName,
    MemoryLayout,
    MetricName,
    Named,
    OptimizerName,
    Positive,
    Precision,
    SchedulerName,
    TrackerName,
)
from zoo.recipe.step import check_expression
from zoo.steps.freeze import Freeze
from zoo.training.autotune import Choice, Setting, apply_layout, choose_setting
from zoo.training.callbacks import Listener, Listeners
from zoo.training.choosing import LOSS, with_chosen
from zoo.training.components import files_of
from zoo.training.devices import choose_precision, release_freed_memory, seed_everything
from zoo.training.hooks import check_callbacks
from zoo.training.job import Job, arranged, fill, put_in
from zoo.training.losses import check_loss, make_loss, plain
from zoo.training.metrics import explain, make_metrics, names_of
from zoo.training.optimizers import make_optimizer, named
from zoo.training.schedulers import Schedule
from zoo.training.trackers import Tracking, make_trackers, run_id
from zoo.training.trainer import NotFiniteError, Trainer
from zoo.training.trunk.choose import Speed
from zoo.training.trunk.prepare import Share, prepare
from zoo.training.trunk.split import UnsplittableError

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.preflight.rehearsal import Rehearsal


CLASS_LOSSES = ("auto", "cross_entropy", "CrossEntropyLoss")  # those that label smoothing does something to


LAST = "last.safetensors"  # the last epoch, where another one is kept


class Train(Step):
    """`train:` minimises a loss over the trainable parameters. `lr` is per optimizer step; `warmup` is a number of
    steps (1 or more) or a share of all steps (below 1)."""

    renamed: ClassVar = {"trunk": "feature_cache", "tensorboard": "trackers"}
    needs_data = True
    fails_safely = True

    epochs: Positive | None = None
    """Passes over the training data; this or `max_steps`."""
    max_steps: Positive | None = None
    """Stop after so many optimizer steps."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate at its highest."""
    optimizer: OptimizerName = "AdamW"
    """A class of torch.optim, or a name that timm gives."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """The optimizer's own without it."""
    scheduler: SchedulerName | None = "cosine"
    """How the learning rate falls: a schedule of zoo's, fitted to the length of the training, or a class of
    torch.optim.lr_scheduler with its own arguments; null keeps it."""
    warmup: Annotated[float, Field(ge=0)] = 0
    """Steps over which the learning rate rises (1 or more), or their share of all steps (below 1)."""
    loss: LossName = "auto"
    """A loss of torch.nn; `auto` goes by the data's task."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each target spread over all classes."""
    metrics: list[MetricName] | None = None
    """Classes of torchmetrics beside the loss; those of the data's task without it."""
    batch_size: Positive | None = None
    """Goes over `data.batch_size`."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Decides this step's order of samples, augmentation and dropout, whatever stands in front of it; without it the
    recipe's `seed` and the number of the train step do."""
    clip_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of all gradients together."""
    accumulate: Positive = 1
    """Batches whose gradients make one optimizer step."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Each layer's learning rate is the next one's times this."""
    lr_scale: dict[str, Annotated[float, Field(ge=0)]] = Field({})
    """Factors on the learning rate by a regular expression on parameter names."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a moving average of the weights, which is then what is evaluated and kept."""
    precision: Precision | None = None
    """Goes over the recipe's `precision`."""
    compile: bool = False
    """Run the model through torch.compile."""
    memory_layout: MemoryLayout = "auto"
    """How images lie in memory; `auto` is timed, and contiguous with `precision: float32`."""
    feature_cache: FeatureCacheUse = "auto"
    """Whether the features of a frozen backbone are computed once and kept, computed at every step, or neither: trained
    end to end. `auto` keeps them where it can."""
    feature_precision: FeaturePrecision = "auto"
    """What those are computed in; `exact` is float32 without fused layers. `auto` is that where `precision` is float32,
    else bfloat16 where the device computes in it and answers stay the same."""
    views: Annotated[int, Field(ge=0)] = 0
    """Augmented passes over the images whose features are kept; 0 keeps those of one plain pass."""
    keep: Literal["auto", "last", "best"] | BestBy = "auto"
    """Which epoch's weights remain: the last one's, or those of the best by the first metric, or by the one named in
    `{best: METRIC}`; the last epoch is then in `last.safetensors`. `auto` is best with `early_stopping`, else last."""
    early_stopping: Positive | EarlyStopping | None = None
    """End training after so many epochs in a row that were not better in validation."""
    callbacks: list[CallbackName] = Field([])
    """What plugins do while it trains, in this order."""
    trackers: list[TrackerName] = Field([])
    """Where curves of losses, metrics, learning rate and images a second are kept beside the report: `tensorboard`,
    `wandb`, `mlflow`, `aim`, or a plugin's."""

    @classmethod
    def form(cls) -> dict[str, Any]:
        form = super().form()
        options = form["anyOf"][0]
        options["anyOf"] = [{"required": ["epochs"]}, {"required": ["max_steps"]}]
        options["properties"]["warmup"]["anyOf"] = [{"maximum": 1}, {"multipleOf": 1}]
        form["anyOf"] = [each for each in form["anyOf"] if each != {"type": "null"}]
        return form

    @property
    def files(self) -> frozenset[str]:
        own = frozenset({LAST} if self.keeps_best else ())
        return own | files_of("callbacks", self.callbacks) | files_of("trackers", self.trackers)

    @property
    def keeps_best(self) -> bool:
        return self.keep not in ("auto", "last") or (self.keep == "auto" and self.early_stopping is not None)

    @property
    def patience(self) -> EarlyStopping | None:
        rule = self.early_stopping
        return EarlyStopping(patience=rule) if isinstance(rule, int) else rule

    @property
    def chosen_by(self) -> tuple[str | None, str | None]:
        """The names of what the kept epoch and the end go by; None for the first metric."""
        best = self.keep.best if isinstance(self.keep, BestBy) else None
        stop = self.patience.metric if self.patience else None
        return (best or stop if self.keep == "auto" else best), stop or best

    def measured(self, task: str) -> list[Named] | None:
        """The metrics to measure: those of `metrics`, and what is chosen by."""
        return with_chosen(self.metrics, task, self.chosen_by)

    @property
    def chooses(self) -> str:
        name, _ = named(self.scheduler) if self.scheduler is not None else ("", {})
        plateau = f"scheduler: {name}" if SCHEDULERS.get(name, name) == "ReduceLROnPlateau" else ""
        best, stop = self.chosen_by
        kept = f"keep: {{best: {best}}}" if best else "keep: best"
        stops = f"early_stopping: {stop}" if stop else "early_stopping"
        chosen = (kept if self.keeps_best else "", stops if self.early_stopping else "", plateau)
        return ", ".join(filter(None, chosen))

    def check_options(self, document: Document, earlier: Sequence[Step]) -> None:
        path = self.place.path
        if self.epochs is None and self.max_steps is None:
            document.add(path, "train: epochs is missing", "write epochs, or max_steps", at_key=True)
        if self.warmup > 1 and self.warmup != int(self.warmup):
            message = f"train.warmup: {self.warmup} is neither a share below 1 nor an integer number of steps"
            document.add((*path, "warmup"), message)
        taken = [step for step in earlier if step.place.action == "save" and LAST in map(str.casefold, step.files)]
        if self.keeps_best and taken:
            where = taken[0].place.location.within
            message = f"train: {LAST}, the last epoch beside the best, is what the save step in {where} writes"
            document.add(taken[0].place.path, message, "give it another name", at_key=True)
        for pattern in self.lr_scale:
            check_expression(document, (*path, "lr_scale", pattern), pattern, at_key=True)
        word, listed_ = document.get(("data", "augmentation"), "none"), document.get(("data", "transforms"))
        if self.feature_cache == "kept" and (word != "none" or listed_) and not self.views:
            what = "data.transforms change" if listed_ else f"augmentation {word} changes"
            message = f"train.feature_cache: {what} every epoch"
            document.add((*path, "feature_cache"), message, "write views: K for K augmented passes, or every_step")
        loss = next(iter(self.loss)) if isinstance(self.loss, dict) else self.loss
        if self.label_smoothing and loss not in CLASS_LOSSES:
            message = f"train.label_smoothing does nothing with the loss {loss}"
            document.add((*path, "label_smoothing"), message, "remove it", at_key=True)

    def check(self, rehearsal: Rehearsal) -> None:
        path, task, outputs = self.place.path, rehearsal.sample.context.task, rehearsal.sample.outputs or 2
        rehearsal.fits(self)
        if not rehearsal.count(self).trainable:
            self._nothing_trains(rehearsal)
            return
        rehearsal.lint(self, self.loss)
        attempts: dict[str, Callable[[], object]] = {
            "optimizer": lambda: self._schedule(rehearsal),
            "loss": lambda: check_loss(self.loss, task, outputs, label_smoothing=self.label_smoothing),
            "metrics": lambda: make_metrics(self.metrics, task, outputs),
            "callbacks": lambda: check_callbacks(self.callbacks),
            "trackers": lambda: make_trackers(self.trackers),
            **{key: functools.partial(self._check_choice, key, task, outputs) for key in ("keep", "early_stopping")},
        }
        self._check_batch(rehearsal)
        rehearsal.attempt(path, attempts)

    def _check_choice(self, key: str, task: str, outputs: int) -> None:
        name = self.chosen_by[key == "early_stopping"]
        if name and name not in (LOSS, *names_of(self.metrics or ())):
            make_metrics([name], task, outputs)

    def _check_batch(self, rehearsal: Rehearsal) -> None:
        """Note a batch of a single sample, where batch norm cannot train on it."""
        data, document, own = rehearsal.verdict.data, rehearsal.recipe.document, (*self.place.path, "batch_size")
        if data is None or (size := self.batch_size or data.options.batch_size) > 1 < len(data.parts["train"]):
            return
        if fails_on_one_sample(rehearsal.assembly.model, rehearsal.sample.input_shape):
            place, what, hint = (
                (own if self.batch_size else ("data", "batch_size")),
                f"batch_size {size}",
                "write 2 or more",
            )
            if size > 1:
                place, what, hint = ("data",), "the training part has one sample", "more images are needed"
            message = f"train: {what}: batch norm cannot train on a single sample"
            rehearsal.verdict.errors.append(Problem(message, document.value(place), hint))

    def _schedule(self, rehearsal: Rehearsal) -> None:
        """Build optimizer and schedule as training would; how long it would be does not matter to what fails."""
        optimizer = make_optimizer(rehearsal.assembly.model, self)
        try:
            Schedule(optimizer, self, steps=100, epochs=10, higher_is_better=True)
        except ZooError as error:
            rehearsal.note(self.place.path, error, about="scheduler")

    def _nothing_trains(self, rehearsal: Rehearsal) -> None:
        steps = rehearsal.recipe.steps[: self.place.index]
        places = [step.place.location.within for step in steps if isinstance(step, Freeze)]
        by = f": the freeze step in {places[-1]} leaves nothing" if places else ""
        hint = "freeze less, for instance freeze: all_but_head, or put what shall train behind the freeze step"
        if next(rehearsal.assembly.model.parameters(), None) is None:
            by, hint = ": the model has no parameters", "remove the step"
        location = rehearsal.recipe.document.key(self.place.path)
        rehearsal.verdict.errors.append(Problem(f"train: there is nothing to train{by}", location, hint))

    def run(self, run: ActiveRun) -> None:
        """Trains, proves that what is frozen did not move, and keeps the record."""
        assembly, data = run.assembly, cast(OpenData, run.data)
        assembly.classes, assembly.task = data.classes, data.task
        assembly.evaluation = {"loss": plain(self.loss), "metrics": self.measured(data.task)}
        frozen = assembly.frozen or FrozenPart()
        saved, run.saved = run.saved, None
        if saved is not None:
            fill(assembly.model.state_dict(), saved.model)  # what the feature cache is computed from
        began = time.monotonic()
        if self.seed is not None:
            seed_everything(self.seed)
        job = _job(run, self, frozen)
        release_freed_memory(run.device)
        preparation = time.monotonic() - began
        trainer = Trainer(job, run.state, _listener(run, self, resumed=saved is not None))
        before = saved.run["frozen"] if saved is not None else hashes(assembly.model, frozen)
        if saved is not None:
            trainer.restore(saved)
        if saved is None or saved.restarts:
            trainer.begin(self.place.index, {**run.memory(), "frozen": before})
        try:
            progress = trainer.run()
        except (KeyboardInterrupt, Exception) as error:
            _rewind(run, self, trainer, preparation, error)
            raise
        proof = prove(before, hashes(assembly.model, frozen))
        if not proof.holds:
            run.trained = False  # a model that is not what the recipe says is no result
            raise WorkError(f"{len(proof.moved)} frozen tensors changed in training: {listed(proof.moved)}")
        run.trained |= progress.epoch > 0
        if trainer.last is not None and PartialState().is_main_process:
            with put_in(trainer.unfrozen, trainer.last):  # without metrics: those of the loop are not quite this file's
                save_checkpoint(assembly, run.folder / LAST)
        _record(run, self, trainer, preparation, proof.as_dict())

    @classmethod
    def row(cls, record: dict[str, Any]) -> dict[str, str]:
        epochs = record["epochs"]
        kept = f" (kept {record['kept_epoch']})" if record["kept_epoch"] != len(epochs) else ""
        rates = sorted(epoch["images_per_second"] for epoch in epochs)
        return super().row(record) | {
            "epochs": f"{len(epochs)}{kept}",
            "loss": f"{epochs[-1]['loss']:.4f}" if epochs else "",
            "trainable": f"{record['trainable']:,}",
            "frozen": f"{record['frozen']:,}",
            "images/s": f"{rates[len(rates) // 2]:.0f}" if rates else "",
        }


def _rewind(run: ActiveRun, step: Train, trainer: Trainer, preparation: float, error: BaseException) -> None:
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


def _listener(run: ActiveRun, step: Train, *, resumed: bool) -> Listener:
    if not step.trackers or not PartialState().is_main_process:
        return run.listener
    told = TrackedRun(
        run.recipe.name, run_id(run.folder), run.folder, run.recipe.resolved, run.optimizer_steps, resumed
    )
    return Listeners(Tracking(make_trackers(step.trackers), told, run.listener), run.listener)


def _as_pinned(run: ActiveRun, step: Train) -> Train:
    """The step with what a resumed run had chosen when it began, for the options that are left open still."""
    pins = run.pins.get(str(step.place.index), {})
    requested = step.precision or run.precision
    if requested not in ("auto", pins.get("precision")):
        return step
    return step.model_copy(update={key: value for key, value in pins.items() if getattr(step, key) in (None, "auto")})


def _job(run: ActiveRun, step: Train, frozen: FrozenPart) -> Job:
    step = _as_pinned(run, step)
    data, processes = cast(OpenData, run.data), PartialState()
    trains = [other.place.index for other in run.recipe.steps if isinstance(other, Train)]
    number = trains.index(step.place.index)
    share = Share(
        run.device,
        step.batch_size,
        step=number,  # among train steps: a step of another kind in front changes no order
        seed=step.seed,
        rank=processes.process_index,
        world=processes.num_processes,
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
        label="train" if len(trains) == 1 else f"train {number + 1}/{len(trains)}",
    )
    job.model.to(run.device)
    speed = Speed.of(step.feature_precision, requested)
    job = _on_features(run, job, share, speed)
    setting = _setting(step, job, requested)
    if setting is not None:
        layout = torch.channels_last if setting.setting.channels_last else torch.contiguous_format
        run.listener.note(f"precision: {setting}")
        job = replace(job, precision=setting.setting.precision, memory_format=layout, setting=str(setting))
    run.pins[str(step.place.index)] = _pins(job, speed)
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
    if job.options.feature_cache == "off" or not job.frozen.parameters:
        return job
    data, options = cast(OpenData, run.data), job.options
    try:
        prepared = prepare(
            job.model,
            data,
            share,
            speed,
            views=options.views,
            use=options.feature_cache,
            validate_exactly=options.keep == "best",
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
    loss = make_loss(job.options.loss, job.task, label_smoothing=job.options.label_smoothing, device=job.device)
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


def _record(run: ActiveRun, step: Train, trainer: Trainer, preparation: float, proof: dict[str, Any] | None) -> None:
    """A row of the report; `preparation` are the seconds of caching features and of choosing a setting."""
    progress, job, model = trainer.progress, trainer.job, run.assembly.model
    trainable = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in model.parameters())
    chosen = progress.best["epoch"] if trainer.best and progress.best else progress.epoch
    samples = sum(job.train.size(index) for index in range(len(job.train)))
    run.record(
        step,
        metrics=progress.history[chosen - 1]["validation"] if chosen else {},
        measured_with=job.approximate,
        epochs=progress.history,
        best=progress.best,
        kept_epoch=chosen,
        stopped=progress.stopped,
        trainable=trainable,
        frozen=total - trainable,
        samples=samples,
        precision=job.precision,
        setting=job.setting,
        feature_cache=job.feature_cache,
        feature_precision=job.feature_cache.get("precision"),
        freeze_proof=proof,
        seconds=preparation + progress.seconds,
    )
    if PartialState().is_main_process:
        run.climb(step.place.index + 1, step.place.name, progress.digests)
