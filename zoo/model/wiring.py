"""Run a child module after its parent's forward, on its output, where the parent's own code does not know the child.

A wire is a forward hook that contains nothing but the child's name: it survives deepcopy and pickling, leaves the state
dict's keys as they are, and is made again when a checkpoint's operations are replayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.fx import Proxy

from zoo.errors import InputError


@dataclass(frozen=True)
class Wire:
    """The hook: the parent's output goes through its child `name`. Several wires run in the order they were made."""

    name: str

    def __call__(self, parent: nn.Module, arguments: Any, output: Any) -> Any:
        if not isinstance(output, Tensor | Proxy):
            raise InputError(
                f"{self.name!r} cannot run after {type(parent).__name__}, which gives {type(output).__name__}",
                suggestion="add it deeper inside, or with wire: false",
            )
        return getattr(parent, self.name)(output)


def runs_in_order(module: nn.Module) -> bool:
    """Whether a module calls its children one after the other by itself, as nn.Sequential does."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def wire(parent: nn.Module, name: str) -> None:
    """Run the child `name` after `parent`'s forward, on its output.

    The hook is entered under a key of its own: the numbers `register_forward_hook` gives out start anew in every
    process, so that on an unpickled model a later hook could take the wire's number, and its place.
    """
    parent._forward_hooks[f"zoo.wire.{name}"] = Wire(name)  # type: ignore[index]


def wires(parent: nn.Module) -> list[str]:
    """The names of the children that are wired to `parent`, in the order they run."""
    return [hook.name for hook in parent._forward_hooks.values() if isinstance(hook, Wire)]


def unwire(parent: nn.Module, name: str) -> None:
    """Remove the wire of the child `name`, if there is one."""
    parent._forward_hooks.pop(f"zoo.wire.{name}", None)  # type: ignore[call-overload]
