"""`zoo.merge`: checkpoints of one base averaged into one that is at least as good, as a rule.

- average: the mean of all members (uniform soup, Wortsman et al. 2022).
- greedy: members join from the best down while the mean gets no worse on validation data (greedy soup, ibid.).
- wise-ft: (1 - alpha) times the first and alpha times the second, the base and what was fine-tuned from it
  (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").

Sums are made in double precision, in the order of the members. Statistics of batch norms that differ between members
are averaged, and estimated anew where there is data.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from zoo.conversion.destination import check_destination
from zoo.errors import InputError, WorkError, did_you_mean, listed
from zoo.remap.remaps import Remap

if TYPE_CHECKING:
    from zoo.conversion.members import Member
    from zoo.conversion.validation import Validation
    from zoo.model.assembly import Assembly
    from zoo.recipe.options import DataOptions
    from zoo.training.evaluate import Measured

Method = Literal["average", "wise-ft", "greedy"]


@dataclass
class Merged:
    """The outcome of `zoo.merge`.

    Attributes:
        destination, method: what was asked for.
        members: a row each: `name`, `sha256`, `weight` (its share of the average) and, with data, `metrics`.
        metrics: the result's; empty without data.
        evaluation: what they were measured on: `part`, `samples`, `intervals`.
        alpha: of wise-ft.
        notes: what was decided on the way, for people.
        written: path, sha256, bytes and tensors of the file.
    """

    destination: str
    method: str
    members: list[dict[str, Any]]
    metrics: dict[str, float | None] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)
    alpha: float | None = None
    notes: list[str] = field(default_factory=list)
    written: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The document of `zoo merge --json`."""
        return {**vars(self), "written": dict(self.written)}

    def render(self) -> str:
        """For people: a row for each member, and one for the result."""
        rows = [(row["name"], f"{row['weight']:.3f}", row.get("metrics", {})) for row in self.members]
        rows.append((Path(self.destination).name, "", self.metrics))
        width = max(len(name) for name, _, _ in rows)
        lines = [f"  {name:<{width}}  {weight:>6}  {_told(metrics)}".rstrip() for name, weight, metrics in rows]
        size = self.written.get("bytes", 0) / 1e6
        return "\n".join([f"{self.method} of {len(self.members)}", *lines, f"wrote {self.destination}, {size:,.1f} MB"])


def _told(metrics: Mapping[str, float | None]) -> str:
    return "  ".join(f"{name} {'nan' if value is None else f'{value:.4f}'}" for name, value in metrics.items())


def merge(
    members: Sequence[str | os.PathLike[str]],
    destination: str | os.PathLike[str],
    *,
    method: Method = "average",
    to: str | None = None,
    to_arguments: Mapping[str, Any] | None = None,
    remap: Remap = None,
    alpha: float | None = None,
    data: str | DataOptions | None = None,
    device: str = "auto",
    batch_size: int | None = None,
    overwrite: bool = False,
) -> Merged:
    """Average checkpoints of one base into one; see `zoo.merge`."""
    sources = [os.fspath(member) for member in members]
    target = os.fspath(destination)
    _check_request(sources, method, alpha, data)
    check_destination(target, [Path(source) for source in sources if "://" not in source], overwrite=overwrite)
    from zoo.training.devices import process_kept

    with process_kept():
        return _merged(sources, target, method, to, to_arguments, remap, alpha, data, device, batch_size)


def _merged(
    sources: Sequence[str],
    target: str,
    method: Method,
    to: str | None,
    to_arguments: Mapping[str, Any] | None,
    remap: Remap,
    alpha: float | None,
    data: str | DataOptions | None,
    device: str,
    batch_size: int | None,
) -> Merged:
    from zoo.checkpoint.save import save_checkpoint, verify_reload, write_metrics
    from zoo.conversion.members import Labels, outline_of, read_members, unknown_bases, with_rows
    from zoo.conversion.validation import Validation

    described, read = read_members(sources, to, to_arguments, remap)
    labels = Labels.joined(read)
    outline = outline_of(described, labels)
    outline.data = _common_data(read)
    outline.thresholds = _common_thresholds(read)
    read = with_rows(read, labels, outline.model)
    validation = None if data is None else Validation(outline, data, device, batch_size)
    mixture = _Mixture(outline, read, validation)
    found = {"average": _average, "greedy": _greedy, "wise-ft": _wise_ft}[method](mixture, alpha)
    made = mixture.finished(found, target, method)
    made.notes += [f"{member.name}: {note}" for member in read for note in member.notes]
    if not outline.thresholds and any(member.record and member.record.thresholds for member in read):
        made.notes.append("the members' thresholds differ, and the result has none: thresholds: tuned, in a recipe")
    if unknown := unknown_bases(read):
        made.notes.append(
            f"of {listed(unknown)} it is not known whether the base is that of the others"
            + ("" if validation else ": with --data a barrier between them would show")
        )
    outline.model.cpu()
    made.written = save_checkpoint(outline, target, merged_from=mixture.lineage(made))
    verify_reload(outline, target)
    if made.metrics:
        write_metrics(target, made.metrics, made.evaluation)
    return made


def _check_request(sources: Sequence[str], method: str, alpha: float | None, data: Any) -> None:
    if method not in get_args(Method):
        near = did_you_mean(method, get_args(Method)) or f"the methods are {listed(get_args(Method))}"
        raise InputError(f"there is no method {method!r}", suggestion=near)
    if len(sources) < 2:
        raise InputError("there is nothing to merge", suggestion="name two checkpoints or more, then the destination")
    if method == "wise-ft" and len(sources) != 2:
        raise InputError(
            f"wise-ft takes two checkpoints, the base and what was fine-tuned from it, not {len(sources)}",
            suggestion="for more: --method average, or --method greedy --data RECIPE",
        )
    if method == "greedy" and data is None:
        raise InputError(
            "greedy chooses by validation data, and there is none",
            suggestion="name it, --data RECIPE (its held-out part counts), or --method average",
        )
    if alpha is not None and method != "wise-ft":
        raise InputError(f"alpha belongs to wise-ft, not to {method}", suggestion="--method wise-ft")
    if alpha is not None and not 0 <= alpha <= 1:
        raise InputError(f"alpha is {alpha}: it goes from 0, the first checkpoint, to 1, the second")


def _common_data(members: Sequence[Member]) -> dict[str, Any] | None:
    """The data that all members that are checkpoints were trained on, where that is the same."""
    known = [member.record.data for member in members if member.record is not None]
    return known[0] if known and all(data == known[0] for data in known) else None


def _common_thresholds(members: Sequence[Member]) -> dict[str, float]:
    """From which probability on labels count as there, where all members that are checkpoints say the same of it."""
    known = [member.record.thresholds for member in members if member.record is not None]
    return dict(known[0]) if known and all(each == known[0] for each in known) else {}


@dataclass(frozen=True)
class _Found:
    """How much of each member is taken, and what was measured of the result."""

    weights: tuple[float, ...]
    measured: Measured | None = None
    alpha: float | None = None
    notes: tuple[str, ...] = ()


class _Mixture:
    """Members, and the network that gets their averages, one after the other."""

    def __init__(self, outline: Assembly, members: Sequence[Member], validation: Validation | None) -> None:
        from zoo.conversion.validation import batch_norms
        from zoo.model.load_into import state_of

        self.outline, self.members, self.validation = outline, members, validation
        self.state = state_of(outline.model)
        self.norms = [name for name in batch_norms(outline.model) if self._differs(f"{name}.running_mean")]
        self.alone: list[Measured] = []
        if validation is not None:
            self.alone = [self.measured(self.only(place)) for place in range(len(members))]

    def _differs(self, name: str) -> bool:
        first, *rest = (member.state[name] for member in self.members)
        return any(not first.equal(other) for other in rest)

    def only(self, place: int) -> tuple[float, ...]:
        """The weights that take one member alone."""
        return tuple(float(place == other) for other in range(len(self.members)))

    def put(self, weights: Sequence[float]) -> None:
        """Let the network have the average, with batch norms that fit it where there is data."""
        import torch

        from zoo.model.averaging import average

        made = average([member.state for member in self.members], weights, self.state)
        with torch.no_grad():
            for name, value in made.items():
                self.state[name].copy_(value)
        if self.validation is not None and max(weights) < 1:
            self.validation.estimate(self.norms)

    def measured(self, weights: Sequence[float]) -> Measured:
        """Loss and metrics of an average."""
        assert self.validation is not None
        self.put(weights)
        return self.validation.measure()

    def score(self, measured: Measured) -> float:
        assert self.validation is not None
        return self.validation.score(measured)

    def check_barrier(self, found: _Found) -> None:
        """Raises WorkError where an average is clearly worse than each of the members in it."""
        if self.validation is None or found.measured is None:
            return
        used = [place for place, weight in enumerate(found.weights) if weight]
        worst = min((self.alone[place] for place in used), key=self.score)
        if self.validation.clearly_worse(found.measured, worst):
            told = "; ".join(f"{self.members[place].name}: {_told(self.alone[place].metrics)}" for place in used)
            average = _told(found.measured.metrics)
            raise WorkError(
                f"there is a barrier between the members: their average has {average}, they have {told}; nothing was "
                "written",
                suggestion="--method greedy takes those alone that help; networks of other bases average to nothing",
            )

    def finished(self, found: _Found, destination: str, method: str) -> Merged:
        """The outcome, with the average in the network."""
        self.check_barrier(found)
        self.put(found.weights)
        rows: list[dict[str, Any]] = [
            {"name": member.name, "sha256": member.sha256, "weight": weight}
            for member, weight in zip(self.members, found.weights, strict=True)
        ]
        for row, measured in zip(rows, self.alone, strict=False):
            row["metrics"] = measured.metrics
        notes = list(found.notes)
        if self.norms and self.validation is None:
            notes.append(
                f"the statistics of {len(self.norms)} batch norms were averaged; --data estimates them anew, which is "
                "better"
            )
        if self.validation is None or found.measured is None:
            return Merged(destination, method, rows, alpha=found.alpha, notes=notes)
        told = found.measured.as_dict()
        parts = self.validation.parts
        evaluation = {"part": parts[0] if len(parts) == 1 else "all", **told}
        return Merged(destination, method, rows, evaluation.pop("metrics"), evaluation, found.alpha, notes)

    def lineage(self, made: Merged) -> dict[str, Any]:
        """What the checkpoint says of how it was made."""
        rows = [{key: row[key] for key in ("name", "sha256", "weight")} for row in made.members]
        alpha = {} if made.alpha is None else {"alpha": made.alpha}
        return {"method": made.method, **alpha, "members": rows}


def _average(mixture: _Mixture, alpha: float | None) -> _Found:
    weights = (1 / len(mixture.members),) * len(mixture.members)
    return _Found(weights, mixture.measured(weights) if mixture.validation else None)


def _wise_ft(mixture: _Mixture, alpha: float | None) -> _Found:
    from zoo.model.averaging import ALPHAS

    if mixture.validation is None or alpha is not None:
        chosen = 0.5 if alpha is None else alpha
        return _Found(
            (1 - chosen, chosen), mixture.measured((1 - chosen, chosen)) if mixture.validation else None, chosen
        )
    tried = {step: mixture.measured((1 - step, step)) for step in ALPHAS}
    best = max(tried, key=lambda step: (mixture.score(tried[step]), -(tried[step].metrics["loss"] or 0)))
    said = f"alpha {best} is the best of {len(tried)} on these samples; its metrics are those that chose it"
    return _Found((1 - best, best), tried[best], best, (said,))


def _greedy(mixture: _Mixture, alpha: float | None) -> _Found:
    order = sorted(range(len(mixture.members)), key=lambda place: -mixture.score(mixture.alone[place]))
    chosen, best = [order[0]], mixture.alone[order[0]]
    for place in order[1:]:
        measured = mixture.measured(_equal_parts([*chosen, place], len(mixture.members)))
        if mixture.score(measured) >= mixture.score(best):
            chosen, best = [*chosen, place], measured
    said = f"{len(chosen)} of {len(order)} members are in the average; these samples chose them and measured them"
    return _Found(_equal_parts(chosen, len(mixture.members)), best, notes=(said,))


def _equal_parts(places: Sequence[int], count: int) -> tuple[float, ...]:
    return tuple(1 / len(places) if place in places else 0.0 for place in range(count))
