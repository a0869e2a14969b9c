"""What plugins and zoo share: the dataclasses that components take and return, and each kind's contract.

Importing this module does not import torch. Plugins import these names from `zoo.api`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn


CONTRACTS = {
    "architectures": "a source: names() without torch, build(name, **arguments) -> nn.Module, and optionally "
    "tags(name), weights(name, tag) -> Weights, preprocessing(name, tag) -> Preprocessing; "
    "or one callable (**arguments) -> nn.Module",
    "surgeries": "(model, *, …) -> nn.Module; operates in place and returns the model",
    "freezing": "(model, *, …) -> iterable of dotted names of parameters and modules to freeze",
    "modules": "an nn.Module class or a factory (…) -> nn.Module",
    "datasets": "(*, …) -> Data",
    "weights": "() -> Weights",
    "remaps": "() -> a list of rules, as they would stand under `remap:` in a recipe",
    "initializers": "(tensor, *, …) -> None; fills the tensor in place, under torch.no_grad",
    "steps": "a class derived from zoo.api.Step: its fields are the options, run(run) does it, check(rehearsal) takes "
    "it on meta before a run, row(record) is its line in the summary",
}


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the tensor a network was trained on.

    `size` is (height, width) in pixels; `mean` and `std` are per channel, of values scaled to 0..1;
    `crop_fraction` is the share of the resized short side that the centre crop keeps; `channels` is the number of
    input channels. `interpolation` is `nearest`, `bilinear`, `bicubic` or `lanczos`.
    """

    size: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bilinear"
    crop_fraction: float = 0.875
    channels: int = 3

    def as_dict(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

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
    the way the upstream library does, after `remap`.
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


@runtime_checkable
class ArchitectureSource(Protocol):
    """Many architectures behind one entry point, whose name is their namespace (`timm` in `timm/resnet50`).

    `tags(name) -> list[str]`, `weights(name, tag) -> Weights` and `preprocessing(name, tag) -> Preprocessing` are
    optional beside these two.
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
    says: a class index ("classification"), a multi-hot vector ("multilabel"), a float or a vector of floats
    ("regression"). `validation`, which chooses among epochs and settings, may be None: a seeded part of `train` is then
    held out. `test` is measured once, at the end of a run; without it the validation data has to report, too.
    `classes` are the class names by index; without them they are called 0, 1, …. `notes` are remarks for the person on
    how the data was read (which folder was taken for which part).
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
    data, `model_classes` those that the model gives scores for as it is, where that is known; `notes` takes remarks for
    the person. A surgery that takes back what earlier ones built puts their full names into `takes_back`: a checkpoint
    records neither them nor it, where the structure is the same without.
    """

    num_classes: int | None = None
    classes: tuple[str, ...] = ()
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    task: str = "classification"
    resolved: dict[str, Any] = field(default_factory=dict, compare=False)
    model_classes: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list, compare=False)
    takes_back: list[str] = field(default_factory=list, compare=False)
