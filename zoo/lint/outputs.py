"""The trap of an activation between the last layer and a loss that wants what comes before it."""

from __future__ import annotations

from typing import Any

from zoo.lint.rehearsal import Rehearsal
from zoo.lint.trap import Trap
from zoo.model.prediction import prediction
from zoo.recipe.options import Named

LOSS_OF_TASK = {"classification": "CrossEntropyLoss", "multilabel": "BCEWithLogitsLoss"}
SHORT = {"cross_entropy": "CrossEntropyLoss", "bce": "BCEWithLogitsLoss"}
# losses of raw scores, and what each does to them itself
OF_SCORES = {
    "CrossEntropyLoss": "log_softmax",
    "BCEWithLogitsLoss": "sigmoid",
    "MultiLabelSoftMarginLoss": "sigmoid",
    "MultiMarginLoss": "a comparison of scores",
    "MultiLabelMarginLoss": "a comparison of scores",
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


def wrong_end(rehearsal: Rehearsal, loss: Named, task: str) -> list[Trap]:
    """An activation right in front of `loss` (a name, `auto` by the task) that the loss makes up for itself or that
    spoils it; for NLLLoss and BCELoss, one that is missing."""
    written = loss if isinstance(loss, str) else next(iter(loss))
    name = LOSS_OF_TASK.get(task, "") if written == "auto" else SHORT.get(written, written)
    activation, path = _end(rehearsal)
    if name in OF_SCORES and activation:
        return [Trap("end", (path,), *_explain(name, activation, path))]
    wanted = {"NLLLoss": "log_softmax", "BCELoss": "sigmoid"}.get(name)
    if wanted is None or activation == wanted or (name == "BCELoss" and activation in ("softmax", "hard sigmoid")):
        return []
    better = {"NLLLoss": "CrossEntropyLoss", "BCELoss": "BCEWithLogitsLoss"}[name]
    message = f"{name} wants the output of {wanted}, and the network ends without it"
    return [Trap("end", (path,), message, f"write loss: {better}, which takes raw scores")]


def _explain(loss: str, activation: str, path: str) -> tuple[str, str]:
    place = f"{path} is the last step of the network: " if path else "the network's forward ends in "
    harm = {
        "log_softmax": "twice does no harm, and costs time",
        "softmax": "what arrives lies between 0 and 1, and gradients all but vanish",
    }.get(activation, "what arrives is squeezed, and the loss cannot become small")
    if activation in CUTS:
        harm = "scores below zero are lost, and a sample whose scores are all lost teaches nothing"
    does = OF_SCORES[loss]
    message = f"{place}a {activation} in front of {loss}, which takes raw scores ({does} is its own part): {harm}"
    mend = f"remove it: remove_module: {{path: {path}}}" if path else "return the scores in front of it"
    return message, mend


def _end(rehearsal: Rehearsal) -> tuple[str, str]:
    """The activation that the main output comes out of and the path of its module, empty where there is none."""
    node = _origin(prediction(rehearsal.output).grad_fn)
    name = _operation(node)
    if name not in ACTIVATIONS:
        return "", ""
    # a module and those around it give the same tensor: the innermost finishes first
    paths = [path for path, tensor in rehearsal.ends if node is not None and tensor.grad_fn is node]
    return ACTIVATIONS[name], paths[0] if paths else ""


def _origin(node: Any) -> Any:
    """The operation that made the values, behind those that only reshape or copy them."""
    while _operation(node) in PASSING and node.next_functions:
        node = node.next_functions[0][0]
    return node


def _operation(node: Any) -> str:
    """`Relu` for autograd's `ReluBackward0`."""
    return "" if node is None else type(node).__name__.partition("Backward")[0]
