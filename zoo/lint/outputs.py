"""An activation between the last layer and a loss that takes raw scores, or one that the loss needs and lacks."""

from __future__ import annotations

from typing import Any

from zoo.lint.rehearsal import Rehearsal
from zoo.lint.trap import Trap
from zoo.model.prediction import prediction
from zoo.recipe.options import Named

LOSS_OF_TASK = {"classification": "CrossEntropyLoss", "multilabel": "BCEWithLogitsLoss"}
SHORT = {"cross_entropy": "CrossEntropyLoss", "bce": "BCEWithLogitsLoss"}
# losses of raw scores, and what each applies to them itself
OF_SCORES = {
    "CrossEntropyLoss": "log_softmax",
    "BCEWithLogitsLoss": "sigmoid",
    "MultiLabelSoftMarginLoss": "sigmoid",
    "MultiMarginLoss": "its comparison of scores",
    "MultiLabelMarginLoss": "its comparison of scores",
}
# autograd's name for the last operation -> what it is called
ACTIVATIONS = {
    "Relu": "ReLU",
    "Hardtanh": "ReLU6 or Hardtanh",
    "Threshold": "Threshold",
    "Sigmoid": "sigmoid",
    "Hardsigmoid": "hard sigmoid",
    "Tanh": "tanh",
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
    "Softplus": "softplus",
}
CUTS = ("ReLU", "ReLU6 or Hardtanh", "Threshold", "softplus")  # lose what is below zero
# operations that leave values as they are
PASSING = ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Clone", "Alias", "ToCopy", "T", "Transpose")


def activation_before_loss(rehearsal: Rehearsal, loss: Named, task: str) -> list[Trap]:
    """An activation right in front of `loss` that the loss applies itself or that spoils it, or one that it lacks.

    `loss` is a name, or `auto` by the task; NLLLoss and BCELoss are those that need an activation.
    """
    written = loss if isinstance(loss, str) else next(iter(loss))
    name = LOSS_OF_TASK.get(task, "") if written == "auto" else SHORT.get(written, written)
    activation, path = _last_activation(rehearsal)
    if name in OF_SCORES and activation:
        return [Trap("activation", (path,), *_explain(name, activation, path))]
    wanted = {"NLLLoss": "log_softmax", "BCELoss": "sigmoid"}.get(name)
    if wanted is None or activation == wanted or (name == "BCELoss" and activation in ("softmax", "hard sigmoid")):
        return []
    better = {"NLLLoss": "CrossEntropyLoss", "BCELoss": "BCEWithLogitsLoss"}[name]
    message = f"{name} expects the output of {wanted}, which the network does not end in"
    return [Trap("activation", (path,), message, f"write loss: {better}, which takes raw scores")]


def _explain(loss: str, activation: str, path: str) -> tuple[str, str]:
    place = f"{path} is the last operation of the network: " if path else "the network's forward ends in "
    harm = {
        "log_softmax": "applying it twice does no harm, but costs time",
        "softmax": "the loss gets values between 0 and 1, and gradients nearly vanish",
    }.get(activation, "the scores are squeezed, and the loss cannot become small")
    if activation in CUTS:
        harm = "scores below zero are lost, and a sample whose scores are all below zero has no gradient"
    does = OF_SCORES[loss]
    message = f"{place}a {activation} in front of {loss}, which takes raw scores (it applies {does} itself): {harm}"
    mend = f"remove it: remove_module: {{path: {path}}}" if path else "return the scores in front of it"
    return message, mend


def _last_activation(rehearsal: Rehearsal) -> tuple[str, str]:
    """The activation that the main output comes out of and the path of its module, empty where there is none."""
    node = _origin(prediction(rehearsal.output).grad_fn)
    name = _operation(node)
    if name not in ACTIVATIONS:
        return "", ""
    # a module and those around it give the same tensor: the innermost finishes first
    paths = [path for path, tensor in rehearsal.outputs if node is not None and tensor.grad_fn is node]
    return ACTIVATIONS[name], paths[0] if paths else ""


def _origin(node: Any) -> Any:
    """The operation that made the values, behind those that only reshape or copy them."""
    while _operation(node) in PASSING and node.next_functions:
        node = node.next_functions[0][0]
    return node


def _operation(node: Any) -> str:
    """`Relu` for autograd's `ReluBackward0`."""
    return "" if node is None else type(node).__name__.partition("Backward")[0]
