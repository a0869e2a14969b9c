"""Trainable parameters that never get a gradient."""

from __future__ import annotations

from collections.abc import Mapping

from zoo.errors import listed
from zoo.lint.rehearsal import Rehearsal
from zoo.lint.trap import Trap


def without_gradient(rehearsal: Rehearsal, *, auxiliary_loss: bool = True) -> list[Trap]:
    """Trainable parameters of modules that run but get no gradient from the prediction.

    They feed other outputs alone, or forward goes through `.data`, `.detach()` or numpy, or their result is not used.
    Parameters of modules that do not run are reported as dead modules, unless nothing else gets a gradient either.
    With `auxiliary_loss` the outputs of auxiliary classifiers are in the loss, and what leads to them trains.
    """
    fatal = not any(rehearsal.reached.values())
    aided = rehearsal.aided if auxiliary_loss else {}
    unreached = [name for name, reached in rehearsal.reached.items() if not (reached or aided.get(name))]
    auxiliary = [] if fatal else [name for name in unreached if rehearsal.beside[name]]
    lost = [name for name in unreached if fatal or name.rpartition(".")[0] in rehearsal.called]
    traps = [_lost([name for name in lost if name not in auxiliary], fatal)] if set(lost) - set(auxiliary) else []
    return [*traps, *([_auxiliary(auxiliary, rehearsal.aided)] if auxiliary else [])]


def _lost(names: list[str], fatal: bool) -> Trap:
    are, get = ("are", "get") if len(names) > 1 else ("is", "gets")
    message = (
        f"{listed(names)} {are} trainable but never {get} a gradient{', and nothing else trains' if fatal else ''}: "
        "forward does not use the parameter itself (.data, .detach(), no_grad) or discards the result"
    )
    mend = f"use the parameter itself in forward, or {'let others train' if fatal else 'freeze it'}"
    return Trap("no_gradient", tuple(names), message, mend, fatal)


def _auxiliary(names: list[str], aided: Mapping[str, bool]) -> Trap:
    """Parameters of auxiliary classifiers, whose outputs the loss does not take."""
    modules = list(dict.fromkeys(name.partition(".")[0] for name in names))
    message = (
        f"{listed(modules)}: {len(names)} trainable parameters lead to auxiliary outputs alone, which the loss does "
        "not take, so nothing trains them"
    )
    patterns = ", ".join(f"'^{name}\\.'" for name in modules)
    mend = f"build the model without them, or freeze: {{policy: pattern, patterns: [{patterns}]}}"
    if any(aided.get(name) for name in names):
        mend = "write auxiliary_loss: 0.3, the weight of each beside the main loss"
    return Trap("no_gradient", tuple(names), message, mend)
