"""Which tensor of a model's output is its prediction: one answer for check, training, measuring and comparing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from zoo.errors import InputError, listed

NAMES = ("logits", "out")  # Hugging Face's and torchvision's names for the main output
HINT = "let forward return the prediction alone, or under the key logits"


def prediction(output: Any) -> Tensor:
    """The logits or values [b, …] among what a model's forward returns.

    A tensor is the prediction itself. In a mapping, a named tuple or another object with fields it is what is called
    `logits` or `out`, in a mapping else the only entry that is not None; of a tuple or list it is the first item,
    since auxiliary outputs (GoogLeNet's) follow the main one.
    Raises InputError, naming the keys, where there is no prediction or more than one that could be it.
    """
    if isinstance(output, Tensor):
        return output
    fields = output if isinstance(output, Mapping) else {name: getattr(output, name, None) for name in NAMES}
    given = {str(key): value for key, value in fields.items() if value is not None}
    for name in NAMES:
        if name in given:
            return prediction(given[name])
    if isinstance(output, Mapping):
        if len(given) == 1:
            return prediction(next(iter(given.values())))
        if given:
            message = (
                f"the model returns {len(given)} outputs ({listed(list(given))}), and none is called logits or out"
            )
            raise InputError(message, suggestion=HINT)
    elif isinstance(output, tuple | list) and output:
        return prediction(output[0])
    kind = type(output).__name__
    raise InputError(f"the model returns {kind}, in which there is no prediction", suggestion=HINT)


def auxiliary(output: Any) -> list[Tensor]:
    """The outputs of auxiliary classifiers among what a model's forward returns in training: [b, k] as the prediction.

    In a mapping or a named tuple they are called `aux…` (GoogLeNet's `aux_logits1`, Inception's `aux_logits`); of
    another tuple or list they are what follows the prediction. Raises InputError where there is no prediction.
    """
    main = prediction(output)
    names = getattr(output, "_fields", None)
    if isinstance(output, Mapping):
        others = [value for name, value in output.items() if str(name).startswith("aux")]
    elif names is not None:
        others = [getattr(output, name) for name in names if name.startswith("aux")]
    else:
        others = list(output[1:]) if isinstance(output, tuple | list) else []
    return [one for one in others if isinstance(one, Tensor) and one.shape == main.shape]
