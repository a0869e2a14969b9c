"""Run a module behind its parent's forward, where the parent's own code does not know it.

The wire is a forward hook that holds nothing but the child's name: it survives deepcopy and pickling, leaves the state
dict's keys as they are, and is laid again when a checkpoint's operations are replayed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.fx import Proxy

from zoo.errors import InputError


@dataclass(frozen=True)
class Wire:
    """The hook: the parent's output goes through its child `name`. Several wires run in the order they were laid."""

    name: str

    def __call__(self, parent: nn.Module, arguments: Any, output: Any) -> Any:
        if not isinstance(output, Tensor | Proxy):
            raise InputError(
                f"{self.name!r} cannot run behind {type(parent).__name__}, which gives {type(output).__name__}",
                suggestion="add it deeper inside, or with wire: false",
            )
        return getattr(parent, self.name)(output)


def runs_in_order(module: nn.Module) -> bool:
    """Whether a module calls its children one behind the other by itself, as nn.Sequential does."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def wire(parent: nn.Module, name: str) -> None:
    """Let the child `name` run behind `parent`'s forward.

    The hook is entered under a key of its own: the numbers `register_forward_hook` gives out start anew in every
    process, so that on an unpickled model a later hook could take the wire's number, and its place.
    """
    parent._forward_hooks[f"zoo.wire.{name}"] = Wire(name)  # type: ignore[index]


def wires(parent: nn.Module) -> list[str]:
    """The names of the children that are wired behind `parent`, in the order they run."""
    return [hook.name for hook in parent._forward_hooks.values() if isinstance(hook, Wire)]


def unwire(parent: nn.Module, name: str) -> None:
    """Take the wire of the child `name` away, if there is one."""
    parent._forward_hooks.pop(f"zoo.wire.{name}", None)  # type: ignore[call-overload]
