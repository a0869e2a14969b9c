"""Choose precision and memory layout by timing a few training steps of each candidate.

No rule fits all: bfloat16 is faster where the processor multiplies in it, and slower where casting the weights costs
more than it saves; channels-last helps most convolutions and harms some. So each candidate runs forward and backward
on one real batch, and the fastest is taken whose outputs stay close to float32's.

What makes such timings right on a machine that does other work, too:

- The minimum counts, not the mean: other work only ever adds time.
- Candidates take turns, so that a busy moment slows no candidate alone.
- A candidate's fastest step is believed once a second step was as fast; noise is never twice the same.
- Ties go to the plainer candidate (the list begins with float32), and a choice between timings that never agreed
  is used, but not written into the timing cache.

Timing is skipped where all training takes less than the search would save: in time, and in samples, which on a slow
network or a busy machine take long however few they are.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.cache import cache_folder
from zoo.model.trace import tensors_in
from zoo.model.undisturbed import undisturbed
from zoo.training.devices import bfloat16_is_native, hardware, to_layout


@dataclass(frozen=True)
class Setting:
    """Precision and memory layout of training steps: `precision` is "float32", "bfloat16" or "float16"."""

    precision: str = "float32"
    channels_last: bool = False

    def __str__(self) -> str:
        return self.precision + (" channels-last" if self.channels_last else "")


def apply_layout(module: nn.Module, setting: Setting) -> None:
    """Put the module's four-dimensional parameters into the setting's memory layout, in place."""
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    to_layout(module, layout)


def key(module: nn.Module, inputs: Sequence[Tensor], settings: Sequence[Setting]) -> str:
    """Everything the fastest setting depends on, as a digest."""
    device = inputs[0].device
    parts = [
        *(f"{n} {tuple(p.shape)} {p.requires_grad}" for n, p in module.named_parameters()),
        *(str(tuple(value.shape[1:])) for value in inputs),
        *(str(setting) for setting in settings),
        f"{hardware(device)} {torch.get_num_threads()} {torch.__version__}",
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


class TimingCache:
    """Settings that earlier runs chose: one small JSON file a key, so that two runs never overwrite each other's."""

    def __init__(self, root: Path | None, key: str) -> None:
        self.path = (root or cache_folder()) / "timings" / f"{key}.json"

    def find(self, allowed: Sequence[Setting]) -> Setting | None:
        with suppress(OSError, ValueError, TypeError, RecursionError):
            setting = Setting(**json.loads(self.path.read_text(encoding="utf-8")))
            return setting if setting in allowed else None
        return None

    def keep(self, setting: Setting) -> None:
        with suppress(OSError):  # an unwritable cache costs the next run its seconds, nothing else
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.write_text(json.dumps(asdict(setting)), encoding="utf-8")


OUTPUT_TOLERANCE = 0.05  # relative Frobenius distance of a training batch's outputs from float32's
SAMPLES = 8  # of a batch are timed on a CPU: enough for the ratio, a fraction of the time. A GPU needs a whole batch
LONG_ENOUGH = 0.15  # seconds a step: in a shorter one the casts of the weights weigh more than in a whole batch
TIE = 1.03  # times the fastest one's seconds is as fast: below it the machine's noise decides
WORTH_TIMING = 10.0  # seconds: training that takes less ends before a faster setting has paid for the search
PAYS = 2.0  # times the samples that the search itself trains on: fewer are done before half of their time is saved
ROUNDS = (2, 10)  # of every candidate: as many, and up to so many until its fastest step has come twice
SAME = 1.05  # two steps that are no further apart are the same: what a busy machine adds is never twice the same
PATIENCE = (2.5, 1.5)  # not timed further: what takes so many times the best one's seconds; the second, once settled


@dataclass(frozen=True)
class Choice:
    """The chosen setting, each candidate's seconds for a step on a few samples, and the seconds that choosing took.

    A candidate that was far slower in its first step is not timed again: its seconds are an upper bound. `settled` is
    False where no two of many steps of a candidate took equally long.
    """

    setting: Setting
    timings: dict[str, float]
    seconds: float
    cached: bool = False
    settled: bool = True

    def __str__(self) -> str:
        if self.cached:
            return f"{self.setting} (chosen in an earlier run)"
        if not self.timings:
            return str(self.setting)
        listed = ", ".join(f"{name} {1000 * seconds:.0f} ms" for name, seconds in self.timings.items())
        busy = "" if self.settled else " on a busy machine, not kept for later runs"
        return f"{self.setting} (timed in {self.seconds:.1f} s{busy}: {listed})"


def candidates(module: nn.Module, device: torch.device, precision: str, layout: str = "auto") -> list[Setting]:
    """What is tried: all combinations that the device, and precision and layout ("auto" or a fixed one), allow."""
    precisions = ["float32", "bfloat16"] if bfloat16_is_native(device) else ["float32"]
    if precision != "auto":
        precisions = [precision]
    convolutions = sum(isinstance(part, nn.Conv2d) for part in module.modules())
    layouts = [False, True] if convolutions > 1 else [False]
    if layout != "auto":
        layouts = [layout == "channels_last"]
    return [Setting(name, layout) for name in precisions for layout in layouts]


def choose_setting(
    module: nn.Module,
    inputs: Sequence[Tensor],
    targets: Tensor,
    loss: Callable[[Any, Tensor], Tensor],
    *,
    samples: int,
    precision: str = "auto",
    layout: str = "auto",
    root: Path | None = None,
) -> Choice | None:
    """Time forward and backward of each candidate on one batch and choose the fastest that is close enough.

    Args:
        inputs: the module's positional arguments, [n, …] each.
        samples: how many will be trained on.
        precision, layout: what is not left open ("auto"), as a recipe says it.

    Returns None where they are fewer than `PAYS` times those that the search would train on, or the first candidate
    trains on them in less than `WORTH_TIMING` seconds. Parameters, buffers,
    gradients and random generators are as before afterwards; the module is left in the chosen memory layout.
    """
    started = time.perf_counter()
    device = inputs[0].device
    settings = candidates(module, device, precision, layout)
    if len(settings) == 1:
        apply_layout(module, settings[0])
        return Choice(settings[0], {}, 0.0)
    cache = TimingCache(root, key(module, inputs, settings))
    setting = cache.find(settings)
    if setting is not None:
        apply_layout(module, setting)
        return Choice(setting, {}, time.perf_counter() - started, cached=True)
    count = min(SAMPLES, len(targets)) if device.type == "cpu" else len(targets)
    if samples < PAYS * count * len(settings) * (1 + ROUNDS[0]):
        return None
    with undisturbed(module, buffers=True):
        step = functools.partial(_step, module, inputs, targets, loss)
        found = _time_if_worth_it(step, settings, count, len(targets), samples)
    if found is None:
        return None
    timings, settled = found
    setting = next(one for one, seconds in timings.items() if seconds <= TIE * min(timings.values()))
    apply_layout(module, setting)
    if settled:
        cache.keep(setting)
    named = {str(candidate): seconds for candidate, seconds in timings.items()}
    return Choice(setting, named, time.perf_counter() - started, settled=settled)


Step = Callable[[int, Setting], tuple[list[Tensor], float]]  # trains on so many samples: the outputs and the seconds


def _time_if_worth_it(
    step: Step, settings: Sequence[Setting], count: int, most: int, samples: int
) -> tuple[dict[Setting, float], bool] | None:
    """See `_time_all`; None where the first candidate trains on all `samples` in less than `WORTH_TIMING` seconds.

    The steps take `count` samples, or up to `most` where those would take less than `LONG_ENOUGH` seconds.
    """
    limit = WORTH_TIMING * count / samples
    outputs, seconds = step(count, settings[0])  # a first step is slow: what it calls short is short
    if limit <= seconds < 2 * max(limit, LONG_ENOUGH):
        _, seconds = step(count, settings[0])
    if seconds < limit:
        return None
    enough = min(math.ceil(count * LONG_ENOUGH / seconds), most)
    if enough > count:
        outputs, seconds = step(enough, settings[0])
    return _time_all(functools.partial(step, max(enough, count)), settings, outputs, seconds)


def _time_all(
    step: Callable[[Setting], tuple[list[Tensor], float]],
    settings: Sequence[Setting],
    expected: Sequence[Tensor],
    seconds: float,
) -> tuple[dict[Setting, float], bool]:
    """Seconds a step of every candidate whose outputs are close enough to the first one's, and whether they settled.

    The first one's outputs are `expected`, and it took `seconds`.
    """
    timings = {settings[0]: [seconds]}
    for setting in settings[1:]:  # in a first step kernels are chosen and compiled: its seconds are a bound
        got, seconds = step(setting)
        if relative_distance(expected, got) <= OUTPUT_TOLERANCE:
            timings[setting] = [seconds]
    least, most = ROUNDS
    settled = True
    for done in range(most):  # in turn, so that a machine that is busy for a moment slows no candidate alone
        best = min(map(min, timings.values()))
        left = [setting for setting, known in timings.items() if min(known) <= PATIENCE[_settled(known)] * best]
        if len(left) == 1 or (done >= least and all(_settled(timings[setting]) for setting in left)):
            break
        for setting in left:
            timings[setting].append(step(setting)[1])
    else:
        settled = False
    return {setting: min(known) for setting, known in timings.items()}, settled


def _settled(seconds: Sequence[float]) -> bool:
    fastest, *others = sorted(seconds)
    return bool(others) and others[0] <= SAME * fastest


def _step(
    module: nn.Module,
    inputs: Sequence[Tensor],
    targets: Tensor,
    loss: Callable[[Any, Tensor], Tensor],
    count: int,
    setting: Setting,
) -> tuple[list[Tensor], float]:
    """Forward and backward of the first `count` samples, finished on the device too; the outputs and the seconds."""
    device = inputs[0].device
    half = None if setting.precision == "float32" else getattr(torch, setting.precision)
    apply_layout(module, setting)
    module.zero_grad()  # gradients take their parameters' layout when they are new
    torch.manual_seed(0)  # the same dropout for every candidate
    started = time.perf_counter()
    inputs = [_arranged(value[:count], setting) for value in inputs]
    with torch.autocast(device.type, dtype=half) if half else nullcontext():
        outputs = module(*inputs)
        value = loss(outputs, targets[:count])
    value.backward()  # type: ignore[no-untyped-call]
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - started
    return [tensor.detach().float() for tensor in tensors_in(outputs)], seconds


def _arranged(value: Tensor, setting: Setting) -> Tensor:
    """In the setting's layout, and in float32 where the network is: a feature cache may contain bfloat16."""
    if setting.precision == "float32" and value.is_floating_point():
        value = value.float()
    layout = torch.channels_last if setting.channels_last and value.ndim == 4 else torch.contiguous_format
    return value.contiguous(memory_format=layout)


def relative_distance(expected: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    """The largest Frobenius norm of a difference, relative to what was expected; infinite where there is a NaN."""
    norms = [
        float((one.float() - other.float()).norm() / one.float().norm().clamp_min(1e-12))
        for one, other in zip(expected, got, strict=True)
    ]
    return float("inf") if any(map(math.isnan, norms)) else max(norms)
