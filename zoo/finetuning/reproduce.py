"""`reproduce`: a finished run's recipe carried out again, elsewhere, and compared with the run bit for bit.

The second run reads no cache of features, so that all of them are computed again. Where the two part is found on their
ladders of digests (zoo.finetuning.ladder); why, by what the report keeps of data, files, packages and machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from zoo.cache import cache_in
from zoo.data.fingerprint import Fingerprint, read_lines
from zoo.errors import InputError, WorkError, listed
from zoo.finetuning.environment import differences
from zoo.finetuning.finetune import finetune
from zoo.finetuning.ladder import described, digest_of, first_difference
from zoo.finetuning.report import Report, read_report
from zoo.finetuning.resuming import differences_since
from zoo.formats.checkpoint_metadata import read_metadata
from zoo.formats.safetensors_file import read_header
from zoo.formats.tensors import same_bits
from zoo.isolation import to_undo
from zoo.recipe import Recipe
from zoo.training.callbacks import Listener
from zoo.training.folder import MODEL, RECIPE, SAMPLES, STATE

SHOWN = 4  # names of tensors that a line lists


@dataclass(frozen=True)
class Reproduction:
    """What comparing a run with a second one found.

    `equal` says whether all tensors of the checkpoint, and the metrics, are the same to the last bit. If not, `parts`
    is the first step or epoch whose digest differs, `tensors` the names of the checkpoint's tensors that do (of
    `compared`), `largest` the largest difference of two values, `metrics` the pairs of those that differ, and `causes`
    what has changed since the run.
    """

    run: str
    equal: bool
    parts: str | None
    tensors: tuple[str, ...]
    compared: int
    largest: float | None
    metrics: dict[str, tuple[float | None, float | None]]
    causes: tuple[str, ...]
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The document of `zoo reproduce --json`."""
        return asdict(self)

    def __str__(self) -> str:
        if self.equal:
            return f"bit-equal: {self.compared} tensors and the metrics of {self.run}, in {self.seconds:.1f} s"
        lines = [f"not bit-equal with {self.run}"]
        if self.parts:
            lines.append(f"first parts at: {self.parts}")
        if self.tensors:
            most = f"; the largest difference is {self.largest:.3g}" if self.largest is not None else ""
            lines.append(f"tensors: {len(self.tensors)} of {self.compared} differ: {listed(self.tensors, SHOWN)}{most}")
        lines += [f"{name}: {was} then, {now} now" for name, (was, now) in self.metrics.items()]
        return "\n".join([*lines, *(f"likely cause: {cause}" for cause in self.causes)])


def finished_run(run: str | os.PathLike[str]) -> tuple[Path, Report]:
    """The folder and the report of a finished run. Raises InputError where it is not finished, or files are missing."""
    folder = Path(run)
    folder = folder if folder.is_dir() else folder.parent
    report = read_report(folder)
    if report.get("interrupted") or report.get("failed"):
        raise InputError(
            f"the run in {folder} ended early, and has no result that could be reproduced",
            suggestion="finish it: zoo finetune RECIPE --resume",
        )
    if missing := [name for name in (RECIPE, MODEL) if not (folder / name).is_file()]:
        raise InputError(f"{folder} lacks {listed(missing)}", suggestion="name the folder of a finished run")
    return folder, report


def reproduce(
    run: str | os.PathLike[str],
    read: Callable[[Path], Recipe],
    *,
    output: str | os.PathLike[str] | None = None,
    device: str | None = None,
    progress: Listener | None = None,
) -> Reproduction:
    """Carry out the recipe that a finished run left, and compare: `zoo.reproduce`, without its objects.

    `read` makes a recipe of the file that it is given. The run's own folder is only read; the second run is written
    into a temporary folder, or into `output`, where it stays. Raises what `finetune` does, too.
    """
    began = time.monotonic()
    folder, report = finished_run(run)
    recipe = read(folder / RECIPE)
    mine = _tensors(folder / MODEL)
    suspected = [*_edited(folder, report, mine)]
    with to_undo(), tempfile.TemporaryDirectory(prefix="zoo-reproduce-", ignore_cleanup_errors=True) as scratch:
        place = Path(output) if output is not None else Path(scratch) / "run"
        with cache_in(Path(scratch) / "cache"):
            again = finetune(recipe, output=place, device=device or report["device"], progress=progress).report
        theirs = _tensors(place / MODEL)
        differing = [name for name in (mine | theirs) if not _same(mine.get(name), theirs.get(name))]
        metrics = _changed(report["metrics"], again["metrics"])
        equal = not differing and not metrics
        rung = None if equal else first_difference(report.get("ladder", []), again["ladder"])
        causes = () if equal else (*suspected, *_causes(folder, report, place, again))
    return Reproduction(
        run=str(folder),
        equal=equal,
        parts=described(rung) if rung else None,
        tensors=tuple(differing),
        compared=len(mine),
        largest=_largest(mine, theirs, differing),
        metrics=metrics,
        causes=causes if equal or causes else (_unknown(again["device"]),),
        seconds=time.monotonic() - began,
    )


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise WorkError(f"{path} cannot be read: {error}") from error


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and same_bits(one, other)


def _largest(mine: Mapping[str, Tensor], theirs: Mapping[str, Tensor], names: list[str]) -> float | None:
    """The largest difference of two values, where tensors have the same shape; None where none is finite."""
    pairs = [(mine[name], theirs[name]) for name in names if name in mine and name in theirs]
    sizes = [float((a.double() - b.double()).abs().max()) for a, b in pairs if a.shape == b.shape and a.numel()]
    return max((size for size in sizes if torch.isfinite(torch.tensor(size))), default=None)


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[float | None, float | None]]:
    names = dict.fromkeys((*before, *now))
    return {name: (before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)}


def _edited(folder: Path, report: Report, tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """The files of the run that are no longer as it wrote them."""
    written = report.get("recipe_sha256")
    if written and hashlib.sha256((folder / RECIPE).read_bytes()).hexdigest() != written:
        yield f"{folder / RECIPE} was edited: it is not the recipe that ran"
    last = next(iter(report.get("ladder", [])[-1:]), None)
    if last and last["epoch"] is None and digest_of(tensors) != last["digest"]:
        yield f"{folder / MODEL} was changed: it is not the model that the run left"


def _causes(folder: Path, report: Report, place: Path, again: Report) -> Iterator[str]:
    """What else is not as it was when the run was made."""
    yield from (f"data: {text}" for text in _data(folder, report, place, again))
    weights = [_weights(path / MODEL) for path in (folder, place)]
    if weights[0] != weights[1]:
        yield "weights: {} was another file".format((weights[0] or weights[1] or {}).get("name"))
    yield from differences(report.get("environment", {}), again["environment"])


def _data(folder: Path, report: Report, place: Path, again: Report) -> Iterator[str]:
    before, now = ((one.get("data") or {}).get("fingerprint") for one in (report, again))
    if (report.get("data") or {}).get("changes"):
        yield f"it changed while the run was interrupted: {'; '.join(report['data']['changes'])}"
    if before is None or now is None or before["digest"] == now["digest"]:
        return
    rows = read_lines((place / STATE / SAMPLES).read_text(encoding="utf-8"))
    with contextlib.suppress(OSError, ValueError):
        text = (folder / STATE / SAMPLES).read_text(encoding="utf-8")
        if (found := differences_since(text, before, Fingerprint(rows, now["read"]))) is not None:
            yield from found.lines()
            return
    yield "its samples are not those of the run"


def _weights(path: Path) -> dict[str, Any] | None:
    base = read_metadata(read_header(path).metadata, path).base_weights
    return None if base is None else {"name": base.name, "sha256": base.sha256}


def _unknown(device: str) -> str:
    if not device.startswith("cpu"):
        return "a GPU's kernels that add in any order: torch.use_deterministic_algorithms(True) forbids them"
    return (
        "not known: data, files, packages, threads and processor are those of the run; a component may draw by itself"
    )
