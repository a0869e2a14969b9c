"""What a step of a recipe is: a class whose fields are its options, with what it checks, does and reports.

A step's class stands in a file of its own (zoo's in zoo/steps/) and is named by an entry point of the group
`zoo.steps`; whatever a recipe, `zoo check`, a run or its report has to know of the step it asks the class.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeGuard, get_type_hints

from pydantic import PrivateAttr

from zoo import registry
from zoo.errors import Location, WorkError, ZooError, is_out_of_memory
from zoo.expressions import Expression
from zoo.isolation import failure_of
from zoo.recipe import option_names, references
from zoo.recipe.document import Document, Path, label
from zoo.recipe.option_names import check_argument_names, check_option_names, expand_lone_values
from zoo.recipe.options import Options
from zoo.recipe.signature import Parameter, json_schema, model_of, with_shorthand
from zoo.recipe.validate import shown as shown_value
from zoo.recipe.validate import validate

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.preflight.rehearsal import Rehearsal


@dataclass(frozen=True)
class Place:
    """Where a step stands: `action` is the word that was written, `name` what the step is called in reports (a
    plugin's step in full), `index` counts from 0. Steps are equal wherever they stand."""

    action: str = field(default="", compare=False)
    name: str = field(default="", compare=False)
    index: int = field(default=-1, compare=False)
    location: Location = field(default=Location("", 0, 0), compare=False)

    @property
    def path(self) -> Path:
        """Where the step's options are in the document."""
        return ("steps", self.index, self.action)


class Step(Options):
    """Base of every step. A subclass's fields are its options: their types are checked, a field's docstring is its
    documentation, the first field is the one that a lone value stands for.

    An object is one step of a recipe, `place` says which. Of the methods `run` has to be there; no option may be called
    as one of them.
    """

    needs_data: ClassVar[bool] = False
    """Whether a recipe with this step has to have a data section."""
    replayed: ClassVar[bool] = False
    """Whether a resumed run does it again; otherwise what it did is taken from the saved state."""
    fails_safely: ClassVar[bool] = False
    """Whether the model is sound after the step has failed, so that a checkpoint may be made of it."""

    _place: Place = PrivateAttr(default_factory=Place)
    _named: dict[str, Any] = PrivateAttr(default_factory=dict)

    @classmethod
    def __pydantic_init_subclass__(cls, **arguments: Any) -> None:
        super().__pydantic_init_subclass__(**arguments)
        if taken := sorted(cls.model_fields.keys() & {name for base in cls.__mro__[1:] for name in vars(base)}):
            raise TypeError(f"no option of a step may be called {', '.join(taken)}")

    @property
    def chooses(self) -> str:
        """What the validation data decides in this step, as the recipe says it; empty where it decides nothing."""
        return ""

    @property
    def standardises(self) -> bool:
        """Whether it can work in standard deviations of a regression's targets, as new heads then do."""
        return True

    @property
    def place(self) -> Place:
        return self._place

    def at(self, place: Place) -> Self:
        """The same step, at a place of a recipe."""
        placed = self.model_copy()
        placed._place = place
        return placed

    def in_full(self, found: list[registry.Component]) -> Self:
        """The same step with plugins' components named in full; each is added to `found`."""
        kinds = get_type_hints(type(self), include_extras=True)
        values = {key: getattr(self, key) for key in type(self).model_fields}
        named = {key: option_names.in_full(kinds[key], value, found) for key, value in values.items()}
        changed = {key: value for key, value in named.items() if value != values[key]}
        step = self.model_copy(update=changed)
        step._named = changed
        return step

    @property
    def named(self) -> Mapping[str, Any]:
        """The options that `in_full` changed."""
        return self._named

    @property
    def files(self) -> frozenset[str]:
        """The names of the files and folders that it writes into the run's folder."""
        return frozenset()

    @classmethod
    def read(cls, document: Document, path: Path) -> Self | None:
        """The step that is written at `path`, or None; mistakes in its options are added to the document."""
        if isinstance(document.get(path), dict):
            expand_lone_values(document, path, cls)
        step = validate(document, path, cls)
        if isinstance(document.get(path), dict):
            check_option_names(document, path, cls)
        return step

    def check_options(self, document: Document, earlier: Sequence[Step]) -> None:
        """Add to the document what is wrong with the options, each of them sound, beside one another, beside the rest
        of the recipe and beside the sound steps in front of this one."""

    def check(self, rehearsal: Rehearsal) -> None:
        """Take the step on a model without memory (`meta`), as `zoo check` and every run do before anything heavy
        starts. Raises ZooError for a mistake; further ones and warnings are the rehearsal's to note."""

    def run(self, run: ActiveRun) -> None:
        """Do it. Raises ZooError for what does not work out."""
        raise NotImplementedError

    @classmethod
    def row(cls, record: dict[str, Any]) -> dict[str, str]:
        """The cells of the summary's table (`zoo.finetuning.report.COLUMNS`) that a record of this step fills."""
        cells = {"step": str(record["step"]), "action": record["action"]}
        if record.get("metrics"):
            measured = record["metrics"].items()
            about = "~ " if record.get("measured_with") else ""  # not exactly as the finished model is measured
            cells["metrics"] = about + " ".join(f"{name} {shown(value)}" for name, value in measured if name != "loss")
        if "seconds" in record:
            cells["seconds"] = f"{record['seconds']:.1f}"
        return cells

    @classmethod
    def first_option(cls) -> str | None:
        """The option that a lone value stands for."""
        return next(iter(cls.model_fields), None)

    @classmethod
    def form(cls) -> dict[str, Any]:
        """The JSON Schema of what may stand behind the step's name."""
        return with_shorthand(json_schema(cls), cls.first_option())


def shown(value: float | None) -> str:
    """A measured number in a table or a line: four decimals; "undefined" for what the samples do not define."""
    return "undefined" if value is None or not math.isfinite(value) else f"{value:.4f}"


def is_step(loaded: Any) -> TypeGuard[type[Step]]:
    """Whether a loaded component keeps the contract of steps."""
    return isinstance(loaded, type) and issubclass(loaded, Step)


@contextlib.contextmanager
def explained(step: Step) -> Iterator[None]:
    """What a plugin's step raises, which may be anything, becomes a WorkError that names the step."""
    try:
        yield
    except (ZooError, OSError, MemoryError):
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        package = type(step).__module__.partition(".")[0]
        if package == "zoo" or is_out_of_memory(error):
            raise
        raise WorkError(f"{step.place.name} failed: {failure_of(error, package)}") from error


def require_data(document: Document, place: Place) -> None:
    """Note that the step at `place` needs data where the recipe has none."""
    if document.get(("data",)) is None:
        message = f"{place.action} needs data, and the recipe has no data section"
        document.add(place.path, message, "add data: {source: …}; see: zoo list --kind datasets", at_key=True)


def check_arguments(
    document: Document, path: Path, component: registry.Component | None, arguments: Any, *, kind: str
) -> dict[str, Parameter] | None:
    """Check arguments against a component's signature; its parameters when all of them fit."""
    loaded = references.load(document, path, component, at_key=True) if component else None
    if loaded is None:
        return None
    known = references.parameters_of(loaded, kind)
    if not isinstance(arguments, dict):
        document.add(path, f"{label(path)}: expected a mapping, got {shown_value(arguments)}", _first(known, arguments))
        return None
    model = model_of(known, extra="allow" if references.accepts_anything(loaded) else "forbid")
    sound = validate(document, path, model, arguments)
    check_argument_names(document, path, known)
    return known if sound else None


def _first(known: dict[str, Parameter], arguments: Any) -> str | None:
    given = "…" if isinstance(arguments, list) else shown_value(arguments)
    return f"write {{{next(iter(known))}: {given}}}" if known else None


def check_expression(document: Document, path: Path, expression: str, *, at_key: bool = False) -> None:
    """Note a regular expression that is none, or that could take for ever."""
    try:
        Expression(expression)
    except ValueError as error:
        document.add(path, f"{label(path[:4])}: {error}", at_key=at_key)
