"""What the names in a recipe's options stand for (optimizers, schedulers, losses, metrics, transforms, …): the engine's
own words, then classes of torch, timm, torchmetrics and torchvision, then installed components. No library is imported
before a name of its kind is looked up."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from zoo import registry
from zoo.errors import InputError, any_of, did_you_mean
from zoo.isolation import failure_of
from zoo.recipe.options import TransformName
from zoo.recipe.signature import converted

Factory = Callable[..., Any]
Catalogue = dict[str, Callable[[], Factory | None]]  # name -> what loads it; None: the training engine's own word

# zoo's own schedules: the torch class that each is made with, when it moves, and what it does without arguments. They
# are no aliases: a class by its own name has torch's defaults, and moves when torch's documentation calls its step()
SCHEDULES = {
    "cosine": ("CosineAnnealingLR", "step", "from lr to 0 over the entire training"),
    "linear": ("LinearLR", "step", "from lr to 0 over the entire training"),
    "polynomial": ("PolynomialLR", "step", "from lr to 0 over the entire training, by a power"),
    "one_cycle": ("OneCycleLR", "step", "up to lr and down again over the entire training"),
    "constant": ("ConstantLR", "epoch", "lr throughout"),
    "step": ("StepLR", "epoch", "a tenth after each third of the epochs"),
    "exponential": ("ExponentialLR", "epoch", "times gamma, which it needs"),
    "plateau": ("ReduceLROnPlateau", "epoch", "a tenth when the first metric has not improved for 10 epochs"),
}
SCHEDULERS = {name: full for name, (full, _, _) in SCHEDULES.items()}
# what moves with every optimizer step; the rest move once an epoch
EVERY_STEP = (*(name for name, (_, unit, _) in SCHEDULES.items() if unit == "step"), "OneCycleLR", "CyclicLR")
# those that go by a metric of the validation data
PLATEAUS = ("ReduceLROnPlateau", "PlateauLRScheduler")
# timm's warm-up, which `warmup` of the step takes the place of: it begins at a rate that all groups share
TIMM_WARMUP = ("warmup_t", "warmup_lr_init", "warmup_prefix")
# short names -> the class each stands for
LOSSES = {
    "cross_entropy": "CrossEntropyLoss",
    "l1": "L1Loss",
    "mse": "MSELoss",
    "bce": "BCEWithLogitsLoss",
}
# the engine's own short names; which torchmetrics class or loss each is depends on the task
METRICS = (
    *("accuracy", "top5", "balanced_accuracy", "f1", "precision", "recall", "average_precision", "auroc"),
    *("mae", "mse", "r2", "pearson"),
)
# parameters the engine supplies: how many by position, and which by name
SUPPLIED: dict[str, tuple[int, tuple[str, ...]]] = {
    "optimizers": (1, ("lr",)),
    "schedulers": (1, ("last_epoch",)),
    "losses": (2, ("task",)),
    "metrics": (2, ()),
    "initializers": (1, ("generator",)),
    "modules": (0, ("device", "dtype")),
    "transforms": (1, ()),
    "callbacks": (0, ()),
    "trackers": (0, ()),
}
# components of zoo's own plugins that are installed only when asked for -> the extra that has them
EXTRAS = {("trackers", "tensorboard"): "tensorboard", ("steps", "look"): "tensorboard"}
CALLED = ("losses", "metrics", "transforms")  # of these a class is made first, and its objects get what is supplied
# what the engine works out from the length of the training, when a recipe leaves it out
FILLED = {
    "cosine": ("T_max",),
    "CosineAnnealingLR": ("T_max",),
    "step": ("step_size",),
    "one_cycle": ("max_lr",),
    "OneCycleLR": ("max_lr",),
    **dict.fromkeys(("CosineLRScheduler", "TanhLRScheduler", "PolyLRScheduler", "WSDLRScheduler"), ("t_initial",)),
    **dict.fromkeys(("RandomCrop", "CenterCrop"), ("size",)),
    **dict.fromkeys(("RandomResizedCrop", "Resize"), ("size", "interpolation")),
    "RandomErasing": ("value",),
}
FILLED_FOR_PLUGINS = {"schedulers": ("total_steps", "total_epochs")}
# torch.nn classes that are no layer by themselves; schedulers and optimizers that take code or closures
_NO_LAYERS = ("Module", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "Container", "DataParallel")
_NO_SCHEDULERS = ("LRScheduler", "LambdaLR", "MultiplicativeLR", "ChainedScheduler", "SequentialLR")
_NO_OPTIMIZERS = ("Optimizer", "LBFGS", "SparseAdam")
OF_VALIDATION = re.compile("^(val|valid|validation|eval)[_/]")  # what other libraries put in front of a metric's name
OF_TRANSFORMS = ("RandomApply", "RandomChoice", "RandomOrder")  # torchvision's that take transforms, by their names
# torchvision transforms of other things than one uint8 image, to another thing, or of code
_NO_TRANSFORMS = (
    *("Transform", "MixUp", "CutMix", "Compose", "FiveCrop", "TenCrop"),
    *("RandomIoUCrop", "ClampBoundingBoxes", "ClampKeyPoints", "ConvertBoundingBoxFormat", "SetClampingMode"),
    *("ConvertImageDtype", "GaussianNoise", "Lambda", "LinearTransformation", "Normalize", "SanitizeBoundingBoxes"),
    *("SanitizeKeyPoints", "ToDtype", "UniformTemporalSubsample", "PILToTensor", "ToImage", "ToPILImage"),
    *("ToPureTensor", "ToTensor"),
)


def find(kind: str, name: str) -> Factory | None:
    """What `name` stands for among `kind`; None for a word whose meaning comes from the task (`auto`, `accuracy`).

    Raises InputError with the nearest names when nothing of that kind is called so.
    """
    for catalogue in _SOURCES[kind]:
        if name in catalogue():
            return _loaded(name, catalogue()[name])
    if because := registry.why_absent(name, kind) if "/" in name else None:
        raise because
    by_case = {known.lower(): known for known in reversed(names(kind))}  # torch's spelling before timm's
    meant = OF_VALIDATION.sub("", name) if kind == "metrics" else name
    hint = missing_plugin(kind, name) or dotted(name, by_case.values()) or did_you_mean(meant, by_case.values())
    hint = hint or (f"for instance {', '.join(names(kind)[:4])}" if by_case else "no plugin that has one is installed")
    singular = {"losses": "loss"}.get(kind, kind.removesuffix("s"))
    raise InputError(f"no {singular} is called {name!r}", suggestion=hint)


def missing_plugin(kind: str, name: str) -> str | None:
    """What installs the component, where it is one of a plugin of zoo's own that is not there."""
    return f'pip install "zoo-kit[{extra}]"' if (extra := EXTRAS.get((kind, name.rpartition("/")[2]))) else None


def component_of(kind: str, name: str) -> registry.Component | None:
    """The installed component that `find` gives for `name`; None for the engine's own words and the libraries' names.

    Raises InputError where several components are meant.
    """
    *libraries, _ = _SOURCES[kind]
    if any(name in catalogue() for catalogue in libraries):
        return None
    own = [row for row in registry.named(name, kind) if row.distribution == registry.CORE]
    return own[0] if own else registry.find(name, kind)


def supplied(kind: str, factory: Factory) -> tuple[int, tuple[str, ...]]:
    """The parameters of `factory` that the engine supplies: how many by position, and which by name."""
    first, by_name = SUPPLIED[kind]
    if kind == "schedulers" and is_timm(factory):
        by_name = (*by_name, "initialize", *TIMM_WARMUP)
    return (0 if kind in CALLED and inspect.isclass(factory) else first), by_name


def is_timm(factory: Factory) -> bool:
    """Whether a scheduler is one of timm.scheduler, which counts epochs or updates itself."""
    return getattr(factory, "__module__", "").startswith("timm.")


def bound(kind: str, factory: Factory, arguments: Mapping[str, Any]) -> Factory:
    """What is called with what the engine supplies: an object of a class, or a function with its arguments."""
    arguments = converted(factory, arguments)
    if kind in CALLED and not inspect.isclass(factory):
        return functools.partial(factory, **arguments)
    made: Factory = factory(**arguments)
    return made


def dotted(name: str, known: Iterable[str]) -> str | None:
    """What to say of `torch.nn.ReLU`, `torchvision.models.resnet18` and the like: a recipe names, it never imports."""
    if "." not in name or "/" in name:
        return None
    ends = [each for each in known if each.rpartition("/")[2] == name.rpartition(".")[2]]
    return f"write {any_of(ends)}" if ends else "recipes name what is installed, they import nothing"


def _loaded(name: str, load: Callable[[], Factory | None]) -> Factory | None:
    try:
        return load()
    except InputError:
        raise
    except Exception as error:  # timm lists optimizers whose libraries need not be installed
        raise InputError(f"{name} cannot be used here: {failure_of(error)}") from error


def names(kind: str) -> list[str]:
    """All names of one kind, short names and torch's first."""
    return list(dict.fromkeys(name for catalogue in _SOURCES[kind] for name in catalogue()))


def _classes(module: str, base: str, without: tuple[str, ...] = ()) -> Iterator[tuple[str, type]]:
    """The public classes of a module that derive from `base` (a dotted path), but for those it has deprecated."""
    holder, _, attribute = base.rpartition(".")
    parent = getattr(importlib.import_module(holder), attribute)
    for name, value in vars(importlib.import_module(module)).items():
        if not isinstance(value, type) or "__deprecated__" in vars(value):
            continue
        if issubclass(value, parent) and not name.startswith("_") and name not in without:
            yield name, value


def _catalogue(classes: Iterator[tuple[str, Factory]], short: dict[str, str] | None = None) -> Catalogue:
    found: Catalogue = {name: lambda value=value: value for name, value in classes}  # type: ignore[misc]
    return {**{name: found[full] for name, full in (short or {}).items()}, **found}


@functools.cache
def _optimizers() -> Catalogue:
    return _catalogue(_classes("torch.optim", "torch.optim.Optimizer", _NO_OPTIMIZERS))


@functools.cache
def _timm_optimizers() -> Catalogue:
    optim = importlib.import_module("timm.optim")
    return {name: functools.partial(optim.get_optimizer_class, name) for name in optim.list_optimizers()}


@functools.cache
def _schedulers() -> Catalogue:
    module = "torch.optim.lr_scheduler"
    return _catalogue(_classes(module, f"{module}.LRScheduler", _NO_SCHEDULERS), SCHEDULERS)


@functools.cache
def _timm_schedulers() -> Catalogue:
    return _catalogue(_classes("timm.scheduler", "timm.scheduler.scheduler.Scheduler", ("Scheduler",)))


@functools.cache
def _losses() -> Catalogue:
    """torch.nn's losses of one output and one target."""
    classes = _classes("torch.nn", "torch.nn.modules.loss._Loss")
    pairs = ((name, kind) for name, kind in classes if len(inspect.signature(kind.forward).parameters) == 3)  # type: ignore[attr-defined]
    return {"auto": lambda: None, **_catalogue(pairs, LOSSES)}


def _usual_metrics() -> Catalogue:
    """The engine's short names, and losses by the names of their classes or their own short ones."""
    losses = {name: load for name, load in _losses().items() if name.endswith("Loss") or name in LOSSES}
    own: Catalogue = {name: lambda: None for name in METRICS}
    return own | {name: make for name, make in losses.items() if name not in own}


@functools.cache
def _metrics() -> Catalogue:
    return _catalogue(_classes("torchmetrics", "torchmetrics.Metric", ("Metric",)))


@functools.cache
def _initializers() -> Catalogue:
    """torch.nn.init's functions, called `normal` or `normal_`."""
    functions = vars(importlib.import_module("torch.nn.init")).items()
    found = [(name, value) for name, value in functions if name.endswith("_") and not name.startswith("_")]
    return _catalogue(iter([*((name.rstrip("_"), value) for name, value in found), *found]))


@functools.cache
def _layers() -> Catalogue:
    lazy = importlib.import_module("torch.nn.modules.lazy").LazyModuleMixin
    classes = _classes("torch.nn", "torch.nn.Module", _NO_LAYERS)
    return _catalogue((name, kind) for name, kind in classes if not issubclass(kind, lazy))


@functools.cache
def _transforms() -> Catalogue:
    classes = dict(_classes("torchvision.transforms.v2", "torchvision.transforms.v2.Transform", _NO_TRANSFORMS))
    for name in OF_TRANSFORMS:
        classes[name] = _annotated(classes[name], transforms=Annotated[list[TransformName], Field(min_length=1)])
    classes["RandomErasing"] = _annotated(classes["RandomErasing"], value=float | list[float] | Literal["random"])
    return _catalogue(iter(classes.items()))


def _annotated(kind: type, **annotations: Any) -> type:
    """A class with the given parameters annotated as a recipe may write them, where its own say less; what it makes are
    objects of `kind` itself, which can be pickled."""
    known = inspect.signature(kind)
    changed = [p.replace(annotation=annotations.get(p.name, p.annotation)) for p in known.parameters.values()]
    own = {
        "__doc__": kind.__doc__,
        "__signature__": known.replace(parameters=changed),
        "__new__": lambda _, *given, **named: kind(*given, **named),
    }
    return type(kind.__name__, (kind,), own)


def _plugins(kind: str) -> Catalogue:
    """The installed components of a kind by full and by bare name; loading one says what is wrong with it. A bare name
    of zoo's own is zoo's, whatever plugins call theirs."""
    rows = registry.components(kind)
    written = [*(row.name for row in rows), *(row.short for row in rows)]
    own = {row.short: functools.partial(registry.load, row) for row in rows if row.distribution == registry.CORE}
    return {**{name: functools.partial(registry.load, name, kind) for name in written}, **own}


_SOURCES: dict[str, tuple[Callable[[], Catalogue], ...]] = {
    "optimizers": (_optimizers, _timm_optimizers),
    "schedulers": (_schedulers, _timm_schedulers),
    "losses": (_losses,),
    "metrics": (_usual_metrics, _metrics),
    "initializers": (_initializers,),
    "modules": (_layers,),
    "transforms": (_transforms,),
    "callbacks": (),
    "trackers": (),
}
_SOURCES = {kind: (*libraries, functools.partial(_plugins, kind)) for kind, libraries in _SOURCES.items()}
