"""Checks for what lets a network train for nothing: each finding says where it is and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.lint.gradients import without_gradient
from zoo.lint.hidden_state import find_hidden_state, twin, unregistered
from zoo.lint.optimizer import check_optimizer as check_optimizer
from zoo.lint.outputs import activation_before_loss
from zoo.lint.rehearsal import Rehearsal, rehearse
from zoo.lint.rehearsal import fails_on_one_sample as fails_on_one_sample
from zoo.lint.trap import Trap as Trap
from zoo.model.assembly import Assembly
from zoo.model.shapes import UndecidedError, attempt
from zoo.recipe.options import Named


def find_traps(
    assembly: Assembly, input_shape: Sequence[int], loss: Named = "auto", *, auxiliary_loss: bool = True
) -> list[Trap]:
    """The traps of a network in its present state, before it is trained with `loss`.

    `input_shape` is [b, …], b at least 2. One forward and backward pass on `meta` (on real numbers where forward looks
    at values) shows the trainable parameters without a gradient and an activation in front of the loss; the modules'
    attributes show modules and random tensors that are in no state dict. Modules that never run, and inputs that do
    not fit the network, are reported by `dry_run`. The model is not altered. `auxiliary_loss` says whether the
    outputs of auxiliary classifiers are in the loss.
    """
    shape = tuple(input_shape)
    traps = unregistered(assembly.model)
    rehearsal = _rehearsal(assembly, shape)
    if rehearsal is not None:
        traps += find_hidden_state(assembly, shape)
        traps += without_gradient(rehearsal, auxiliary_loss=auxiliary_loss)
        traps += activation_before_loss(rehearsal, loss, assembly.task)
    return traps


def _rehearsal(assembly: Assembly, shape: tuple[int, ...]) -> Rehearsal | None:
    done = rehearse(assembly.model, shape)
    if done is None and isinstance(attempt(assembly.model, shape).error, UndecidedError):
        done = rehearse(twin(assembly), shape)  # forward looks at values, which a model on meta has not
    return done
