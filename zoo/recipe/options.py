"""The options of a recipe's sections, and the types that options have: read by validation, `zoo schema` and the engine.

A `Named` value is a bare name (`AdamW`) or a mapping of one name to its arguments (`{AdamW: {betas: [0.9, 0.95]}}`).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import CoreSchema

from zoo.given import PREFIX

NAMES = "x-names"  # the keyword of a JSON Schema that says which names a value has


@dataclass(frozen=True)
class NameOf:
    """Marks a `Named` value with what it names, so that validation knows where to look the name up."""

    kind: Literal[
        "optimizers",
        "schedulers",
        "losses",
        "metrics",
        "initializers",
        "modules",
        "transforms",
        "callbacks",
        "trackers",
    ]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), NAMES: self.kind}  # `zoo schema` puts the names themselves in its place


Named = str | Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=1)]
OptimizerName = Annotated[Named, NameOf("optimizers")]
SchedulerName = Annotated[Named, NameOf("schedulers")]
LossName = Annotated[Named, NameOf("losses")]
MetricName = Annotated[Named, NameOf("metrics")]
InitializerName = Annotated[Named, NameOf("initializers")]
TransformName = Annotated[Named, NameOf("transforms")]
CallbackName = Annotated[Named, NameOf("callbacks")]
TrackerName = Annotated[Named, NameOf("trackers")]
# a module's arguments may also be its one argument, or the list of modules in a Sequential
ModuleName = Annotated[str | Annotated[dict[str, Any], Field(min_length=1, max_length=1)], NameOf("modules")]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
FeaturePrecision = Literal["auto", "exact", "float32", "bfloat16", "mixed"]
FeatureCacheUse = Literal["auto", "kept", "every_step", "off"]
MemoryLayout = Literal["auto", "contiguous", "channels_last"]
ViewName = Literal["flip", "vertical_flip", "rotations", "five_crop"]
VIEWS: tuple[str, ...] = get_args(ViewName)
Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
_DURATION = r"^([1-9][0-9]*h([0-9]+m)?([0-9]+s)?|[1-9][0-9]*m([0-9]+s)?|[1-9][0-9]*s)$"
Duration = Annotated[str, Field(pattern=_DURATION, examples=["10m", "1h30m", "45s"])]


def seconds_of(duration: str) -> int:
    """The seconds of a duration such as `1h30m`. Raises ValueError where it is none."""
    if re.fullmatch(_DURATION, duration) is None:
        raise ValueError(f"{duration!r} is no time such as 10m, 1h30m or 45s")
    return sum(int(number) * {"h": 3600, "m": 60, "s": 1}[unit] for number, unit in re.findall(r"(\d+)(\w)", duration))


class Options(BaseModel):
    """Base of every options model: unknown keys are mistakes, values do not change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
    renamed: ClassVar[Mapping[str, str]] = {}  # keys of former versions -> what each is called now


class ModelOptions(Options):
    """`model:` what is built and which weights go in."""

    architecture: str
    """The network: `timm/resnet50`, or the bare name while it is unique."""
    arguments: dict[str, Any] = {}
    """What the architecture is built with."""
    weights: str | dict[str, dict[str, Any] | None] | None = None
    """A weights component (`{NAME: {…}}` gives it arguments), a tag of the architecture, `hf://ORG/REPO[/FILE]`, or a
    file (looked for beside the recipe, then in the current directory). Without it parameters are fresh."""
    remap: str | dict[str, Any] | list[Any] | None = None
    """How the names in the file become the model's: one of these, or a list of them: a rule, an installed remap,
    a file of rules, `OLD=NEW`, `auto`."""
    min_coverage: Fraction = 1.0
    """The share of the parameters, outside a head that a step replaces, that the weights have to fill, and of the file
    that has to be used."""


class CheckpointOptions(Options):
    """`model: {checkpoint: …}` a model that zoo wrote goes on."""

    checkpoint: str
    """A file that zoo wrote, or the folder of a run (looked for beside the recipe, then in the current directory), or
    one that was pushed, `hf://ORG/REPO[/FILE][@REVISION]`: the architecture, the steps that changed it, the weights,
    the preprocessing and the classes are those of the file."""


class BestBy(Options):
    """`keep: {best: METRIC}` keeps the epoch that is best by it."""

    best: str
    """A metric by its name, measured too where `metrics` lacks it, or `loss`, that of validation; `f1(class=NAME)` is
    that of one class."""


class EarlyStopping(Options):
    """`early_stopping:` ends training once validation gets no better."""

    patience: Positive
    """End after so many epochs in a row without a better one."""
    metric: str | None = None
    """What has to get better, by its name, or `loss`, that of validation; what `keep` goes by without it."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """An epoch is better that is better by more than this."""


class UnfreezeGradually(Options):
    """`unfreeze_gradually:` trains the head first, then thaws the network from the top down."""

    every: Positive = 1
    """Thaw the next group after so many epochs."""
    groups: Literal["stages", "blocks"] | Annotated[list[str], Field(min_length=1)] = "stages"
    """What thaws at a time: `layer4`, then `layer3` and so on, or a block each, or what the next one of these regular
    expressions on parameter names finds; what none of them finds stays frozen."""


class Average(Options):
    """`average:` one network of several epochs' weights; one of these."""

    last: Annotated[int, Field(ge=2)] | None = None
    """The mean of so many epochs at the end (a uniform soup)."""
    greedy: Annotated[int, Field(ge=2)] | None = None
    """Of so many epochs that were best in validation, those that the mean gets no worse with (a greedy soup)."""
    swa: Annotated[float, Field(gt=0)] | None = None
    """The mean of all epochs from this one on (1 or more), or from this share of them on (below 1)."""

    def first(self, epochs: int) -> int:
        """The first epoch, from 1, that `swa` counts."""
        start = self.swa or 1
        return min(int(start) if start >= 1 else 1 + math.floor(start * epochs), epochs)


class DataOptions(Options):
    """`data:` where samples come from and how they become batches. `arguments` are the dataset component's own."""

    source: str
    """The dataset component."""
    arguments: dict[str, Any] = {}
    """Its own arguments; they may as well stand beside `source`."""
    image_size: Positive | tuple[Positive, Positive] | None = None
    """Side in pixels, or [height, width]; the weights' own size without it. A network of a fixed size is built for
    it, and its positions are resampled."""
    channels: Positive | Literal["auto"] = "auto"
    """Channels of an image as the network gets it: those that it takes, or a number that it is built for."""
    layout: Literal["auto", "channels_first", "channels_last"] = "auto"
    """Where `.npy` files have their channels; `auto` goes by their shape."""
    range: Literal["auto", "uint8", "dtype", "measure"] | Annotated[list[float], Field(min_length=2, max_length=2)] = (
        "auto"
    )
    """What becomes 0 and 1: two numbers, the least and greatest value of the training part (`measure`), black and white
    of each image's own type (`dtype`), or of bytes, where deeper values keep their high byte (`uint8`). `auto` is
    `dtype` where the first training image has more than 8 bits."""
    batch_size: Positive = 32
    """Samples a step, all processes together."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The share held out where the dataset has no validation part."""
    test_fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The share held out for the one measurement at the end where the dataset has no test part; none without it."""
    split_seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Decides which samples are held out and which ones `limit` leaves; the recipe's `seed` without it."""
    augmentation: (
        Literal["none", "light", "strong", "flip", "crop_flip", "randaugment", "trivial"]
        | Annotated[str, Field(pattern=f"^{PREFIX}"), SkipJsonSchema()]
    ) = "none"
    """Random changes to training images: `light` hurts hardly ever, `strong` is for little data and long training."""
    transforms: list[TransformName] = []
    """Changes to training images in this order, in place of `augmentation`: classes of torchvision.transforms.v2 with
    their arguments, and plugins' transforms."""
    mean: list[float] | Literal["measure"] | None = None
    """Per channel, of values scaled to 0..1, or `measure`: that of the training part. The weights' own without it."""
    std: list[float] | Literal["measure"] | None = None
    """Per channel, or `measure`; the weights' own without it."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    """How images are resized; the weights' own way without it."""
    limit: Positive | None = None
    """At most so many samples in each part, chosen by class."""
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Threads or processes that decode images."""
    cache: Literal["auto", "off", "memory"] = "auto"
    """Whether decoded images stay in memory: where they fit, never, or always."""


_PATHS = ("path", "root", "folder", "file", "validation")  # what data sets call the arguments that are paths


def located(options: DataOptions) -> DataOptions:
    """The same options with the paths among the data set's arguments complete: they are found from any folder.

    A text counts as a path where something is there, and its name or a separator in it says that it is one.
    """
    arguments = {key: _complete(key, value) for key, value in options.arguments.items()}
    return options.model_copy(update={"arguments": arguments})


def _complete(key: str, value: Any) -> Any:
    if not isinstance(value, str) or not (key in _PATHS or os.sep in value):
        return value
    path = os.path.abspath(os.path.expanduser(value))
    return path if os.path.exists(path) else value
