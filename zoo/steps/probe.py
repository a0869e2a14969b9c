"""The step `probe`: a linear head, solved on the features that reach it, and left in the model.

`probe` and then `train` is LP-FT (Kumar et al., 2022, "Fine-Tuning can Distort Pretrained Features and Underperform
Out-of-Distribution"): fine-tuning starts at the head that the fixed features deserve.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from zoo.data.batches import Batch
from zoo.data.open_data import OpenData, Part
from zoo.errors import InputError
from zoo.model.heads import find_heads
from zoo.model.paths import get_module
from zoo.model.undisturbed import undisturbed
from zoo.model.unstandardise import Unstandardise, unstandardising
from zoo.recipe import Step
from zoo.recipe.options import FeaturePrecision, Named, Positive
from zoo.recipe.step import shown
from zoo.training.class_weights import WeightedLoss, as_record, weighted
from zoo.training.job import approximation
from zoo.training.losses import make_loss
from zoo.training.metrics import make_metrics, measure
from zoo.training.solver import Solution, logistic_loss, softmax_loss, solve, solve_ridge
from zoo.training.trunk.batches import collect, features_key
from zoo.training.trunk.choose import Speed, choose_engine
from zoo.training.trunk.prepare import PARTS, example_batch, split_for
from zoo.training.trunk.split import UnsplittableError
from zoo.training.trunk.store import FeatureCache

if TYPE_CHECKING:
    from zoo.finetuning.run import ActiveRun
    from zoo.preflight.rehearsal import Rehearsal


class Probe(Step):
    """`probe:` solves a linear head on the backbone's features. `l2` is the weight of 0.5 * |w|^2 beside the mean loss;
    `tolerance` is the largest gradient norm left."""

    kind: Literal["softmax", "ridge"] = "softmax"
    """Logistic regression, or least squares on one-hot targets."""
    l2: Annotated[float, Field(ge=0)] = 1e-3
    """Weight of 0.5 * |w|^2 beside the mean loss."""
    tolerance: Annotated[float, Field(gt=0)] = 1e-5
    """Largest gradient norm left."""
    max_iterations: Positive = 1000
    """Give up after so many."""
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(ge=0)]] | None = None
    """What each class counts in the loss, as in `train`: `{NAME: WEIGHT, …}`, or `balanced`."""
    feature_precision: FeaturePrecision = "auto"
    """What features are computed in; `exact` is float32 without fused layers. `auto` is that where `precision` is
    float32, else bfloat16 where the device computes in it and answers stay the same."""

    needs_data = True
    fails_safely = True

    def check(self, rehearsal: Rehearsal) -> None:
        linear_head(rehearsal.assembly.model)
        rehearsal.count(self)
        rehearsal.fits(self)
        if (data := rehearsal.verdict.data) is not None:
            rehearsal.attempt(self.place.path, {"class_weights": lambda: class_weighted(self, data)})

    def run(self, run: ActiveRun) -> None:
        run.record(self, **solve_probe(run, self))


def solve_probe(run: ActiveRun, step: Probe) -> dict[str, Any]:
    """Solve the head on the features that reach it and put it into the model; the report's record of that.

    Every process solves the same problem on all features, so nothing is exchanged between them.
    """
    began, data = time.perf_counter(), cast(OpenData, run.data)
    assembly = run.assembly
    assembly.classes, assembly.task = data.classes, data.task
    weighed = class_weighted(step, data)
    assembly.evaluation = assembly.evaluation or {"loss": "auto", "metrics": None}
    if weighed.weights:
        assembly.evaluation = {**assembly.evaluation, "loss": weighed.loss}
    model = assembly.model.to(run.device)
    path, head = linear_head(model, data.outputs)
    speed = Speed.of(step.feature_precision, run.precision)
    features, engine = head_inputs(model, head, data, run.device, speed)
    run.pins[str(step.place.index)] = {"feature_precision": speed.pin(engine["feature_precision"])}
    unit = unstandardising(model)
    solving = time.perf_counter()
    solution = solve_head(step, *features["train"], data, unit, weighed.weights)
    solving = time.perf_counter() - solving
    with torch.no_grad():
        head.weight.copy_(solution.weight)
        head.bias.copy_(solution.bias)
    train, validation = (_measure(head, features[part], data, weighed.loss, unit) for part in PARTS)
    approximate = approximation(engine.get("engine", ""))
    run.trained = True
    about = "~" if approximate else ""
    measured = ", ".join(f"{name} {about}{shown(value)}" for name, value in validation.items())
    run.listener.note(f"probe: {path} solved to a gradient norm of {solution.gradient_norm:.1e}; {measured}")
    if not solution.converged:
        run.listener.note(f"warning: probe stopped above tolerance {step.tolerance:g}: raise l2 or max_iterations")
    return {
        "head": path,
        "metrics": validation,
        "train_loss": train["loss"],
        "gradient_norm": solution.gradient_norm,
        "converged": solution.converged,
        "iterations": solution.iterations,
        "samples": len(data.parts["train"]),
        "class_weights": as_record(weighed, data),
        "measured_with": approximate,
        **engine,
        "solving": solving,
        "seconds": time.perf_counter() - began,
    }


def linear_head(model: nn.Module, outputs: int | None = None) -> tuple[str, nn.Linear]:
    """The model's one linear classifier. Raises InputError where there is another kind, or more than one, or where it
    has no bias or another number of `outputs`."""
    paths = find_heads(model)
    head = get_module(model, paths[0])
    if len(paths) > 1 or not isinstance(head, nn.Linear):
        found = ", ".join(f"{path} ({type(get_module(model, path)).__name__})" for path in paths)
        raise InputError(f"probe solves one linear head; this model has {found}", suggestion="use train instead")
    if head.bias is None:
        raise InputError(f"probe: {paths[0]} has no bias", suggestion="swap_head: {num_classes: auto, bias: true}")
    if outputs is not None and head.out_features != outputs:
        message = f"probe: {paths[0]} has {head.out_features} outputs, the data has {outputs}"
        raise InputError(message, suggestion="swap_head: auto")
    return paths[0], head


def head_inputs(
    model: nn.Module, head: nn.Linear, data: OpenData, device: torch.device, speed: Speed
) -> tuple[dict[Part, tuple[Tensor, Tensor]], dict[str, Any]]:
    """What reaches the head in evaluation mode, [n, d], and the targets, for both parts of the data; and the report's
    record of how it was computed."""
    example = example_batch(data, device)
    live = {id(parameter) for parameter in head.parameters()}
    try:
        parts = split_for(model, example, training=False, live=live)
        with undisturbed(model, training=False), torch.no_grad():
            direct = [feature.ndim for feature in parts.trunk(example)] == [2]
    except UnsplittableError:
        direct = False
    if not direct:
        return {part: _captured(model, head, data, part, device) for part in PARTS}, {"feature_precision": "float32"}
    engine, comparison = choose_engine(model, parts, data, example, speed)
    kept: dict[Part, tuple[Tensor, Tensor]] = {}
    passes: dict[str, float] = {}
    for part in PARTS:
        images = data.batches(part, device=device, shuffle=False, augment=False, once=True)
        key = features_key(engine, data.parts[part], images, 0)
        found = collect(engine, images, 0, key=key, cache=FeatureCache())
        (features,), targets = found.everything()
        passes[part] = found.seconds
        kept[part] = (features.to(device), targets.to(device))
    record = {"feature_precision": engine.settings.precision, "engine": str(engine.settings), "passes": passes}
    return kept, record | {"comparison": asdict(comparison) if comparison else None}


def _captured(
    model: nn.Module, head: nn.Linear, data: OpenData, part: Part, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Without the feature cache: the complete model runs, and the head's inputs are recorded."""
    arrived: list[Tensor] = []
    targets: list[Tensor] = []
    with undisturbed(model, training=False, attributes=True), torch.no_grad():
        head.register_forward_pre_hook(lambda module, inputs: arrived.append(inputs[0].detach().flatten(0, -2)))
        for batch in data.batches(part, device=device, shuffle=False, augment=False, once=True).epoch(0):
            model(batch.inputs)
            targets.append(batch.targets)
    features = torch.cat(arrived)
    if len(features) != len(torch.cat(targets)):
        raise InputError("probe: the head is called more than once a sample", suggestion="use train instead")
    return features, torch.cat(targets)


def class_weighted(step: Probe, data: OpenData) -> WeightedLoss:
    """The loss that the head is solved for, with its class weights. Raises InputError as `weighted`, and for ridge of
    several labels, each of which would have other weights of the samples."""
    if step.class_weights is not None and step.kind == "ridge" and data.task == "multilabel":
        raise InputError("class_weights: not with ridge of several labels a sample", suggestion="write kind: softmax")
    return weighted("auto", step.class_weights, data)


def solve_head(
    options: Probe,
    features: Tensor,
    targets: Tensor,
    data: OpenData,
    unit: Unstandardise | None = None,
    weights: Sequence[float] = (),
) -> Solution:
    """The head that the options ask for: softmax (logistic for several labels), or ridge towards 0 and 1; of a
    regression ridge towards its values, standardised ones where the model has a `unit`. `weights` are those of the
    classes."""
    if options.kind == "ridge" or data.task == "regression":
        wanted = targets if targets.is_floating_point() else nn.functional.one_hot(targets, data.outputs)
        wanted = wanted if unit is None else unit.standardised(wanted)
        counts = wanted.double() @ torch.tensor(weights).to(wanted.device).double() if weights else None
        return solve_ridge(features, wanted, l2=options.l2, counts=None if counts is None else counts / counts.mean())
    loss = (logistic_loss if data.task == "multilabel" else softmax_loss)(targets, weights)
    limits: dict[str, Any] = {"tolerance": options.tolerance, "max_iterations": options.max_iterations}
    return solve(features, loss, data.outputs, l2=options.l2, **limits)


def _measure(
    head: nn.Linear, part: tuple[Tensor, Tensor], data: OpenData, loss: Named, unit: Unstandardise | None
) -> dict[str, float]:
    (features, targets), device = part, head.weight.device
    batch = Batch(features.to(head.weight.dtype), targets, torch.arange(len(targets)))
    metrics = make_metrics(None, data.task, data.outputs, device)
    forward = head if unit is None else nn.Sequential(head, unit)
    return measure(head, forward, [batch], make_loss(loss, data.task, device=device), metrics)
