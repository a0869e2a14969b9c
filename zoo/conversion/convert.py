"""`zoo.convert`: weights to other names, shapes, dtypes or files, in five steps.

Open the source, choose the rules, make the plan, compare the networks at both ends (`verify`), write. A plan that falls
short is not carried out. torch is imported where an architecture is named, and not otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from zoo import registry
from zoo.conversion.destination import check_format, check_free, is_conversion
from zoo.conversion.header import describe, is_relaid, metadata
from zoo.conversion.stream import write
from zoo.errors import InputError, Problem, WorkError, ZooError, nearest
from zoo.formats import Source, open_source
from zoo.formats.files import atomic_file, write_all
from zoo.isolation import to_undo
from zoo.remap import remaps
from zoo.remap.advice import advise
from zoo.remap.explain import render
from zoo.remap.plan import MIN_COVERAGE, Plan, Target, check_equal
from zoo.remap.remaps import ChosenRules, Remap, items, plan_rules, read_rules, split_at_auto
from zoo.remap.rules import Rule, check_inverse, dump_rules, parse_rules, run
from zoo.remap.rules import invert as invert_rules
from zoo.remap.rules.base import AUTO

if TYPE_CHECKING:
    from zoo.model.assembly import Assembly


@dataclass
class Conversion:
    """The outcome of `zoo.convert`: the plan, the rules, what comparing the networks found, and what was written.

    Attributes:
        source, kind: the address that was given, and what the file there is, in words.
        destination: the file, or None.
        plan: what of the source goes where (see `zoo.remap.plan.Plan`).
        rules: those the plan was made with: given, installed or found by `auto`, and those that strip wrappers.
        notes: what was decided on the way, for people.
        problems: why nothing was written; empty where the plan was good enough.
        verification: what comparing both networks found (`equal`, `message`, errors); None without `verify`.
        written: bytes and tensors of the file; empty where nothing was written.
    """

    source: str
    kind: str
    destination: str | None
    plan: Plan
    rules: tuple[Rule, ...]
    notes: tuple[str, ...]
    problems: list[Problem] = field(default_factory=list)
    verification: Mapping[str, Any] | None = None
    written: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hints(self) -> list[str]:
        """What may be meant, and what to type, where the plan falls short."""
        return advise(self.plan)

    def compared(self, verification: Mapping[str, Any]) -> None:
        """Record what comparing the networks found; a difference is a problem."""
        self.verification = verification
        if not verification["equal"]:
            self.problems.append(Problem(verification["message"]))

    def as_dict(self) -> dict[str, Any]:
        """The document of `zoo convert --json`. `verified` is null where no `--verify` was asked for."""
        return {
            "source": self.source,
            "kind": self.kind,
            "destination": self.destination,
            "written": bool(self.written),
            "bytes": self.written.get("bytes"),
            **self.plan.as_dict(),
            "rules": [rule.as_mapping() for rule in self.rules],
            "notes": list(self.notes),
            "problems": [problem.message for problem in self.problems],
            "hints": self.hints if self.problems else [],
            "verified": None if self.verification is None else bool(self.verification["equal"]),
            "verification": self.verification,
        }

    def render(self, *, verbose: bool = False) -> str:
        """The plan and what came of it, for people. `verbose` names every tensor instead of grouping by pattern."""
        lines = [f"{self.source}: {self.kind}", render(self.plan, verbose=verbose)]
        if self.verification:
            lines.append(f"verified    {self.verification['message']}")
        if self.written:
            lines.append(f"wrote {self.destination}, {self.written['bytes'] / 1e6:,.1f} MB")
        elif not self.problems:
            lines.append("nothing was written (--dry-run)")
        return "\n".join(lines)


class NotConvertedError(WorkError):
    """The plan fills or uses too little, or the networks differ, so nothing was written; see `conversion`."""

    def __init__(self, conversion: Conversion) -> None:
        head = Problem(f"{conversion.source} ({conversion.kind}) was not converted")
        super().__init__([head, *conversion.problems, *(Problem(f"hint: {hint}") for hint in conversion.hints)])
        self.conversion = conversion


def convert(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str] | None = None,
    remap: Remap = None,
    *,
    to: str | None = None,
    from_: str | None = None,
    to_arguments: Mapping[str, Any] | None = None,
    from_arguments: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    min_coverage: float = MIN_COVERAGE,
    verify: bool = False,
    dry_run: bool = False,
    invert: bool = False,
    write_rules: str | os.PathLike[str] | None = None,
    key: str | None = None,
    trust_pickle: bool = False,
    verify_bytes: bool = True,
    overwrite: bool = False,
    surgeries: Sequence[str] | None = None,
) -> Conversion:
    """Write the safetensors file `destination` that `remap` makes of `source`, complete or not at all.

    Args:
        source: a file, a folder, `hf://org/repo[/file]` or an https address, of any format that zoo reads.
        destination: a `.safetensors` file; may be omitted in a dry run.
        remap: a rule file, an installed remap, `auto`, an inline rule (`OLD=NEW`, `drop: ^fc`), or several, in order.
        to, to_arguments: the architecture that the file shall fill (`zoo.load` then rebuilds it), and its arguments.
        from_, from_arguments: the architecture that the source is of; `remap="auto"` and `verify` run it.
        dtype: cast all floating-point tensors (`bfloat16`, `float32`, …).
        min_coverage: the least share, 0 to 1, of `to` that is filled, and of the source that is used or dropped.
        verify: run both architectures on one batch and compare them module by module before anything is written.
        dry_run: make the plan (and verify it); write nothing.
        invert: run the rules backwards.
        write_rules: save the rules that were given, or found by `auto`, as YAML.
        key: the state dict, or the prefix of the network (`encoder_q`), of several in the source; see `open_source`.
        trust_pickle: run the code in a pickled model.
        verify_bytes: read the file back and compare every byte.
        overwrite: replace `destination`, where it is there and not an earlier conversion's, and the file of
            `write_rules`.
        surgeries: what is done to the network of a checkpoint first, by name: `merge_adapters` for one with adapters.

    Raises InputError for what cannot be read, planned or written; NotConvertedError, a WorkError with the plan, where
    that falls short or the networks differ; WorkError where `auto` abstains or writing fails. Nothing is left then.
    """
    start, end = _network(from_, from_arguments), _network(to, to_arguments)
    _check_request(destination, start, end, dry_run=dry_run, verify=verify)
    with (
        _operated(os.fspath(source), surgeries or (), end) as file,
        open_source(file, trust_pickle=trust_pickle, key=key) as opened,
    ):
        _check_free(None if dry_run else destination, write_rules, opened, overwrite=overwrite)
        made, described = _planned(
            opened, remap, start, end, source=os.fspath(source) if surgeries else opened.location, dtype=dtype,
            destination=destination, min_coverage=min_coverage, invert=invert, verify=verify,
        )  # fmt: skip
        _require(made, opened, start, end, verify=verify, write_rules=write_rules)
        if destination is not None and not dry_run:
            _write(made, opened, described, destination, verify_bytes=verify_bytes)
    return made


def _planned(
    opened: Source,
    remap: Remap,
    start: Network | None,
    end: Network | None,
    *,
    source: str,
    destination: str | os.PathLike[str] | None,
    dtype: str | None,
    min_coverage: float,
    invert: bool,
    verify: bool,
) -> tuple[Conversion, Assembly | None]:
    """The conversion as it is planned, and what the new file says of the network that it fills, where one is named."""
    chosen = choose_rules(remap, opened, start, end, invert=invert)
    plan, rules = make_plan(opened, chosen.rules, end, dtype)
    described, kept = (None, []) if end is None else describe(opened, rules, end)
    notes = (*chosen.notes, *_notes(opened, plan, start, end, runs=verify or AUTO in items(remap)), *kept)
    to = None if destination is None else os.fspath(destination)
    return Conversion(source, opened.kind, to, plan, rules, notes, plan.problems(min_coverage)), described


def _require(
    made: Conversion,
    opened: Source,
    start: Network | None,
    end: Network | None,
    *,
    verify: bool,
    write_rules: str | os.PathLike[str] | None,
) -> None:
    """Save the rules and compare the networks. Raises NotConvertedError where that, or the plan, says not to write."""
    if write_rules is not None:
        _write_text(Path(write_rules), dump_rules(made.rules))
    if start and end and verify and not made.problems:
        made.compared(compare_networks(start, end, opened, made.plan))
    if made.problems:
        raise NotConvertedError(made)


def _write(
    made: Conversion,
    opened: Source,
    described: Assembly | None,
    destination: str | os.PathLike[str],
    *,
    verify_bytes: bool,
) -> None:
    check_equal(made.plan, opened.array)
    said = metadata(opened, made.plan, described, os.fspath(destination))
    made.written = write(made.plan, opened, destination, metadata=said, verify_bytes=verify_bytes)


@dataclass(frozen=True)
class Network:
    """An architecture at one end of a conversion, and its arguments."""

    architecture: str
    arguments: Mapping[str, Any]

    def build(self, device: str = "cpu") -> Assembly:
        """The network, built anew with fresh parameters; on `meta` without memory."""
        from zoo.model.build import build

        return build(self.architecture, self.arguments, device=device)

    def without_parameters(self) -> Assembly:
        """The network with its parameters on `meta` and everything else real."""
        from zoo.conversion.random_weights import computed_on_meta, emptied
        from zoo.model.build import parameters_on_meta

        with suppress(ZooError), parameters_on_meta():
            made = self.build()
            if not computed_on_meta(made.model):
                return made
        made = self.build()  # its constructor needs its parameters' numbers
        emptied(made.model)
        return made

    @cached_property
    def outline(self) -> Assembly:
        """The network on `meta`."""
        return self.build("meta")

    @cached_property
    def target(self) -> Target:
        """What a plan may fill in it."""
        from zoo.model.load_into import target_of

        return target_of(self.outline.model)


def _network(architecture: str | None, arguments: Mapping[str, Any] | None) -> Network | None:
    return None if architecture is None else Network(architecture, arguments or {})


def _check_request(
    destination: str | os.PathLike[str] | None,
    start: Network | None,
    end: Network | None,
    *,
    dry_run: bool,
    verify: bool,
) -> None:
    if verify and (start is None or end is None):
        raise InputError(
            "--verify compares two networks", suggestion="name both: --from ARCHITECTURE --to ARCHITECTURE"
        )
    if destination is None and not dry_run:
        raise InputError("there is no destination", suggestion="name one, or plan only: --dry-run")
    if destination is not None:
        check_format(destination)


@contextmanager
def _operated(source: str, surgeries: Sequence[str], end: Network | None) -> Iterator[str]:
    """The source, or, where surgeries are asked for, a checkpoint of its network after them, for as long as the block
    takes. Raises InputError where the source is no checkpoint of zoo's."""
    if not surgeries:
        yield source
        return
    if end is not None:
        raise InputError(
            "--surgery and --to are two conversions: the surgery makes a checkpoint of its own network",
            suggestion="leave out --to, and convert what is written to it afterwards",
        )
    from zoo.checkpoint.load import load
    from zoo.checkpoint.save import save_checkpoint
    from zoo.contracts import Context
    from zoo.model.operations import operate

    assembly = load(source)
    context = Context(classes=assembly.classes, preprocessing=assembly.preprocessing, task=assembly.task)
    for name in surgeries:
        operate(assembly, name, {}, context)
    with to_undo(), TemporaryDirectory(prefix="zoo-") as folder:
        file = os.path.join(folder, Path(source).name)
        save_checkpoint(assembly, file)
        yield file


def _check_free(
    destination: str | os.PathLike[str] | None,
    write_rules: str | os.PathLike[str] | None,
    source: Source,
    *,
    overwrite: bool,
) -> None:
    """Raises InputError for files that would be replaced unasked, other than an earlier conversion's; the source itself
    is refused when it is written."""
    places = [Path(place) for place in (destination, write_rules) if place is not None]
    places = [place for place in places if not (place.is_file() and is_conversion(place))]
    own = any(place.is_file() and place.samefile(file) for place in places for file in source.files)
    check_free(places, overwrite=overwrite or own)


def choose_rules(
    remap: Remap, source: Source, start: Network | None, end: Network | None, *, invert: bool = False
) -> ChosenRules:
    """The rules given or installed, or those that `auto` finds: by running both networks where both are named, else by
    evidence. With `invert`, the rules that lead back."""
    if invert:
        return _inverse(remap, source)
    if end is None or AUTO not in items(remap):
        return remaps.choose_rules(source, remap, None if end is None else end.target)
    if start is None:
        try:
            return remaps.choose_rules(source, remap, end.target)
        except WorkError as error:
            if (name := architecture_of(source, end.architecture)) is None:
                raise
            hint = f"the file has the names of {name}: have both networks run, --from {name}"
            raise WorkError([*error.problems, Problem(f"hint: {hint}")]) from error
    from zoo.conversion.equivalence import match_networks

    auto = split_at_auto(source, remap, start.target)
    found = match_networks(auto.entries, start.without_parameters(), end.without_parameters())
    return auto.completed(found, end.target)


def architecture_of(source: Source, end: str) -> str | None:
    """An installed architecture named much like `end` whose tensors are those of the file; None where none is found."""
    from zoo.model.load_into import target_of

    own = registry.resolve(end, "architectures").name
    bare = own.rpartition("/")[2]
    others = [name for name in registry.names("architectures") if name.partition("/")[0] != own.partition("/")[0]]
    for name in nearest(bare, others):
        with suppress(ZooError):
            plan = plan_rules(source, remaps.unwrapping(source), target_of(Network(name, {}).build("meta").model))
            if plan.coverage == 1.0 == plan.use:
                return name
    return None


def _inverse(remap: Remap, source: Source) -> ChosenRules:
    """The rules that undo those of `remap`; proved on names, dtypes and shapes to lead back to the source."""
    if not remap:
        raise InputError("there are no rules to run backwards", suggestion="name them: --remap RULES")
    if AUTO in items(remap):
        raise InputError(
            "what --remap auto finds cannot be inverted before it is found",
            suggestion="find them first: --remap auto --write-rules FILE, then --remap FILE --invert",
        )
    rules = read_rules(remap)
    inverse = tuple(invert_rules(rules))
    idle = run(inverse, source.entries, source.aliases).idle
    if not inverse or len(idle) < len(inverse):  # where no rule finds anything to do, the plan says so
        check_inverse(rules, source.entries, source.aliases)
    return ChosenRules(inverse, tuple(source.notes))


def make_plan(
    source: Source, rules: tuple[Rule, ...], end: Network | None, dtype: str | None
) -> tuple[Plan, tuple[Rule, ...]]:
    """The plan of the source under `rules` and a final cast to `dtype`, and the rules with that cast."""
    target = None if end is None else end.target
    plan = plan_rules(source, rules, target)
    if dtype is None:
        return plan, rules
    rules = (*rules, *parse_rules([{"cast": dtype}]))
    # That a file has no floating-point tensor to cast is no mistake in a rule.
    return replace(plan_rules(source, rules, target), unused=plan.unused, idle=plan.idle), rules


def compare_networks(start: Network, end: Network, source: Source, plan: Plan) -> dict[str, Any]:
    """The report of `--verify`: whether both networks compute the same, and where they diverge if not."""
    from zoo.conversion.compare_models import compare_converted

    return compare_converted(start.without_parameters(), end.without_parameters(), source, plan).as_dict()


def _notes(source: Source, plan: Plan, start: Network | None, end: Network | None, *, runs: bool) -> list[str]:
    """Remarks for the user beside those on the rules; `runs` says whether the networks are run at all."""
    notes = []
    if end is None and "zoo" in source.metadata and is_relaid(plan):
        notes.append(
            "the source says which architecture it rebuilds, which is not true of the new layout and is left out; "
            "name the new architecture (--to) to have a file that zoo.load takes"
        )
    if start is not None and not runs:
        notes.append(
            f"--from {start.architecture} was not needed: --remap auto and --verify run it, and neither was asked for"
        )
    return notes


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as descriptor:
        write_all(descriptor, text.encode(), 0)
