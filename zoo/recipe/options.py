"""The options of zoo's own sections and steps: one model a thing, read by validation, `zoo schema` and the engine.

A `Named` value is a bare name (`AdamW`) or a mapping of one name to its arguments (`{AdamW: {betas: [0.9, 0.95]}}`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import CoreSchema

from zoo.given import PREFIX

NAMES = "x-names"  # the keyword of a JSON Schema that says which names a value has


@dataclass(frozen=True)
class NameOf:
    """Marks a `Named` value with what it names, so that validation knows where to look the name up."""

    kind: Literal["optimizers", "schedulers", "losses", "metrics", "initializers", "modules"]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(core), NAMES: self.kind}  # `zoo schema` puts the names themselves in its place


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

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)
    renamed: ClassVar[Mapping[str, str]] = {}  # keys of former versions -> what each is called now


class ModelOptions(Options):
    """`model:` what is built and which weights go in."""

    architecture: str
    """The network: `timm/resnet50`, or the bare name while it is unique."""
    arguments: dict[str, Any] = {}
    """What the architecture is built with."""
    weights: str | None = None
    """A weights component, a tag of the architecture, `hf://ORG/REPO[/FILE]`, or a file (looked for beside the
    recipe, then in the current directory). Without it parameters are fresh."""
    remap: str | dict[str, Any] | list[Any] | None = None
    """How the names in the file become the model's: one of these, or a list of them: a rule, an installed remap,
    a file of rules, `OLD=NEW`, `auto`."""
    min_coverage: Fraction = 1.0
    """The share of the parameters, outside a head that a step replaces, that the weights have to fill, and of the file
    that has to be used."""


class DataOptions(Options):
    """`data:` where samples come from and how they become batches. `arguments` are the dataset component's own."""

    source: str
    """The dataset component."""
    arguments: dict[str, Any] = {}
    """Its own arguments; they may as well stand beside `source`."""
    image_size: Positive | tuple[Positive, Positive] | None = None
    """Side in pixels, or [height, width]; the weights' own size without it."""
    batch_size: Positive = 32
    """Samples a step, all processes together."""
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The share held out where the dataset has no validation part."""
    augmentation: (
        Literal["none", "flip", "crop_flip", "randaugment", "trivial"]
        | Annotated[str, Field(pattern=f"^{PREFIX}"), SkipJsonSchema()]
    ) = "none"
    """Random changes to training images."""
    mean: list[float] | None = None
    """Per channel, of values scaled to 0..1; the weights' own without it."""
    std: list[float] | None = None
    """Per channel; the weights' own without it."""
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    """How images are resized; the weights' own way without it."""
    limit: Positive | None = None
    """At most so many samples in each part, chosen by class."""
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    """Threads or processes that decode images."""
    cache: Literal["auto", "off", "memory"] = "auto"
    """Whether decoded images stay in memory: where they fit, never, or always."""


class Train(Options):
    """`train:` minimises a loss over the trainable parameters. `lr` is per optimizer step; `warmup` is a number of
    steps (1 or more) or a share of all steps (below 1)."""

    renamed: ClassVar = {"trunk": "feature_cache"}

    epochs: Positive | None = None
    """Passes over the training data; this or `max_steps`."""
    max_steps: Positive | None = None
    """Stop after so many optimizer steps."""
    lr: Annotated[float, Field(gt=0)] = 1e-3
    """Learning rate at its highest."""
    optimizer: OptimizerName = "AdamW"
    """A class of torch.optim, or a name that timm gives."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """The optimizer's own without it."""
    scheduler: SchedulerName | None = "cosine"
    """How the learning rate falls: a schedule of zoo's, fitted to the length of the training, or a class of
    torch.optim.lr_scheduler with its own arguments; null keeps it."""
    warmup: Annotated[float, Field(ge=0)] = 0
    """Steps over which the learning rate rises (1 or more), or their share of all steps (below 1)."""
    loss: LossName = "auto"
    """A loss of torch.nn; `auto` goes by the data's task."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each target spread over all classes."""
    metrics: list[MetricName] | None = None
    """Classes of torchmetrics beside the loss; those of the data's task without it."""
    batch_size: Positive | None = None
    """Goes over `data.batch_size`."""
    clip_grad_norm: Annotated[float, Field(gt=0)] | None = None
    """Largest norm of all gradients together."""
    accumulate: Positive = 1
    """Batches whose gradients make one optimizer step."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None
    """Each layer's learning rate is the next one's times this."""
    lr_scale: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Factors on the learning rate by a regular expression on parameter names."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of a moving average of the weights, which is then what is evaluated and kept."""
    precision: Precision | None = None
    """Goes over the recipe's `precision`."""
    compile: bool = False
    """Run the model through torch.compile."""
    feature_cache: Literal["auto", "off"] = "auto"
    """Whether the features of a frozen backbone are computed once and kept."""
    views: Annotated[int, Field(ge=0)] = 0
    """Augmented passes over the images whose features are kept; 0 keeps those of one plain pass."""
    keep: Literal["last", "best"] = "last"
    """Which epoch's weights remain."""
    tensorboard: bool = False
    """Keep curves of losses, metrics, learning rate and images a second, in `tensorboard/` in the run's folder."""


class Probe(Options):
    """`probe:` solves a linear head on the trunk's features. `l2` is the weight of 0.5 * |w|^2 beside the mean loss;
    `tolerance` is the largest gradient norm left."""

    kind: Literal["softmax", "ridge"] = "softmax"
    """Logistic regression, or least squares on one-hot targets."""
    l2: Annotated[float, Field(ge=0)] = 1e-3
    """Weight of 0.5 * |w|^2 beside the mean loss."""
    tolerance: Annotated[float, Field(gt=0)] = 1e-5
    """Largest gradient norm left."""
    max_iterations: Positive = 1000
    """Give up after so many."""


class Evaluate(Options):
    """`evaluate:` measures on the validation data, or on all data of another source."""

    data: str | None = None
    """All of another dataset: a component, a folder of images or a CSV file; the validation data without it."""
    metrics: list[MetricName] | None = None
    """Classes of torchmetrics; those of the data's task without it."""


class Look(Options):
    """`look:` writes pictures for TensorBoard: the samples, and what chosen modules make of them."""

    modules: str | list[str] = []
    """Paths of modules whose inputs and outputs are drawn as feature maps."""
    samples: Positive = 8
    """So many samples of the validation data."""
    graph: bool = True
    """Also the graph of the model's operations."""
    images: bool = True
    """Also the samples, as they looked before they were normalised."""


class Save(Options):
    """`save:` writes a checkpoint in the run's folder. `only: trainable` keeps what the base weights lack."""

    name: str = "saved"
    """The file in the run's folder, one plain name without its suffix; `model` is the finished model's own."""
    only: Literal["all", "trainable"] = "all"
    """`trainable` keeps what the base weights lack."""
    dtype: Literal["float32", "float16", "bfloat16"] | None = None
    """Floating tensors are cast to it; as they are without it."""

    @property
    def file(self) -> str:
        """The checkpoint's name in the run's folder."""
        return f"{self.name.removesuffix('.safetensors')}.safetensors"


class Load(Options):
    """`load:` a warm start from another checkpoint in the middle of a chain."""

    weights: str
    """A weights component, `hf://ORG/REPO[/FILE]`, or a file."""
    remap: str | dict[str, Any] | list[Any] | None = None
    """As in `model`."""
    min_coverage: Fraction = 1.0
    """The share of the parameters that the weights have to fill, and of the file that has to be used."""
    strict_shapes: bool = True
    """Whether a tensor of another shape is an error; otherwise it is left out and reported."""


class Init(Options):
    """`init:` fills parameters. `match` is a regular expression on module paths, `type` a module class's name;
    `weight` and `bias` are initializers. Or one `parameter` (a path in the state dict), at `index`, becomes `value`."""

    match: str | None = None
    """A regular expression on module paths."""
    type: str | None = None
    """The name of a module class."""
    weight: InitializerName | None = None
    """What fills the weights: a function of torch.nn.init or a plugin's."""
    bias: InitializerName | None = None
    """What fills the biases."""
    parameter: str | None = None
    """One parameter by its path in the state dict."""
    index: list[int] | None = None
    """The element of it that is set; all of it without."""
    value: float | None = None
    """What it is set to."""


STEPS: dict[str, type[Options]] = {
    "train": Train,
    "probe": Probe,
    "evaluate": Evaluate,
    "look": Look,
    "save": Save,
    "load": Load,
    "init": Init,
}
