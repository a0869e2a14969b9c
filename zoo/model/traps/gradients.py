"""The trap of parameters that are trainable and never learn."""

from __future__ import annotations

from zoo.errors import listed
from zoo.model.traps.rehearsal import Rehearsal
from zoo.model.traps.trap import Trap


def without_gradient(rehearsal: Rehearsal) -> list[Trap]:
    """Trainable parameters of modules that run, to which no gradient comes: forward goes through `.data`, `.detach()`
    or numpy, or leaves their result unused. Those of modules that do not run are told as dead modules, unless nothing
    else could learn either."""
    fatal = not any(rehearsal.reached.values())
    lost = tuple(
        name
        for name, reached in rehearsal.reached.items()
        if not reached and (fatal or name.rpartition(".")[0] in rehearsal.called)
    )
    if not lost:
        return []
    many = len(lost) > 1
    return [
        Trap(
            "no_gradient",
            lost,
            f"{listed(lost)} {'are' if many else 'is'} trainable but never {'get' if many else 'gets'} a gradient"
            f"{', and nothing else trains' if fatal else ''}: "
            "forward does not use the parameter itself (.data, .detach(), no_grad) or drops what comes of it",
            f"use the parameter itself in forward, or {'let others train' if fatal else 'freeze it'}",
            fatal,
        )
    ]
