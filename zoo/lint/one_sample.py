"""Batch norm that has one value a channel to normalise: a batch of one sample behind global pooling."""

from __future__ import annotations

from torch import nn

from zoo.lint.rehearsal import one_pass


def fails_on_one_sample(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether `model` cannot train on a batch of a single sample; `shape` is an input's, the batch dimension included.

    Parameters, buffers and modes stay as they are; nothing is computed.
    """
    try:
        one_pass(model, (1, *shape[1:]), "meta")
    except ValueError as error:
        return "more than 1 value per channel" in str(error)
    except Exception:  # what else is wrong with the pass others say
        return False
    return False
