"""The step `train`: its options and what is wrong with them, the loop run on its job, and a row of the report."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, cast

from accelerate import PartialState
from pydantic import Field

from zoo import registry
from zoo.checkpoint.save import save_checkpoint
from zoo.contracts import TrackedRun
from zoo.data.open_data import OpenData
from zoo.errors import InputError, WorkError, listed
from zoo.model.freezing import FrozenPart, hashes, prove
from zoo.recipe import Step
from zoo.recipe.catalogue import PLATEAUS, SCHEDULERS, component_of
from zoo.recipe.document import Document
from zoo.recipe.options import (
    Average,
    BestBy,
    CallbackName,
    Duration,
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
    UnfreezeGradually,
)
from zoo.steps.train_changes import check_changing, check_mixing
from zoo.steps.train_check import (
    build_schedule,
    check_average,
    check_batch,
    check_checkpointing,
    check_choice,
    check_class_weights,
    check_features,
    check_metrics,
    check_sampler,
    check_schedule,
    check_thawing,
    check_thresholds,
    check_unit,
    nothing_trains,
)
from zoo.steps.train_job import make_job
from zoo.steps.train_options import LAST, LENGTHS, check_options
from zoo.steps.train_record import moments_for_next, record_train, rewind
from zoo.training import pace
from zoo.training.callbacks import Listener, Listeners
from zoo.training.choosing import with_chosen
from zoo.training.components import files_of
from zoo.training.devices import release_freed_memory, seed_everything
from zoo.training.folder import NOT_FINITE
from zoo.training.hooks import check_callbacks
from zoo.training.job import fill, put_in
from zoo.training.losses import check_loss, plain, standardises
from zoo.training.not_finite import forget
from zoo.training.optimizers import named
from zoo.training.state import Saved
from zoo.training.time_budget import plan_time
from zoo.training.trackers import Tracking, make_trackers, run_id
from zoo.training.trainer import Trainer

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.preflight.rehearsal import Rehearsal


Alpha = Annotated[float, Field(ge=0)]
GREEDY = 5  # epochs that a greedy soup is made of at most


class Train(Step):
    """`train:` minimises a loss over the trainable parameters. `lr` is per optimizer step; `warmup` is a number of
    steps (1 or more) or a share of all steps (below 1)."""

    renamed: ClassVar = {"trunk": "feature_cache", "tensorboard": "trackers"}
    needs_data = True
    fails_safely = True

    epochs: Positive | None = None
    """Passes over the training data; this, `max_steps` or `time_budget`."""
    max_steps: Positive | None = None
    """Stop after so many optimizer steps."""
    time_budget: Duration | None = None
    """The time that this step may take with its features, measuring and saving (`10m`, `1h30m`, `45s`): as many
    optimizer steps are planned as fit, by the speed measured here, so that the schedule ends with the time. At most
    `epochs` or `max_steps` where they are given, too."""
    planned: Annotated[list[tuple[Annotated[int, Field(ge=0)], Positive]], Field(min_length=1)] | None = None
    """What a run with a time budget planned, which it writes here: pairs of an optimizer step and how many there are to
    be in all from it on. Such a plan is repeated, and no clock looked at."""
    lr: Annotated[float, Field(gt=0)] | Literal["found"] = 1e-3
    """Learning rate at its highest; `found` is what the `lr_finder` in front of the step suggests."""
    optimizer: OptimizerName = "AdamW"
    """A class of torch.optim, a name that timm gives, or a plugin's."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """The optimizer's own without it."""
    weight_decay_on: Literal["weights", "all"] = "weights"
    """What decays: neither biases and norms (every vector) nor what the model's `no_weight_decay()` names, or all."""
    optimizer_state: Literal["fresh", "carried"] = "fresh"
    """Whether the optimizer begins without moments, or with those that the train step before left of the same
    parameters."""
    scheduler: SchedulerName | None = "cosine"
    """How the learning rate falls: a schedule of zoo's, fitted to the length of the training, or a class of
    torch.optim.lr_scheduler or of timm.scheduler, or a plugin's, with its own arguments; null keeps it."""
    warmup: Annotated[float, Field(ge=0)] = 0
    """Steps over which the learning rate rises (1 or more), or their share of all steps (below 1)."""
    loss: LossName = "auto"
    """A loss of torch.nn, `focal`, `asymmetric`, or a plugin's; `auto` goes by the data's task."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each target spread over all classes."""
    mixup: Alpha | None = None
    """Mix samples and their targets in pairs, by a share drawn from Beta(this, this) for each batch (0.2 is usual); 0
    does not. Without it as `data.augmentation` says. Behind kept features of a frozen backbone, these are mixed."""
    cutmix: Alpha | None = None
    """Cut a box out of each image and put that of another in its place, targets by their areas (1.0 is usual); 0 does
    not. With both, each batch has one of them at random. Without it as `data.augmentation` says."""
    class_weights: Literal["balanced"] | dict[str, float] | None = None
    """What each class counts in the loss: `{NAME: WEIGHT, …}`, where a class without one counts 1, or `balanced`,
    n / (k * n_c) over the training part; of several labels a sample, absent over present ones."""
    sampler: Literal["balanced"] | None = None
    """`balanced` draws each epoch's samples with replacement, so that every class is equally likely; an epoch stays as
    long as without it."""
    auxiliary_loss: Annotated[float, Field(ge=0)] = 0.3
    """Weight, beside the main loss, of that of each auxiliary classifier (GoogLeNet, Inception); 0 leaves them out."""
    metrics: list[MetricName] | None = None
    """Classes of torchmetrics, or plugins' metrics, beside the loss; those of the data's task without it. `{f1: {class:
    NAME}}` is the value of one class, called `f1(class=NAME)`."""
    batch_size: Positive | Literal["auto"] | None = None
    """Goes over `data.batch_size`; `auto` is the largest power of two that fits into memory, with `lr` as it is."""
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
    unfreeze_gradually: Positive | UnfreezeGradually | None = None
    """Train the head first, and thaw the next group of layers, from the top down, after so many epochs."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a moving average of the weights, which is then what is evaluated and kept."""
    average: Literal["greedy"] | Average | None = None
    """Average the weights of several epochs, which is then what is evaluated and kept: `{last: 3}`, `{swa: 0.75}` or
    `greedy`, which is `{greedy: 5}`."""
    precision: Precision | None = None
    """Goes over the recipe's `precision`."""
    compile: bool = False
    """Run the model through torch.compile."""
    gradient_checkpointing: bool = False
    """Keep only what goes into each block of the network for the backward pass, and compute the rest again there: less
    memory for activations, about a third more time."""
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

    @property
    def rate(self) -> float:
        """`lr` as a number."""
        assert not isinstance(self.lr, str)
        return self.lr

    @property
    def samples(self) -> int | None:
        """`batch_size` where it is a number already."""
        return None if isinstance(self.batch_size, str) else self.batch_size

    def rehearsed(self) -> Self:
        """As it is checked, before a learning rate is found: with the usual one."""
        return self.model_copy(update={"lr": 1e-3}) if self.lr == "found" else self

    @classmethod
    def form(cls) -> dict[str, Any]:
        form = super().form()
        options = form["anyOf"][0]
        options["anyOf"] = [{"required": [key]} for key in LENGTHS]
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
        chosen = self.keep == "auto" and self.early_stopping is not None and self.average is None
        return self.keep not in ("auto", "last") or chosen

    @property
    def measures_exactly(self) -> bool:
        """Whether validation is measured as the finished file will be, since it chooses."""
        return self.keeps_best or self.average is not None

    @property
    def soup(self) -> Average | None:
        """`average` written out."""
        return Average(greedy=GREEDY) if self.average == "greedy" else self.average

    @property
    def patience(self) -> EarlyStopping | None:
        rule = self.early_stopping
        return EarlyStopping(patience=rule) if isinstance(rule, int) else rule

    def number_among(self, steps: Sequence[Step]) -> tuple[int, int]:
        """Which of a recipe's train steps it is, from 0, and how many there are: that decides the order of samples."""
        trains = [step.place.index for step in steps if isinstance(step, Train)]
        return trains.index(self.place.index), len(trains)

    @property
    def gradual(self) -> UnfreezeGradually | None:
        """`unfreeze_gradually` written out."""
        given = self.unfreeze_gradually
        return UnfreezeGradually(every=given) if isinstance(given, int) else given

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
        plateau = f"scheduler: {name}" if SCHEDULERS.get(name, name) in PLATEAUS else ""
        best, stop = self.chosen_by
        kept = f"keep: {{best: {best}}}" if best else "keep: best"
        stops = f"early_stopping: {stop}" if stop else "early_stopping"
        soup = "average: greedy" if self.soup and self.soup.greedy else ""
        chosen = (kept if self.keeps_best else "", soup, stops if self.early_stopping else "", plateau)
        return ", ".join(filter(None, chosen))

    @property
    def standardises(self) -> bool:
        return standardises(self.loss)

    def check_options(self, document: Document, earlier: Sequence[Step]) -> None:
        check_options(self, document, earlier, [step for step in earlier if isinstance(step, Train)])

    def check(self, rehearsal: Rehearsal) -> None:
        path, task, outputs = self.place.path, rehearsal.sample.context.task, rehearsal.sample.outputs or 2
        usual = self.rehearsed()
        rehearsal.fits(self)
        stage = rehearsal.count(self)
        if not stage.trainable:
            nothing_trains(self, rehearsal)
            return
        soft = rehearsal.verdict.data is not None and rehearsal.verdict.data.soft
        rehearsal.lint(self, self.loss, auxiliary_loss=self.auxiliary_loss > 0)
        attempts: dict[str, Callable[[], object]] = {
            "optimizer": lambda: build_schedule(usual, rehearsal),
            "unfreeze_gradually": lambda: check_thawing(self, rehearsal),
            "loss": lambda: check_loss(self.loss, task, outputs, label_smoothing=self.label_smoothing, soft=soft),
            "class_weights": lambda: check_class_weights(self, rehearsal),
            "sampler": lambda: check_sampler(self, rehearsal),
            "metrics": lambda: check_metrics(self.metrics, rehearsal),
            "callbacks": lambda: check_callbacks(self.callbacks),
            "trackers": lambda: make_trackers(self.trackers),
            **{key: functools.partial(check_choice, self, key, rehearsal) for key in ("keep", "early_stopping")},
        }
        if self.batch_size != "auto":
            check_batch(usual, rehearsal)
            check_schedule(usual, rehearsal)
        check_checkpointing(self, rehearsal)
        check_unit(self, rehearsal)
        check_thresholds(self, rehearsal)
        check_mixing(self, rehearsal, frozen=stage.frozen > 0)
        check_changing(self, rehearsal, frozen=stage.frozen > 0)
        check_average(self, rehearsal)
        check_features(self, rehearsal, frozen=stage.frozen > 0)
        rehearsal.attempt(path, attempts)

    def run(self, run: ActiveRun) -> None:
        """Trains, proves that what is frozen did not move, and keeps the record."""
        assembly, data = run.assembly, cast(OpenData, run.data)
        assembly.classes, assembly.task = data.classes, data.task
        frozen = assembly.frozen or FrozenPart()
        saved, run.saved = run.saved, None
        if saved is not None:
            fill(assembly.model.state_dict(), saved.model)  # what the feature cache is computed from
        began, since = time.monotonic(), pace.clock()
        prepared = self.prepared(run) if saved is None or saved.restarts else saved.run.get("prepared", {})
        if self.seed is not None:
            seed_everything(self.seed)
        job = make_job(run, self, frozen)
        assembly.evaluation = {"loss": plain(job.loss), "metrics": self.measured(data.task)}
        release_freed_memory(run.device)
        preparation = time.monotonic() - began
        trainer = Trainer(job, run.state, _listener(run, self, resumed=saved is not None))
        try:
            self._run(run, trainer, saved, preparation, prepared, since)
        finally:
            trainer.gradual.leave()

    def _run(
        self,
        run: ActiveRun,
        trainer: Trainer,
        saved: Saved | None,
        preparation: float,
        prepared: dict[str, Any],
        since: float,
    ) -> None:
        model = run.assembly.model
        began = hashes(model, trainer.gradual.frozen) if saved is None or saved.restarts else saved.run["frozen"]
        trainer.gradual.before = began
        if PartialState().is_main_process:
            forget(run.folder / NOT_FINITE)
        if saved is not None:
            trainer.restore(saved)
        if run.trial is not None:
            run.trial.time(trainer)
        else:
            plan_time(trainer, run.share_of(self), since)
        if saved is None or saved.restarts:
            trainer.begin(self.place.index, {**run.memory(), "frozen": began, "prepared": prepared})
            if trainer.progress.carried:
                run.listener.note(f"{trainer.job.label}: {trainer.progress.carried} tensors go on with their moments")
        try:
            progress = trainer.run()
            ended = time.monotonic()
            concluded = self.concluded(run, trainer, prepared)
            preparation += time.monotonic() - ended
        except (KeyboardInterrupt, Exception) as error:
            rewind(run, self, trainer, preparation, error, prepared)
            raise
        proof = prove(trainer.gradual.still_frozen, hashes(model, trainer.gradual.frozen))
        if not proof.holds:
            run.trained = False  # a model that is not what the recipe says is no result
            raise WorkError(f"{len(proof.moved)} frozen tensors changed in training: {listed(proof.moved)}")
        run.trained |= progress.epoch > 0
        run.moments = moments_for_next(run, self, trainer)
        if trainer.last is not None and PartialState().is_main_process:
            with put_in(trainer.unfrozen, trainer.last):  # without metrics: those of the loop are not quite this file's
                save_checkpoint(run.assembly, run.folder / LAST)
        record_train(run, self, trainer, preparation, proof.as_dict(), prepared | concluded)

    def prepared(self, run: ActiveRun) -> dict[str, Any]:
        """What a step that builds on this one does before it trains; plain data, which a resumed run finds again, for
        its record in the report."""
        return {}

    def undone(self, run: ActiveRun) -> None:
        """What such a step takes back of `prepared` where training ended before its first epoch did."""

    def concluded(self, run: ActiveRun, trainer: Trainer, prepared: Mapping[str, Any]) -> dict[str, Any]:
        """What such a step does with the trained weights; plain data, which goes over the record's own."""
        return {}

    @classmethod
    def row(cls, record: dict[str, Any]) -> dict[str, str]:
        epochs = record["epochs"]
        kept = f" (kept {record['kept_epoch']})" if record["kept_epoch"] != len(epochs) else ""
        if soup := record.get("average"):
            kept = f" (average of {', '.join(str(row['epoch']) for row in soup['members'] if row['weight'])})"
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


def _listener(run: ActiveRun, step: Train, *, resumed: bool) -> Listener:
    if not step.trackers or not PartialState().is_main_process:
        return run.listener
    told = TrackedRun(
        run.recipe.name, run_id(run.folder), run.folder, run.recipe.resolved, run.optimizer_steps, resumed
    )
    return Listeners(Tracking(make_trackers(step.trackers), told, run.listener), run.listener)
