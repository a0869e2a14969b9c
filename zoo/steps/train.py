"""The step `train`: its options and what is wrong with them, the loop run on its job, and a row of the report."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast

from accelerate import PartialState
from pydantic import Field

from zoo import registry
from zoo.checkpoint.save import save_checkpoint
from zoo.contracts import TrackedRun
from zoo.data.open_data import OpenData
from zoo.errors import InputError, Problem, WorkError, ZooError, listed
from zoo.lint import fails_on_one_sample
from zoo.model.freezing import FrozenPart, hashes, prove
from zoo.model.unstandardise import are_far, unstandardising
from zoo.recipe import Step
from zoo.recipe.catalogue import SCHEDULERS, component_of
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
    Options,
    Positive,
    Precision,
    SchedulerName,
    TrackerName,
)
from zoo.recipe.step import check_expression
from zoo.steps.freeze import Freeze
from zoo.steps.train_job import make_job
from zoo.training.callbacks import Listener, Listeners
from zoo.training.choosing import LOSS, with_chosen
from zoo.training.components import files_of
from zoo.training.devices import release_freed_memory, seed_everything
from zoo.training.hooks import check_callbacks
from zoo.training.job import fill, put_in
from zoo.training.losses import check_loss, plain, standardises
from zoo.training.metrics import make_metrics, names_of
from zoo.training.optimizers import described_groups, make_optimizer, named
from zoo.training.schedulers import Schedule, schedule_traps, training_length
from zoo.training.trackers import Tracking, make_trackers, run_id
from zoo.training.trainer import NotFiniteError, Trainer

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
    """A class of torch.optim, a name that timm gives, or a plugin's."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """The optimizer's own without it."""
    scheduler: SchedulerName | None = "cosine"
    """How the learning rate falls: a schedule of zoo's, fitted to the length of the training, or a class of
    torch.optim.lr_scheduler, or a plugin's, with its own arguments; null keeps it."""
    warmup: Annotated[float, Field(ge=0)] = 0
    """Steps over which the learning rate rises (1 or more), or their share of all steps (below 1)."""
    loss: LossName = "auto"
    """A loss of torch.nn, `focal`, `asymmetric`, or a plugin's; `auto` goes by the data's task."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each target spread over all classes."""
    auxiliary_loss: Annotated[float, Field(ge=0)] = 0.3
    """Weight, beside the main loss, of that of each auxiliary classifier (GoogLeNet, Inception); 0 leaves them out."""
    metrics: list[MetricName] | None = None
    """Classes of torchmetrics, or plugins' metrics, beside the loss; those of the data's task without it."""
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

    def in_full(self, found: list[registry.Component]) -> Self:
        """As of any step; what is chosen by is called as among the metrics."""
        step = super().in_full(found)
        named: dict[str, Options] = {}
        if isinstance(self.keep, BestBy):
            named["keep"] = self.keep.model_copy(update={"best": _metric_in_full(self.keep.best)})
        if isinstance(self.early_stopping, EarlyStopping) and self.early_stopping.metric:
            metric = _metric_in_full(self.early_stopping.metric)
            named["early_stopping"] = self.early_stopping.model_copy(update={"metric": metric})
        changed = {key: value for key, value in named.items() if value != getattr(self, key)}
        step._named |= {key: value.model_dump(exclude_unset=True) for key, value in changed.items()}
        return step.model_copy(update=changed)

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

    @property
    def standardises(self) -> bool:
        return standardises(self.loss)

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
        rehearsal.lint(self, self.loss, auxiliary_loss=self.auxiliary_loss > 0)
        attempts: dict[str, Callable[[], object]] = {
            "optimizer": lambda: self._schedule(rehearsal),
            "loss": lambda: check_loss(self.loss, task, outputs, label_smoothing=self.label_smoothing),
            "metrics": lambda: make_metrics(self.metrics, task, outputs),
            "callbacks": lambda: check_callbacks(self.callbacks),
            "trackers": lambda: make_trackers(self.trackers),
            **{key: functools.partial(self._check_choice, key, task, outputs) for key in ("keep", "early_stopping")},
        }
        self._check_batch(rehearsal)
        self._check_schedule(rehearsal)
        self._check_unit(rehearsal)
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

    def _check_schedule(self, rehearsal: Rehearsal) -> None:
        """Note what the schedule would do in a training as long as the data makes it."""
        data = rehearsal.verdict.data
        if data is None:
            return
        per_epoch = math.ceil(len(data.order("train", batch_size=self.batch_size)) / self.accumulate)
        epochs, steps = training_length(self, per_epoch)
        watched, better = "", None
        with suppress(ZooError):  # a metric that cannot be made is noted by itself
            metrics = make_metrics(self.measured(data.task), data.task, data.outputs)
            watched, better = metrics.main, metrics.higher_is_better
        for trap in schedule_traps(self, steps=steps, epochs=epochs, watched=watched, higher_is_better=better):
            place = rehearsal.recipe.document.value((*self.place.path, trap.where[0]))
            noted = rehearsal.verdict.errors if trap.fatal else rehearsal.verdict.warnings
            noted.append(trap.problem(place))

    def _check_unit(self, rehearsal: Rehearsal) -> None:
        """Warn of a regression's targets that are far from what the head gives as training begins, which is near 0."""
        data = rehearsal.verdict.data
        if data is None or not data.target_std or unstandardising(rehearsal.assembly.model) is not None:
            return
        fresh = rehearsal.recipe.checkpoint is None
        for mean, std in zip(data.target_mean, data.target_std, strict=True):
            if fresh and are_far([mean], [std]):
                message = (
                    f"train: targets have a mean of {mean:g} and a spread of {std:g}, and the head gives values near 0"
                )
                hint = "put swap_head: auto in front: its head learns them standardised, and gives them in their unit"
                rehearsal.warn(self.place.path, InputError(message, suggestion=hint))
                return

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
        job = make_job(run, self, frozen)
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


def _metric_in_full(name: str) -> str:
    """A plugin's metric by its full name; any other word, such as `loss` or `f1(average=micro)`, as it is."""
    with suppress(InputError):  # of several by the bare name: it is among the metrics, or a mistake there
        component = component_of("metrics", name)
        return name if component is None or component.distribution == registry.CORE else component.name
    return name


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
        groups=described_groups(model, trainer.optimizer.param_groups),
        freeze_proof=proof,
        seconds=preparation + progress.seconds,
    )
    if PartialState().is_main_process:
        run.climb(step.place.index + 1, step.place.name, progress.digests)
