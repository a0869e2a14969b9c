"""Freeze parameters, buffers and modules, and prove by hashes that they did not move (`hashes`, `prove`).

Frozen is: no gradient, not in the optimizer, in evaluation mode whatever calls `train()`. No module is swapped:
parameter objects and state-dict keys are the same before, during and after.

How a module is held in evaluation mode: `freeze` puts an instance of `HeldInEval` under `train` into the module's own
`__dict__`, where Python finds it before the class's method. `model.train()` recurses by calling `train` of each child,
so it meets that instance, which sets evaluation mode instead and remembers what was asked for. It is copied and pickled
along with the module, takes no part in the state dict, and removes itself once something below trains again (a surgery
after the freeze). `_RECORD`, in the `__dict__` of the model itself, keeps what was asked for by name, so that
`frozen_part` can renew the hold after modules were replaced.

Held in evaluation mode are
  - modules that `freeze` was given, with all that is inside them;
  - modules whose parameters are all frozen, with the dropout, drop path and functional dropout inside them;
  - modules that own a buffer that `freeze` was given, unless a module inside them still trains;
  - modules without parameters (dropout, an activation) between two frozen neighbours in their parent.
A module that is frozen in part stays in training mode, and so does dropout right in front of a trained layer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import InputError, Problem, did_you_mean

_RECORD = "_zoo_frozen"  # in the model's __dict__: what was asked for, by name


@dataclass(frozen=True)
class FrozenPart:
    """What is frozen, by state-dict name and module path; a shared tensor appears once, under its first name.

    `modules` are all modules held in evaluation mode (`""` is the model itself); `buffers` are those inside them and
    those that were named.
    """

    parameters: tuple[str, ...] = ()
    buffers: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Record:
    """What `freeze` was asked for. `stopped` are the parameters that did require a gradient until then."""

    parameters: frozenset[str]
    buffers: frozenset[str]
    modules: frozenset[str]
    stopped: tuple[str, ...]


class HeldInEval:
    """Takes the place of `module.train` and answers every mode with evaluation mode.

    It removes itself once something inside the module trains (a surgery after the freeze); a `pinned` module is held in
    any case: batch norm whose statistics are frozen while its bias trains.
    """

    def __init__(self, module: nn.Module, pinned: bool) -> None:
        self.module, self.pinned = module, pinned
        self.found = module.training
        self.asked: bool | None = None

    def __call__(self, mode: bool = True) -> nn.Module:
        if mode and not self.pinned and _trains(self.module):
            del self.module.__dict__["train"]
            self.module.train(mode)
        else:
            self.asked = mode
            type(self.module).train(self.module, False)  # the class's own: timm's LeViT drops a cache there
        return self.module


def freeze(model: nn.Module, names: Iterable[str]) -> FrozenPart:
    """Freeze exactly the named parameters, buffers and modules (with all that is inside them).

    The call is absolute: what an earlier one froze and this one does not name trains again; without names nothing is
    frozen. A parameter that the architecture itself made fixed stays fixed. Gradients left over from earlier steps are
    dropped, so that no optimizer moves a frozen parameter by them.
    Raises InputError with every name that is not in the model, and the nearest ones.
    """
    parameters, buffers, modules = _resolve(model, names)
    unfreeze(model)
    stopped = [name for name, p in model.named_parameters() if name in parameters and p.requires_grad]
    for name, parameter in model.named_parameters():
        if name in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
    if parameters or buffers or modules:
        model.__dict__[_RECORD] = _Record(parameters, buffers, modules, tuple(stopped))
    return frozen_part(model)


def unfreeze(model: nn.Module) -> None:
    """Undo `freeze`: what it stopped trains again, every module is in the mode it would be in without the freeze."""
    _release(model)
    for module in model.modules():  # the record lies deeper where a surgery has wrapped the model since
        record: _Record | None = module.__dict__.pop(_RECORD, None)
        if record is None:
            continue
        for name, parameter in module.named_parameters():
            if name in record.stopped:
                parameter.requires_grad_(True)


def frozen_part(model: nn.Module) -> FrozenPart:
    """What of the last `freeze` is frozen now, its modules kept in evaluation mode again.

    Call it after surgeries or after a conversion that made new modules (SyncBatchNorm): what was added since trains,
    what kept its name is frozen.
    """
    record: _Record | None = model.__dict__.get(_RECORD)
    if record is None:
        return FrozenPart()
    _release(model)
    held: set[int] = set()
    for module, pinned in list(_outermost(model, record)):
        holds = {inner: HeldInEval(inner, pinned) for inner in module.modules()}
        module.train(False)
        for inner, hold in holds.items():
            inner.__dict__["train"] = hold
            held.add(id(inner))
    inside = {id(b) for module in model.modules() if id(module) in held for b in module._buffers.values()}
    return FrozenPart(
        tuple(name for name, p in model.named_parameters() if name in record.parameters and not p.requires_grad),
        tuple(name for name, b in model.named_buffers() if id(b) in inside or name in record.buffers),
        tuple(path for path, module in model.named_modules() if id(module) in held),
    )


class Thawing:
    """Freezes parts of a model beside what `freeze` has frozen, other parts each time, and lets go of them again."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._before: _Record | None = model.__dict__.get(_RECORD)
        self._stopped: list[nn.Parameter] = []

    def hold(self, names: Iterable[str]) -> FrozenPart:
        """Freeze the named parameters too, and no longer those of the last call. All that is frozen now.

        Raises InputError with every name that is not in the model.
        """
        self.release()
        parameters, buffers, modules = _resolve(self.model, names)
        stopping = {name: p for name, p in self.model.named_parameters() if name in parameters and p.requires_grad}
        for parameter in stopping.values():
            parameter.requires_grad_(False)
            parameter.grad = None
        self._stopped = list(stopping.values())
        kept = self._before or _Record(frozenset(), frozenset(), frozenset(), ())
        self.model.__dict__[_RECORD] = _Record(
            kept.parameters | parameters, kept.buffers | buffers, kept.modules | modules, (*kept.stopped, *stopping)
        )
        return frozen_part(self.model)

    def release(self) -> FrozenPart:
        """What `freeze` has frozen is frozen again, and nothing else."""
        _release(self.model)
        for parameter in self._stopped:
            parameter.requires_grad_(True)
        self._stopped = []
        self.model.__dict__.pop(_RECORD, None)
        if self._before is not None:
            self.model.__dict__[_RECORD] = self._before
        return frozen_part(self.model)


@contextmanager
def frozen_too(model: nn.Module, names: Iterable[str]) -> Iterator[FrozenPart]:
    """Inside the block these parameters, buffers and modules are frozen beside what is; it gives all that is frozen.

    Afterwards that is again what was. Raises InputError as `freeze` does.
    """
    thawing = Thawing(model)
    try:
        yield thawing.hold(names)
    finally:
        thawing.release()


class Snapshot:
    """What a model consisted of before a surgery, by which its frozen part is found again under any new names."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.parameters, self.buffers = dict(model.named_parameters()), dict(model.named_buffers())
        self.modules = dict(model.named_modules())
        self.trained = {name: parameter.requires_grad for name, parameter in self.parameters.items()}

    def restore_flags(self, model: nn.Module) -> list[str]:
        """Give each parameter that is still in the model the `requires_grad` it had; the names, as they are now, of
        those whose flag had changed."""
        trained = {id(parameter): self.trained[name] for name, parameter in self.parameters.items()}
        changed = [
            name for name, p in model.named_parameters() if trained.get(id(p), p.requires_grad) != p.requires_grad
        ]
        for name in changed:
            parameter = model.get_parameter(name)
            parameter.requires_grad_(not parameter.requires_grad)
        return changed

    def refreeze(self, model: nn.Module) -> FrozenPart:
        """What of the last `freeze` is frozen now, in a model whose modules a surgery may have renamed or wrapped.

        What is new under a name that was frozen is frozen as far as it does not require a gradient.
        """
        record: _Record | None = self.model.__dict__.pop(_RECORD, None)
        if record is not None:
            parameters = self.parameters, dict(model.named_parameters())
            model.__dict__[_RECORD] = _Record(
                frozenset(_renamed(record.parameters, *parameters)),
                frozenset(_renamed(record.buffers, self.buffers, dict(model.named_buffers()))),
                frozenset(_renamed(record.modules, self.modules, dict(model.named_modules()))),
                tuple(_renamed(record.stopped, *parameters)),
            )
        return frozen_part(model)


def _renamed(names: Iterable[str], before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    """Each name, or the one that the same thing has afterwards."""
    now = {id(thing): name for name, thing in after.items()}
    return [now.get(id(before[name]), name) if name in before else name for name in names]


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What belongs in an optimizer, by state-dict name; a shared parameter appears once."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _resolve(model: nn.Module, names: Iterable[str]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """The first names of all parameters and buffers, and the modules, that `names` mean."""
    modules = dict(model.named_modules(remove_duplicate=False))
    tensors: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    tensors.update(model.named_buffers(remove_duplicate=False))
    chosen: set[int] = set()
    named: set[str] = set()
    unknown: list[Problem] = []
    for name in names:
        if name in modules:
            named.add(name)
            chosen.update(id(tensor) for tensor in (*modules[name].parameters(), *modules[name].buffers()))
        elif name in tensors:
            chosen.add(id(tensors[name]))
        else:
            hint = did_you_mean(name, [*tensors, *modules])
            unknown.append(Problem(f"the model has no parameter, buffer or module {name!r}", suggestion=hint))
    if unknown:
        raise InputError(unknown)
    return (
        frozenset(name for name, parameter in model.named_parameters() if id(parameter) in chosen),
        frozenset(name for name, buffer in model.named_buffers() if id(buffer) in chosen),
        frozenset(named),
    )


def _release(model: nn.Module) -> None:
    """Release every module; each is then in the mode last asked of it, or in the one it was found in."""
    held = [module for module in model.modules() if isinstance(module.__dict__.get("train"), HeldInEval)]
    holds = [module.__dict__.pop("train") for module in held]
    done: set[int] = set()
    for hold in holds:  # parents come first, and a mode asked of them goes for all that is inside
        if id(hold.module) in done:
            continue
        if hold.asked is None:
            hold.module.training = hold.found
        else:
            hold.module.train(hold.asked)
            done.update(id(inner) for inner in hold.module.modules())


def _outermost(model: nn.Module, record: _Record) -> Iterator[tuple[nn.Module, bool]]:
    """Each module to keep in evaluation mode that is in no other one, and whether it is pinned."""
    frozen = {id(p) for name, p in model.named_parameters() if name in record.parameters and not p.requires_grad}
    buffers = {id(b) for name, b in model.named_buffers() if name in record.buffers}
    named = {id(m) for path, m in model.named_modules(remove_duplicate=False) if path in record.modules}

    def state(module: nn.Module) -> str:
        if _trains(module):
            return "trains"
        chosen = id(module) in named or any(id(parameter) in frozen for parameter in module.parameters())
        return "frozen" if chosen else "neither"

    def walk(module: nn.Module, between: bool) -> Iterator[tuple[nn.Module, bool]]:
        if state(module) == "frozen" or (state(module) == "neither" and between):
            yield module, False
            return
        children = list(module.children())
        states = [state(child) for child in children]
        if "trains" not in states and any(id(buffer) in buffers for buffer in module._buffers.values()):
            yield module, True
            return
        own = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        for index, child in enumerate(children):
            yield from walk(child, _between_frozen(["trains" if own else "frozen", *states], index + 1))

    yield from walk(model, False)


def _between_frozen(states: Sequence[str], index: int) -> bool:
    """Whether the nearest neighbours that have parameters, before and after `index`, both are frozen."""
    before = next(state for state in reversed(states[:index]) if state != "neither")
    after = next((state for state in states[index + 1 :] if state != "neither"), None)
    return before == after == "frozen"


def _trains(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


@dataclass(frozen=True)
class Proof:
    """What comparing hashes found: how many `tensors` were compared and the names of those that `moved`.

    `digest` is one sha256 over all names and hashes before: a line for a report. `hashes` has the first 16 digits of
    each, by which a file's tensors are recognised.
    """

    tensors: int
    moved: tuple[str, ...]
    digest: str
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return not self.moved

    def as_dict(self) -> dict[str, Any]:
        known = {"tensors": self.tensors, "moved": list(self.moved), "digest": self.digest}
        return known | {"hashes": dict(self.hashes)}


def hashes(model: nn.Module, part: FrozenPart) -> dict[str, str]:
    """sha256 of the raw bytes of every frozen parameter and buffer; one tensor at a time visits the CPU."""
    tensors: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return {name: tensor_sha256(tensors[name]) for name in (*part.parameters, *part.buffers) if name in tensors}


def prove(before: Mapping[str, str], after: Mapping[str, str]) -> Proof:
    """Compare two results of `hashes`; a tensor that is on one side only has moved."""
    names = sorted({*before, *after})
    moved = tuple(name for name in names if before.get(name) != after.get(name))
    lines = "".join(f"{name} {before[name]}\n" for name in sorted(before))
    digest = hashlib.sha256(lines.encode()).hexdigest()
    return Proof(len(names), moved, digest, {name: before[name][:16] for name in sorted(before)})


def tensor_sha256(tensor: Tensor) -> str:
    """The sha256 of a tensor's bytes, as a file contains them."""
    flat = tensor.detach().contiguous().reshape(-1).cpu()
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()
