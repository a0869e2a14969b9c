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
from zoo.conversion.destination import CONVERT, MADE_BY, check_format, check_free, is_conversion
from zoo.conversion.stream import write
from zoo.errors import InputError, Problem, WorkError, ZooError, nearest
from zoo.formats import Source, open_source
from zoo.formats.entry import Entry
from zoo.formats.files import atomic_file, write_all
from zoo.remap import remaps
from zoo.remap.advice import advise
from zoo.remap.explain import render
from zoo.remap.expression import Cast
from zoo.remap.plan import MIN_COVERAGE, Plan, Target, check_equal
from zoo.remap.remaps import ChosenRules, Remap, items, plan_rules, read_rules, split_at_auto
from zoo.remap.rules import Rule, check_inverse, dump_rules, parse_rules, run
from zoo.remap.rules import invert as invert_rules
from zoo.remap.rules.adapt import AdaptClassesRule
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
        chosen = choose_rules(remap, opened, start, end, invert=invert)
        plan, rules = make_plan(opened, chosen.rules, end, dtype)
        described, kept = (None, []) if end is None else describe(opened, rules, end)
        notes = (*chosen.notes, *_notes(opened, plan, start, end, runs=verify or AUTO in items(remap)), *kept)
        made = Conversion(
            os.fspath(source) if surgeries else opened.location,
            opened.kind,
            None,
            plan,
            rules,
            notes,
            plan.problems(min_coverage),
        )
        made.destination = None if destination is None else os.fspath(destination)
        if write_rules is not None:
            _write_text(Path(write_rules), dump_rules(rules))
        if start and end and verify and not made.problems:
            made.compared(compare_networks(start, end, opened, plan))
        if made.problems:
            raise NotConvertedError(made)
        if destination is not None and not dry_run:
            check_equal(plan, opened.array)
            metadata = _metadata(opened, plan, described, os.fspath(destination))
            made.written = write(plan, opened, destination, metadata=metadata, verify_bytes=verify_bytes)
    return made


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
    with TemporaryDirectory(prefix="zoo-") as folder:
        file = os.path.join(folder, Path(source).name)
        save_checkpoint(assembly, file)
        yield file


def _metadata(source: Source, plan: Plan, described: Assembly | None, destination: str) -> dict[str, str]:
    """What the header of the file says: of the architecture that it fills, or what the source's said."""
    if described is None:
        kept = _carried_over(source, plan, destination)
    else:
        kept = _encoded(source, plan, described, destination)
    return kept | {MADE_BY: CONVERT}


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
    if end is None and "zoo" in source.metadata and _is_relaid(plan):
        notes.append(
            "the source says which architecture it rebuilds, which is not true of the new layout and is left out; "
            "name the new architecture (--to) to have a file that zoo.load takes"
        )
    if start is not None and not runs:
        notes.append(
            f"--from {start.architecture} was not needed: --remap auto and --verify run it, and neither was asked for"
        )
    return notes


def describe(source: Source, rules: tuple[Rule, ...], end: Network) -> tuple[Assembly, list[str]]:
    """What the new checkpoint says of the network at the end, and remarks on what it takes over from the source.

    A zoo checkpoint goes on being prepared as it was, and keeps its classes, task and data.
    """
    from zoo.checkpoint.data_folder import as_loaded
    from zoo.formats.checkpoint_metadata import record_of
    from zoo.model.preprocessing import differences, for_arguments

    chosen = [rule.to for rule in rules if isinstance(rule, AdaptClassesRule) and rule.to]
    record, outline, notes = record_of(source), end.outline, []
    if record is None:
        return replace(outline, classes=chosen[-1] if chosen else ()), []
    if record.architecture != outline.architecture:
        notes.append(
            f"the source says that it is of {record.architecture}: whether {outline.architecture} computes the same is "
            f"not known; compare them: --from {record.architecture} --verify"
        )
    classes = chosen[-1] if chosen else tuple(record.classes)
    thresholds = {name: value for name, value in record.thresholds.items() if name in classes or not classes}
    known = replace(
        outline,
        classes=classes,
        task=record.task,
        data=as_loaded(record.data, source.location),
        thresholds=thresholds,
    )
    if classes and not _fits_head(known):
        notes.append(f"the source's {len(classes)} classes are left out: {outline.architecture} has another head")
        known = replace(known, classes=(), data=None, thresholds={})
    if record.preprocessing is not None:
        prepared = for_arguments(record.preprocessing.as_contract(), end.arguments)
        odd = differences(prepared, outline.preprocessing)
        if prepared.channels != outline.preprocessing.channels:
            notes.append(f"images are prepared as {outline.architecture} says, not as for the source: {'; '.join(odd)}")
        else:
            notes += [f"images go on being prepared as for the source: {'; '.join(odd)}"] if odd else []
            known.preprocessing = prepared
    return known, notes


def _fits_head(assembly: Assembly) -> bool:
    """Whether every head gives an output a class; where no head is found nothing speaks against it."""
    from zoo.model.heads import heads_if_any, out_width
    from zoo.model.paths import get_module

    widths = {out_width(get_module(assembly.model, path)) for path in heads_if_any(assembly.model)}
    return not widths or widths == {len(assembly.classes)}


def _encoded(source: Source, plan: Plan, described: Assembly, destination: str) -> dict[str, str]:
    """The metadata of a zoo checkpoint of the architecture that the file fills."""
    from zoo.checkpoint import save
    from zoo.checkpoint.data_folder import as_stored
    from zoo.formats.checkpoint_metadata import encode

    name = source.location if "://" in source.location else Path(source.location).name
    origin = {"name": name, "kind": source.kind, "sha256": source.sha256()}
    own = {"converted_from": origin, "data": as_stored(described.data, destination)}
    return encode(save.describe(described, tied=plan.ties).model_copy(update=own), _entries(plan))


def _entries(plan: Plan) -> list[Entry]:
    """The tensors that are written."""
    return [Entry(move.target, move.dtype, move.shape) for move in plan.moves]


def _carried_over(source: Source, plan: Plan, destination: str) -> dict[str, str]:
    """The source's own metadata, without zoo's description where the layout it speaks of is no more."""
    from zoo.checkpoint.data_folder import as_loaded, as_stored
    from zoo.formats.checkpoint_metadata import encode, record_of

    kept = {name: text for name, text in source.metadata.items() if name not in source.aliases}
    if _is_relaid(plan):
        kept.pop("zoo", None)
    elif (record := record_of(source)) is not None:
        if any(move.operations for move in plan.moves):  # other values: what was measured was not of these
            spec = {key: value for key, value in (record.evaluation or {}).items() if key in ("loss", "metrics")}
            cleared = {"tensor_digests": {}, "metrics": {}, "evaluation": spec or None}
            record = record.model_copy(update=cleared)
        data = as_stored(as_loaded(record.data, source.location), destination)
        kept |= encode(record.model_copy(update={"data": data}), _entries(plan))
    ties = {} if "zoo" in kept else plan.ties
    return {"format": "pt", **kept, **ties}


def _is_relaid(plan: Plan) -> bool:
    """Whether names or shapes differ from the source's, or tensors are dropped."""
    return bool(plan.dropped) or any(
        move.sources != (move.target,) or any(not isinstance(step, Cast) for step in move.operations)
        for move in plan.moves
    )


def _write_text(path: Path, text: str) -> None:
    with atomic_file(path) as descriptor:
        write_all(descriptor, text.encode(), 0)
