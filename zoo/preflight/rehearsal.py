"""The steps of a recipe taken on `meta`, one after the other, and what all of them need for that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from zoo.errors import InputError, Problem, ZooError, listed
from zoo.lint import find_traps
from zoo.model.assembly import Assembly
from zoo.model.heads import heads_if_any
from zoo.model.load_into import target_of
from zoo.model.shapes import DryRun, UndecidedError, dry_run
from zoo.preflight.data import Sample
from zoo.preflight.verdict import Stage, Verdict, changes, modules_of, placed
from zoo.preflight.weights import look_at_load, needs_classes
from zoo.recipe import Recipe, Step
from zoo.recipe.document import Path
from zoo.recipe.options import Named
from zoo.recipe.step import explained
from zoo.steps.load import Load


class Rehearsal:
    """A model on `meta`, a sample of the data in shapes alone, and the verdict that the steps add to.

    `assembly` is the model as the steps so far leave it; `sample` says what the data asks of it.
    """

    def __init__(self, recipe: Recipe, verdict: Verdict, assembly: Assembly, sample: Sample) -> None:
        self.recipe, self.verdict, self.assembly, self.sample = recipe, verdict, assembly, sample
        assembly.task = sample.context.task
        assembly.preprocessing = sample.context.preprocessing
        self._misfit = False  # a surgery failed, so that what follows is not the model that was meant
        self._structure = 0  # counts the changes of it
        self._runs: dict[int, DryRun | None] = {}  # by structure
        self._made: dict[str, Path] = {}  # the step that made a module, by the module's path
        self._before = modules_of(assembly.model)

    def run(self) -> None:
        """Take all steps. A step that fails does not keep the next ones from being looked at."""
        for step in self.recipe.steps:
            try:
                with explained(step):
                    step.check(self)
            except ZooError as error:
                self.note(step.place.path, error)
        self._conclude()

    @contextlib.contextmanager
    def restructured(self, step: Step) -> Iterator[None]:
        """Around what changes which modules the model consists of: shapes are looked at anew, and what is wrong with a
        new module is placed at this step."""
        before = modules_of(self.assembly.model)
        try:
            yield
        except BaseException:
            self._misfit = True
            raise
        self._structure += 1
        for change in changes(before, modules_of(self.assembly.model)):
            self._made[change.path] = step.place.path

    def note(self, path: Path, error: ZooError, *, about: str = "") -> None:
        """Add mistakes, each placed at the value below `path` that it quotes, else at the key `about` there."""
        self.verdict.errors += placed(self.recipe, path, error, about=about)

    def warn(self, path: Path, error: ZooError, *, about: str = "") -> None:
        """Add warnings, placed as by `note`; what an earlier step has said already is left out."""
        for problem in placed(self.recipe, path, error, about=about):
            self._once(problem)

    def say(self, text: str) -> None:
        """Add a remark on what a step will do, for the person."""
        if text not in self.verdict.notes:
            self.verdict.notes.append(text)

    def attempt(self, path: Path, attempts: dict[str, Callable[[], object]]) -> None:
        """Make each attempt; what fails is placed at the value it quotes, or at the key of the attempt."""
        for about, attempt in attempts.items():
            try:
                attempt()
            except ZooError as error:
                self.note(path, error, about=about)

    def plan_load(self, step: Load) -> None:
        """Plan a load into the model as it is now."""
        target = target_of(self.assembly.model, classes=self.sample.context.classes)
        look_at_load(self.recipe, self.verdict, step, target)
        self._check_rows(step)

    def _check_rows(self, step: Load) -> None:
        """Warn of a head that is filled by the numbers of its rows, and stays, where the file's classes are others than
        those of the data."""
        found, mine = self.verdict.loads.get(step.place.index), tuple(self.sample.context.classes or ())
        its = tuple(found.weights.classes or ()) if found is not None else ()
        if found is None or found.planned is None or not its or not mine or its == mine:
            return
        later = self.recipe.steps[step.place.index + 1 :]
        if needs_classes(found.weights, step.remap) or any(each.place.action == "swap_head" for each in later):
            return
        heads = tuple(f"{path}." for path in heads_if_any(self.assembly.model))
        if any(move.target.startswith(heads) for move in found.planned.plan.moves):
            message = f"load: the file's head gives scores for {listed(its)}, and the data has {listed(mine)}"
            hint = "model: {checkpoint: FILE} with swap_head: {reuse: by_label} takes its rows by their names"
            told = InputError(f"{message}: its rows are taken by their numbers", suggestion=hint)
            self.warn(step.place.path, told, about="weights")

    def count(self, step: Step) -> Stage:
        """Note how much of the model trains when this step begins; from then on it gives scores for the data's
        classes."""
        self.assembly.classes = self.sample.context.classes
        parameters = list(self.assembly.model.parameters())
        trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
        total = sum(parameter.numel() for parameter in parameters)
        self.verdict.stages.append(Stage(step.place.action, step.place.location, trainable, total - trainable))
        return self.verdict.stages[-1]

    def fits(self, step: Step) -> None:
        """Note an output that is not as wide as the data asks for, once a structure."""
        path, first = step.place.path, self._structure not in self._runs
        run = self.shapes(path)
        if run is None or not first or self._misfit:
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

    def lint(self, step: Step, loss: Named, *, auxiliary_loss: bool = True) -> None:
        """Note what would train for nothing with this loss: modules that nothing calls, parameters that get no
        gradient, and so on."""
        path = step.place.path
        run = self.shapes(path)
        for module in run.uncalled if run else ():
            said = f"{module} is never called by the model's forward: it is dead weight"
            hint = "remove it, or let add_module wire it (wire: true)"
            self._once(Problem(said, self.recipe.document.key(self._made.get(module, path)), hint))
        for trap in find_traps(self.assembly, self.sample.input_shape, loss, auxiliary_loss=auxiliary_loss):
            made = next((step for module, step in self._made.items() if _speaks_of(trap.where, module)), path)
            place = (*path, "loss") if trap.kind == "activation" and made == path else made
            problem = trap.problem(self.recipe.document.key(place))
            if trap.fatal:
                self.verdict.errors.append(problem)
            else:
                self._once(problem)

    def _once(self, warning: Problem) -> None:
        """Add a warning that no earlier step has given."""
        if all(warning.message != known.message for known in self.verdict.warnings):
            self.verdict.warnings.append(warning)

    def shapes(self, path: Path) -> DryRun | None:
        """A pass through the model as it is now; None, and a note, when it cannot be made."""
        key = self._structure
        if key not in self._runs:
            self._runs[key] = None
            try:
                self._runs[key] = dry_run(self.assembly.model, self.sample.input_shape)
            except UndecidedError as error:
                self.verdict.warnings += placed(self.recipe, path, error)
            except ZooError as error:
                if not self.verdict.unfit:
                    self.note(self._culprit(str(error), path), error)
        return self._runs[key]

    def _culprit(self, message: str, path: Path) -> Path:
        """Where the reason for a failed pass is likely written: the step that made the module it names."""
        named = [step for module, step in self._made.items() if module and f"in {module}" in message]
        size: Path = ("data", "image_size")
        return named[0] if named else size if self.recipe.document.get(size) else path

    def _conclude(self) -> None:
        """What the finished model looks like, and the modules in it that nothing calls."""
        self.verdict.input_shape = self.sample.input_shape
        self.verdict.changes = changes(self._before, modules_of(self.assembly.model))
        if not self.verdict.stages and not self._misfit:  # nothing was trained, and yet it is saved
            with contextlib.suppress(InputError):  # what it returns matters to training alone
                for trap in find_traps(self.assembly, self.sample.input_shape):
                    if trap.kind in ("hidden_state", "unregistered"):
                        self._once(trap.problem(self.recipe.document.value(("model", "architecture"))))
        run = None if self._misfit else self.shapes(("model", "architecture"))
        if run is None:
            return
        self.verdict.uncalled = tuple(run.uncalled)
        with contextlib.suppress(InputError):
            self.verdict.output_shape = run.output_shape


def _speaks_of(names: tuple[str, ...], module: str) -> bool:
    """Whether one of the names is the module at a path or something inside it."""
    return bool(module) and any(f"{name}.".startswith(f"{module}.") for name in names)
