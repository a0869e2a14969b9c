"""The steps of a recipe taken on `meta`, one after the other: structure, shapes and what would train at each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import cast

from zoo import registry
from zoo.errors import InputError, Problem, ZooError
from zoo.lint import find_traps
from zoo.model.assembly import Assembly
from zoo.model.freezing import freeze
from zoo.model.heads import find_head
from zoo.model.initializers import initialize
from zoo.model.operations import operate
from zoo.model.shapes import DryRun, UndecidedError, dry_run
from zoo.preflight.data import Sample
from zoo.preflight.verdict import Stage, Verdict, changes, modules_of, placed
from zoo.preflight.weights import look_at_load
from zoo.recipe import Recipe, Step
from zoo.recipe.document import Path
from zoo.recipe.options import Evaluate, Init, Load, Look, Train
from zoo.training.losses import make_loss
from zoo.training.metrics import make_metrics
from zoo.training.optimizers import make_optimizer
from zoo.training.schedulers import Schedule
from zoo.training.tensorboard import require_tensorboard


class Rehearsal:
    """Takes each step on the assembly and notes in the verdict what is wrong with it."""

    def __init__(self, recipe: Recipe, verdict: Verdict, assembly: Assembly, sample: Sample) -> None:
        self.recipe, self.verdict, self.assembly, self.sample = recipe, verdict, assembly, sample
        assembly.classes, assembly.task = sample.context.classes, sample.context.task
        assembly.preprocessing = sample.context.preprocessing
        self.misfit = False  # a surgery failed, so that what follows is not the model that was meant
        self.runs: dict[int, DryRun | None] = {}  # by the number of operations so far
        self.index = 0  # of the step being taken
        self.made: dict[str, Path] = {}  # the step that made a module, by the module's path
        self.before = modules_of(assembly.model)

    def run(self) -> None:
        """Take all steps. A step that fails does not keep the next ones from being looked at."""
        takes: dict[str, Callable[[Step, Path], None]] = {
            "surgery": self._operate,
            "freeze": self._freeze,
            "init": self._initialize,
            "load": self._load,
            "train": self._train,
            "probe": self._probe,
            "evaluate": self._evaluate,
            "look": self._look,
        }
        for step in self.recipe.steps:
            self.index = step.index
            path: Path = ("steps", step.index, step.action)
            try:
                if step.kind in takes:
                    takes[step.kind](step, path)
            except ZooError as error:
                self.verdict.errors += placed(self.recipe, path, error)
                self.misfit = self.misfit or step.kind == "surgery"
        self._conclude()

    def _operate(self, step: Step, path: Path) -> None:
        before = modules_of(self.assembly.model)
        operate(self.assembly, cast(str, step.component), step.arguments, self.sample.context)
        for change in changes(before, modules_of(self.assembly.model)):
            self.made[change.path] = path

    def _freeze(self, step: Step, path: Path) -> None:
        policy = registry.load(cast(str, step.component), "freezing")
        try:
            names = list(policy(self.assembly.model, **step.arguments))
        except ZooError:
            raise
        except Exception as error:  # a plugin's policy may fail in any way
            raise InputError(f"{step.component} failed: {type(error).__name__}: {error}") from error
        self.assembly.frozen = freeze(self.assembly.model, names)

    def _initialize(self, step: Step, path: Path) -> None:
        initialize(self.assembly.model, cast(Init, step.options))

    def _load(self, step: Step, path: Path) -> None:
        look_at_load(self.recipe, self.verdict, path, self.assembly.model, cast(Load, step.options))

    def _train(self, step: Step, path: Path) -> None:
        options = cast(Train, step.options)
        self._fits(path)
        if not self._count(step).trainable:
            self._nothing_trains(path)
            return
        self._warn(path, options)
        task, outputs = self.sample.context.task, self.sample.outputs or 2
        attempts: dict[str, Callable[[], object]] = {
            "optimizer": lambda: self._schedule(options),
            "loss": lambda: make_loss(options.loss, task, label_smoothing=options.label_smoothing),
            "metrics": lambda: make_metrics(options.metrics, task, outputs),
        }
        if options.tensorboard:
            attempts["tensorboard"] = require_tensorboard
        self._attempt(path, attempts)

    def _attempt(self, path: Path, attempts: dict[str, Callable[[], object]]) -> None:
        """Make each attempt; what fails is placed at the value it quotes, or at the key of the attempt."""
        for about, attempt in attempts.items():
            try:
                attempt()
            except ZooError as error:
                self.verdict.errors += placed(self.recipe, path, error, about=about)

    def _schedule(self, options: Train) -> None:
        """Build optimizer and schedule as training would; how long it would be does not matter to what fails."""
        optimizer = make_optimizer(self.assembly.model, options)
        try:
            Schedule(optimizer, options, steps=100, epochs=10, higher_is_better=True)
        except ZooError as error:
            path: Path = ("steps", self.index, "train")
            self.verdict.errors += placed(self.recipe, path, error, about="scheduler")

    def _probe(self, step: Step, path: Path) -> None:
        find_head(self.assembly.model)
        self._count(step)
        self._fits(path)

    def _evaluate(self, step: Step, path: Path) -> None:
        options = cast(Evaluate, step.options)
        if options.data is None:
            self._fits(path)
        else:
            from zoo.training.evaluate import other_data

            try:
                other_data(options.data, self.assembly, self.recipe.seed)
            except ZooError as error:
                self.verdict.errors += placed(self.recipe, (*path, "data"), error)
        make_metrics(options.metrics, self.assembly.task, self.sample.outputs or 2)

    def _look(self, step: Step, path: Path) -> None:
        options = cast(Look, step.options)
        self._attempt(path, {"": require_tensorboard, "modules": lambda: self._find(options.modules, path)})

    def _find(self, modules: str | list[str], path: Path) -> None:
        """Warn of modules to look at that forward never calls. Raises InputError for those that are not there."""
        from zoo.steps.look import module_names

        names, run = module_names(self.assembly.model, modules), self._shapes(path)
        for written in [written for written, name in names.items() if run and name not in run.shapes]:
            message = f"look: {written} is never called by the model's forward: there is nothing to draw"
            self._once(placed(self.recipe, path, InputError(message), about="modules")[0])

    def _nothing_trains(self, path: Path) -> None:
        places = [step.location.within for step in self.recipe.steps[: self.index] if step.kind == "freeze"]
        by = f": the freeze step in {places[-1]} leaves nothing" if places else ""
        hint = "freeze less, for instance freeze: all_but_head, or put what shall train behind the freeze step"
        if next(self.assembly.model.parameters(), None) is None:
            by, hint = ": the model has no parameters", "remove the step"
        location = self.recipe.document.key(path)
        self.verdict.errors.append(Problem(f"train: there is nothing to train{by}", location, hint))

    def _count(self, step: Step) -> Stage:
        parameters = list(self.assembly.model.parameters())
        trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        total = sum(parameter.numel() for parameter in parameters)
        self.verdict.stages.append(Stage(step.action, step.location, trainable, total - trainable))
        return self.verdict.stages[-1]

    def _fits(self, path: Path) -> None:
        """Note an output that is not as wide as the data asks for, once a structure."""
        first = len(self.assembly.operations) not in self.runs
        run = self._shapes(path)
        if run is None or not first or self.misfit:
            return
        wanted, columns = self.sample.outputs, run.output_shape[1:]
        if wanted is None or columns == (wanted,) or (wanted == 1 and columns == ()):
            return
        gives = " x ".join(str(size) for size in columns) or "one"
        what = "classes" if self.sample.context.task != "regression" else "values a target"
        message = f"{path[-1]}: the model gives {gives} outputs, the data has {wanted} {what}"
        hint = "put swap_head: auto in front"
        if len(columns) != 1:
            hint = "let the network end in [b, k], for instance by pooling"
        elif run.uncalled:
            hint = f"{run.uncalled[0]} is never called: wire it"
        self.verdict.errors.append(Problem(message, self.recipe.document.key(path), hint))

    def _warn(self, path: Path, options: Train) -> None:
        """Note what would train for nothing: modules that nothing calls, parameters that get no gradient, and so on."""
        run = self._shapes(path)
        for module in run.uncalled if run else ():
            said = f"{module} is never called by the model's forward: it is dead weight"
            hint = "remove it, or let add_module wire it (wire: true)"
            self._once(Problem(said, self.recipe.document.key(self.made.get(module, path)), hint))
        for trap in find_traps(self.assembly, self.sample.input_shape, options.loss):
            made = next((step for module, step in self.made.items() if _speaks_of(trap.where, module)), path)
            place = (*path, "loss") if trap.kind == "end" and made == path else made
            problem = trap.problem(self.recipe.document.key(place))
            if trap.fatal:
                self.verdict.errors.append(problem)
            else:
                self._once(problem)

    def _once(self, warning: Problem) -> None:
        """Add a warning that no earlier step has given."""
        if all(warning.message != known.message for known in self.verdict.warnings):
            self.verdict.warnings.append(warning)

    def _shapes(self, path: Path) -> DryRun | None:
        """A pass through the model as it is now; None, and a note, when it cannot be made."""
        key = len(self.assembly.operations)
        if key not in self.runs:
            self.runs[key] = None
            try:
                self.runs[key] = dry_run(self.assembly.model, self.sample.input_shape)
            except UndecidedError as error:
                self.verdict.warnings += placed(self.recipe, path, error)
            except ZooError as error:
                self.verdict.errors += placed(self.recipe, self._culprit(str(error), path), error)
        return self.runs[key]

    def _culprit(self, message: str, path: Path) -> Path:
        """Where the reason for a failed pass is likely written: the step that made the module it names."""
        named = [step for module, step in self.made.items() if module and f"in {module}" in message]
        size: Path = ("data", "image_size")
        return named[0] if named else size if self.recipe.document.get(size) else path

    def _conclude(self) -> None:
        """What the finished model looks like, and the modules in it that nothing calls."""
        self.verdict.input_shape = self.sample.input_shape
        self.verdict.changes = changes(self.before, modules_of(self.assembly.model))
        if not self.verdict.stages and not self.misfit:  # nothing was trained, and yet it is saved
            with contextlib.suppress(InputError):  # what it returns matters to training alone
                for trap in find_traps(self.assembly, self.sample.input_shape):
                    if trap.kind in ("hidden_state", "unregistered"):
                        self._once(trap.problem(self.recipe.document.value(("model", "architecture"))))
        run = None if self.misfit else self._shapes(("model", "architecture"))
        if run is None:
            return
        self.verdict.uncalled = tuple(run.uncalled)
        with contextlib.suppress(InputError):
            self.verdict.output_shape = run.output_shape


def _speaks_of(names: tuple[str, ...], module: str) -> bool:
    """Whether one of the names is the module at a path or something inside it."""
    return bool(module) and any(f"{name}.".startswith(f"{module}.") for name in names)
