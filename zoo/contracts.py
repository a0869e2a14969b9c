"""What plugins and zoo share: the dataclasses that components take and return, and each kind's contract.

Importing this module does not import torch. Plugins import these names from `zoo.api`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim import Optimizer


CONTRACTS = {
    "architectures": "a source: names() without torch, build(name, **arguments) -> nn.Module, and optionally "
    "tags(name), weights(name, tag) -> Weights, weights_at(name, location) -> Weights, "
    "preprocessing(name, tag[, arguments]) -> Preprocessing, resolve(name, arguments) -> arguments; "
    "or one callable (**arguments) -> nn.Module",
    "surgeries": "(model, *, …) -> nn.Module; operates in place and returns the model",
    "freezing": "(model, *, …) -> iterable of dotted names of parameters and modules to freeze",
    "modules": "an nn.Module class or a factory (…) -> nn.Module",
    "datasets": "(*, …) -> Data",
    "weights": "(*, …) -> Weights",
    "remaps": "() -> a list of rules, as they would stand under `remap:` in a recipe",
    "initializers": "(tensor, *, …) -> None; fills the tensor in place, under torch.no_grad",
    "steps": "a class derived from zoo.api.Step: its fields are the options, run(run) does it, check(rehearsal) takes "
    "it on meta before a run, row(record) is its line in the summary",
    "transforms": "(image, *, …) -> image, or a class of (…) whose objects are called so: a uint8 tensor [channels, "
    "height, width] to one of any size; random numbers come from torch's, numpy's or random's own generator, which zoo "
    "seeds for each image",
    "losses": "(outputs, targets, *, …) -> a value a sample [b], or a class of (…) whose objects are called so: "
    "outputs are float32 [b, k], targets class indices [b] or floats [b, k]; an nn.Module with `reduction` may give "
    "one number, as torch's do",
    "metrics": "(outputs, targets, *, …) -> one number of all samples, or a class of (…) whose objects are called so, "
    "or a torchmetrics.Metric; outputs [n, k] are the network's own (logits or values); `higher_is_better = False` "
    "says so of an error",
    "optimizers": "(params, *, lr, …) -> torch.optim.Optimizer: params are groups that have lr and, where the "
    "signature has it, weight_decay",
    "schedulers": "(optimizer, *, …) -> an object with step(), state_dict() and load_state_dict(): it moves with every "
    "optimizer step where the signature has `total_steps`, which zoo fills in, else after every epoch (`total_epochs`)",
    "callbacks": "a class derived from zoo.api.Callback: the options are those of __init__, its hooks are called by "
    "the training loop, in every process",
    "trackers": "a class derived from zoo.api.Tracker: the options are those of __init__; start(run), "
    "log(values, step) and finish() are called in the main process",
}


UNUSUAL: Mapping[str, Any] = {"range": None, "layout": "auto"}  # what a preprocessing has that few need
ValueRange = tuple[float, float] | Literal["dtype"] | None


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the tensor a network was trained on.

    `size` is (height, width) in pixels; `mean` and `std` are per channel, of values scaled to 0..1;
    `crop_fraction` is the share of the resized short side that the centre crop keeps; `channels` is the number of
    input channels. `interpolation` is `nearest`, `bilinear`, `bicubic` or `lanczos`.

    `range` None means images of bytes. `dtype` keeps all bits of deeper images, scaled to 0..1 by what their type or
    file states; (low, high) are the values that become 0 and 1. `layout` says where arrays have their channels:
    `channels_first`, `channels_last`, or `auto`, by their shape.
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    crop_fraction: float = 0.875
    channels: int = 3
    range: ValueRange = None
    layout: str = "auto"

    def as_dict(self) -> dict[str, Any]:
        """Plain data; `range` and `layout` only where they are not the usual ones, which is what older files mean."""
        values = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}
        return {key: value for key, value in values.items() if (key, value) not in UNUSUAL.items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**arguments)


@dataclass(frozen=True)
class Weights:
    """Where trained parameters lie and what it takes to use them.

    `location` is a file path, `hf://org/repo[/file]` or an https address. `architecture` is the network they fit
    after `remap` (a registered remap's name, or rules) was applied. `sha256` is the whole digest or a prefix of at
    least 8 characters. `convert`, where given, turns the state dict read from `location` into the model's layout
    the way the upstream library does, after `remap`. `arguments` are those that the architecture has to be built with
    for them (a depth, a width); what a recipe writes under `model.arguments` goes before each.
    """

    location: str
    architecture: str
    remap: str | Sequence[Mapping[str, Any]] | None = None
    preprocessing: Preprocessing | None = None
    sha256: str | None = None
    classes: Sequence[str] | None = None
    license: str | None = None
    source: str | None = None
    convert: Callable[[dict[str, Any], nn.Module], dict[str, Any]] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class ArchitectureSource(Protocol):
    """Many architectures behind one entry point, whose name is their namespace (`timm` in `timm/resnet50`).

    Optional beside these two:

    - `tags(name) -> list[str]` and `weights(name, tag) -> Weights`: the pretrained weights known by name.
    - `weights_at(name, location) -> Weights | None`: what the library's own files beside weights say of them
      (`zoo.api.file_beside` finds these), of a file, a folder or an `hf://` address that a recipe names; None for
      nothing. A zoo checkpoint says it by itself, and is not asked about.
    - `preprocessing(name, tag) -> Preprocessing`; with a third parameter `arguments` it sees what is built.
    - `resolve(name, arguments) -> arguments`: those to build with and to record, with everything written out that is
      read elsewhere (a configuration file), so that a checkpoint builds its model where that is not. It is not asked
      when a checkpoint is loaded.
    """

    def names(self) -> Iterable[str]:
        """Names without the namespace, found by reading, not by importing torch."""
        ...

    def build(self, name: str, **arguments: Any) -> nn.Module:
        """The module with fresh parameters, on the default device (zoo builds under `torch.device('meta')` too)."""
        ...


@dataclass(frozen=True)
class Data:
    """What a dataset component returns.

    `train` and `validation` are map-style datasets (`__len__`, `__getitem__`) of (input, target). With `inputs`
    "image" an input is a PIL image, a uint8 tensor [c, h, w], or a path to an image file; zoo decodes, transforms and
    normalises. With `inputs` "features" it is a float tensor of any shape, taken as it is. A target is what `task`
    says: a class index, or in every sample a probability of each class ("classification"), a multi-hot vector
    ("multilabel"), a float or a vector of floats ("regression"). `validation`, which chooses among epochs and
    settings, may be None: a seeded part of `train` is then held out. `test` is measured once, at the end of a run;
    without it the validation data has to report, too. `classes` are the class names by index, and of a regression
    what its values are called; without them classes are 0, 1, …, values `value 1`, `value 2`, … (one alone: `value`).
    `notes` are remarks for the person on how the data was read (which folder was taken for which part).
    """

    train: Any
    validation: Any | None = None
    classes: Sequence[str] = ()
    task: str = "classification"
    inputs: str = "image"
    test: Any | None = None
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Context:
    """What the data and the weights say to a surgery: `auto` in a recipe is filled in from here.

    A surgery that names a keyword-only parameter `context` is handed this object; it is not part of its schema.
    What it works out by itself it may put into `resolved`, under the names of its parameters: a checkpoint keeps those
    values in place of the ones given, so that replaying the surgery works nothing out anew. `classes` are those of the
    data, `model_classes` those that the model gives scores for as it is, where that is known; `target_mean` and
    `target_std` are those of a regression's training targets, a number an output, where a new head shall give its
    values by way of them; `notes` takes remarks for the person. A surgery that takes back
    what earlier ones built puts their full names into `takes_back`: a checkpoint records neither them nor it, where the
    structure is the same without.
    """

    num_classes: int | None = None
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    task: str = "classification"
    resolved: dict[str, Any] = field(default_factory=dict, compare=False)
    model_classes: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list, compare=False)
    target_mean: tuple[float, ...] = ()
    target_std: tuple[float, ...] = ()
    takes_back: list[str] = field(default_factory=list, compare=False)

    @property
    def channels(self) -> int:
        """The channels of an image."""
        return self.preprocessing.channels


@dataclass
class Training:
    """A train step at work, as its callbacks see it.

    `model` is the model itself, `optimizer` steps its trainable parameters; both may be changed in place (learning
    rates: `optimizer.param_groups`; values under `torch.no_grad()`). What is frozen has to stay as it is. With a
    feature cache the loop runs the part of the model behind the frozen backbone: hooks on frozen modules are not
    called. `folder` is the run's, `label` is `train` or `train 2/3`. `epochs` and `steps` are those planned in all,
    `epoch` the complete epochs and `step` the optimizer steps done. `history` has a record an epoch: `{"epoch",
    "steps", "lr", "loss", "validation": {"loss", metric: …}, "images_per_second", "seconds"}`.
    """

    model: nn.Module
    optimizer: Optimizer
    device: torch.device
    folder: Path
    label: str
    epochs: int
    steps: int
    epoch: int = 0
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""
    notes: list[str] = field(default_factory=list, repr=False)

    def stop(self, reason: str) -> None:
        """Let the train step end behind this epoch, its measuring included; `reason` is said and reported.

        Where several processes train, one of them is enough.
        """
        self.stopped = self.stopped or reason

    def note(self, text: str) -> None:
        """A remark for the person."""
        self.notes.append(text)


class Callback:
    """Base of callbacks: what a hook does is up to the subclass, and every one may be left out.

    The options of a recipe are the parameters of `__init__`, which starts nothing and raises InputError where they do
    not fit. Hooks are called in every process, and have to do the same in each. What a callback has to know again in a
    resumed run it gives from `state_dict`: numbers, texts, tensors, and lists, tuples and mappings of these. A hook
    that raises ends the run with exit code 1; the last complete epoch is kept.
    """

    files: ClassVar[tuple[str, ...]] = ()
    """Names of the files and folders that it writes into the run's folder (in the main process only)."""

    def train_started(self, training: Training) -> None:
        """Before the first step; of a resumed train step before its next one, with the state loaded."""

    def epoch_started(self, training: Training) -> None:
        """Before an epoch's first batch; not again where a run is resumed in the middle of it."""

    def step_ended(self, training: Training) -> None:
        """After every optimizer step, with the learning rates for the next one set."""

    def validation_ended(self, training: Training, metrics: Mapping[str, float]) -> None:
        """An epoch was measured on the validation data: `metrics` has `loss` and the recipe's metrics."""

    def epoch_ended(self, training: Training) -> None:
        """An epoch is complete, its record the last of `training.history`; the resume state is written next."""

    def train_ended(self, training: Training) -> None:
        """The train step has ended, and the model has the weights that it leaves."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know again."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker gets to know of a run.

    `folder` is the run's, `id` a text of letters and digits that a resumed run has again, `recipe` the recipe as it is
    carried out. `step` are the optimizer steps done so far, by the train steps before as well: where the train step is
    `resumed`, what was logged beyond them is void.
    """

    name: str
    id: str
    folder: Path
    recipe: Mapping[str, Any]
    step: int = 0
    resumed: bool = False


class Tracker:
    """Base of trackers: where the numbers of a run go beside its folder.

    The options of a recipe are the parameters of `__init__`, which starts nothing and raises InputError where the
    tracker cannot be used here (a package is missing). The rest is called in the main process alone, `start` to
    `finish` once a train step. A tracker that raises is named once and left alone from then on; training goes on.
    """

    files: ClassVar[tuple[str, ...]] = ()
    """Names of the files and folders that it writes into the run's folder."""

    def start(self, run: TrackedRun) -> None:
        """A train step begins."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name (`train/loss`, `train/lr`, `validation/accuracy`) after `step` optimizer steps of the run."""

    def finish(self) -> None:
        """The train step has ended, or was interrupted."""
