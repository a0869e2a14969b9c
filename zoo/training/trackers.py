"""Where the numbers of a run go beside its folder: the trackers of a recipe, and those that Accelerate knows.

A tracker cannot harm a run: what fails in it is said once, and it is left alone from then on. All train steps of a
recipe share one axis, the optimizer steps since the run began.

Weights & Biases, MLflow and Aim are zoo's own components. Their servers and accounts are the user's: they come from
these libraries' environment variables (`WANDB_MODE`, `MLFLOW_TRACKING_URI`), never from a recipe, which may be a
stranger's. Without them everything stays in the run's folder, but for Weights & Biases, which asks for its account.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zoo.contracts import TrackedRun, Tracker
from zoo.errors import InputError
from zoo.isolation import PluginError, guarded
from zoo.recipe.document import walk
from zoo.recipe.options import Named
from zoo.registry import Component
from zoo.training.callbacks import Listener
from zoo.training.components import make, source_of

if TYPE_CHECKING:
    from zoo.training.trainer import Trainer


class Tracking(Listener):
    """The trackers of a train step as one listener. `note` is told, once for each, which of them failed."""

    def __init__(self, trackers: Sequence[tuple[Component, Tracker]], run: TrackedRun, listener: Listener) -> None:
        self.trackers, self.run, self.listener = list(trackers), run, listener

    def step_started(self, trainer: Trainer) -> None:
        self.first = self.run.step
        run = TrackedRun(**{**vars(self.run), "step": self.first + trainer.progress.steps})
        self._each("start", run)

    def progressed(self, trainer: Trainer, loss: float) -> None:
        self._each("log", {"train/running_loss": loss}, self.first + trainer.progress.steps)

    def epoch_ended(self, trainer: Trainer, record: dict[str, Any]) -> None:
        values = {f"train/{name}": record[name] for name in ("loss", "lr", "images_per_second")}
        values |= {f"validation/{name}": value for name, value in record["validation"].items()}
        self._each("log", values, self.first + record["steps"])

    def step_ended(self, trainer: Trainer) -> None:
        self._each("finish")

    def _each(self, method: str, *values: Any) -> None:
        for component, tracker in list(self.trackers):
            try:
                guarded(functools.partial(getattr(tracker, method), *values))
            except PluginError as failure:
                self.trackers.remove((component, tracker))
                where = "" if method == "finish" else "; training goes on without it"
                self.listener.note(f"warning: {source_of(component)} failed in {method}: {failure}{where}")
                if method == "log":
                    with suppress(PluginError):
                        guarded(tracker.finish)


def make_trackers(values: Sequence[Named]) -> list[tuple[Component, Tracker]]:
    """The trackers called `values`. Raises InputError where one cannot be used here."""
    return [make("trackers", value, Tracker) for value in values]


def run_id(folder: Path) -> str:
    """Letters and digits by which a tracker knows the run in a folder again."""
    return hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]


def require(package: str, extra: str) -> None:
    """Raises InputError where a package is missing, with the extra of zoo's that has it."""
    if importlib.util.find_spec(package) is None:
        raise InputError(f"the package {package} is missing", suggestion=f'pip install "zoo-kit[{extra}]"')


def flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's values by dotted keys, as trackers show them."""
    plain = {".".join(map(str, path)): value for path, value in walk(recipe)}
    return {key: value for key, value in plain.items() if isinstance(value, str | int | float | bool)}


class _Accelerated(Tracker):
    """A tracker of Accelerate's: made in `start`, by `_begin`."""

    describes = True  # whether the recipe is written down when it starts
    _inner: Any = None

    def _begin(self, run: TrackedRun) -> Any:
        raise NotImplementedError

    def start(self, run: TrackedRun) -> None:
        self._inner = self._begin(run)
        self._inner.start()
        if self.describes:
            self._inner.store_init_configuration(flat(run.recipe))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._inner.log(dict(values), step=step)

    def finish(self) -> None:
        inner, self._inner = self._inner, None
        if inner is not None:
            inner.finish()


class WeightsAndBiases(_Accelerated):
    """Weights & Biases: the run's curves and its recipe, in the account that this machine is logged in to.

    `mode: offline` keeps them in `wandb/` in the run's folder, for `wandb sync`; WANDB_MODE goes before it.
    """

    files = ("wandb",)

    def __init__(self, *, project: str = "zoo", mode: Literal["online", "offline"] = "online") -> None:
        require("wandb", "wandb")
        self.project, self.mode = project, os.environ.get("WANDB_MODE", mode)

    def _begin(self, run: TrackedRun) -> Any:
        from accelerate.tracking import WandBTracker

        again: Any = {"id": run.id, "resume": "allow", "mode": self.mode}
        return WandBTracker(self.project, name=run.name, dir=str(run.folder), **again)


class MLflow(_Accelerated):
    """MLflow: the run's curves and its recipe, in the store that MLFLOW_TRACKING_URI names, else in files in `mlflow/`
    in the run's folder (`mlflow ui --backend-store-uri` shows them)."""

    files = ("mlflow",)

    def __init__(self, *, experiment: str = "zoo") -> None:
        require("mlflow", "mlflow")
        self.experiment = experiment

    def start(self, run: TrackedRun) -> None:
        import mlflow

        if not os.environ.get("MLFLOW_TRACKING_URI"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # asked for whenever the store is opened
            mlflow.set_tracking_uri((run.folder / "mlflow").resolve().as_uri())
        super().start(run)

    def _begin(self, run: TrackedRun) -> Any:
        from accelerate.tracking import MLflowTracker

        known = self._known(run)
        self.describes = known is None  # MLflow refuses other values for a run that goes on
        return MLflowTracker(self.experiment, run_id=known, tags={"zoo.id": run.id}, run_name=run.name)

    def _known(self, run: TrackedRun) -> str | None:
        """The run of an earlier train step, or of an interrupted one, by its tag."""
        import mlflow

        experiment = mlflow.get_experiment_by_name(self.experiment)
        if experiment is None:
            return None
        asked = f"tags.`zoo.id` = '{run.id}'"
        found: list[Any] = mlflow.search_runs([experiment.experiment_id], asked, output_format="list")
        return found[0].info.run_id if found else None


class Aim(_Accelerated):
    """Aim: the run's curves and its recipe, in `aim/` in the run's folder (`aim up --repo` shows it)."""

    files = ("aim",)

    def __init__(self, *, experiment: str = "zoo") -> None:
        require("aim", "aim")
        self.experiment = experiment

    def _begin(self, run: TrackedRun) -> Any:
        from accelerate.tracking import AimTracker

        (run.folder / "aim").mkdir(exist_ok=True)
        return AimTracker(run.name, logging_dir=str(run.folder / "aim"), experiment=self.experiment)
