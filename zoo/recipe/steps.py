"""The options of zoo's own sections and steps: one model a thing, read by validation, `zoo schema` and the engine.

A `Named` value is a bare name (`AdamW`) or a mapping of one name to its arguments (`{AdamW: {betas: [0.9, 0.95]}}`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


@dataclass(frozen=True)
class NameOf:
    """Marks a `Named` value with what it names, so that validation knows where to look the name up."""

    kind: Literal["optimizers", "schedulers", "losses", "metrics", "initializers", "modules"]


Named = str | Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=1)]
OptimizerName = Annotated[Named, NameOf("optimizers")]
SchedulerName = Annotated[Named, NameOf("schedulers")]
LossName = Annotated[Named, NameOf("losses")]
MetricName = Annotated[Named, NameOf("metrics")]
InitializerName = Annotated[Named, NameOf("initializers")]
# a module's arguments may also be its one argument, or the list of modules in a Sequential
ModuleName = Annotated[str | Annotated[dict[str, Any], Field(min_length=1, max_length=1)], NameOf("modules")]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]


class Options(BaseModel):
    """Base of every options model: unknown keys are mistakes, values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelOptions(Options):
    """`model:` what is built and which weights go in."""

    architecture: str
    arguments: dict[str, Any] = {}
    weights: str | None = None
    remap: str | list[Any] | None = None
    min_coverage: Fraction = 0.9


class DataOptions(Options):
    """`data:` where samples come from and how they become batches. `arguments` are the dataset component's own."""

    source: str
    arguments: dict[str, Any] = {}
    image_size: Positive | tuple[Positive, Positive] | None = None
    batch_size: Positive = 32
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    augmentation: Literal["none", "flip", "crop_flip", "randaugment", "trivial"] = "none"
    mean: list[float] | None = None
    std: list[float] | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    limit: Positive | None = None
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    cache: Literal["auto", "off", "memory"] = "auto"


class Train(Options):
    """`train:` minimises a loss over the trainable parameters. `lr` is per optimizer step; `warmup` is a number of
    steps (1 or more) or a share of all steps (below 1)."""

    epochs: Positive | None = None
    max_steps: Positive | None = None
    lr: Annotated[float, Field(gt=0)] = 1e-3
    optimizer: OptimizerName = "AdamW"
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    scheduler: SchedulerName | None = "cosine"
    warmup: Annotated[float, Field(ge=0)] = 0
    loss: LossName = "auto"
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    metrics: list[MetricName] | None = None
    batch_size: Positive | None = None
    clip_grad_norm: Annotated[float, Field(gt=0)] | None = None
    accumulate: Positive = 1
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    lr_scale: dict[str, Annotated[float, Field(ge=0)]] = {}
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    precision: Precision | None = None
    compile: bool = False
    trunk: Literal["auto", "off"] = "auto"
    views: Annotated[int, Field(ge=0)] = 0
    keep: Literal["last", "best"] = "last"


class Probe(Options):
    """`probe:` solves a linear head on the trunk's features. `l2` is the weight of 0.5 * |w|^2 beside the mean loss;
    `tolerance` is the largest gradient norm left."""

    kind: Literal["softmax", "ridge"] = "softmax"
    l2: Annotated[float, Field(ge=0)] = 1e-3
    tolerance: Annotated[float, Field(gt=0)] = 1e-5
    max_iterations: Positive = 1000


class Evaluate(Options):
    """`evaluate:` measures on the validation data, or on all data of another source."""

    data: str | None = None
    metrics: list[MetricName] | None = None


class Save(Options):
    """`save:` writes a checkpoint in the run's folder. `only: trainable` keeps what the base weights lack."""

    name: str = "model"
    only: Literal["all", "trainable"] = "all"
    dtype: Literal["float32", "float16", "bfloat16"] | None = None


class Load(Options):
    """`load:` a warm start from another checkpoint in the middle of a chain."""

    weights: str
    remap: str | list[Any] | None = None
    min_coverage: Fraction = 0.9
    strict_shapes: bool = True


class Init(Options):
    """`init:` fills parameters. `match` is a regular expression on module paths, `type` a module class's name;
    `weight` and `bias` are initializers. Or one `parameter` (a path in the state dict), at `index`, becomes `value`."""

    match: str | None = None
    type: str | None = None
    weight: InitializerName | None = None
    bias: InitializerName | None = None
    parameter: str | None = None
    index: list[int] | None = None
    value: float | None = None


STEPS: dict[str, type[Options]] = {
    "train": Train,
    "probe": Probe,
    "evaluate": Evaluate,
    "save": Save,
    "load": Load,
    "init": Init,
}
