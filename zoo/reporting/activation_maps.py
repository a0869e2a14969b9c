"""Where a network looked: Grad-CAM (Selvaraju et al., 2017) for whatever keeps places of the image until late.

The layer is found by trying: of the modules that a forward pass calls, the last one whose output still has places of
the image (feature maps [n, c, h, w] or [n, h, w, c], or tokens [n, t, d]) and whose gradient differs from place to
place counts. So it is the last stage of a convolutional network, and in a transformer that reads a class token the last
layer in front of the attention that gathers it. There is none in a network of features, and none where forward runs
without gradients.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from zoo.model.prediction import prediction
from zoo.model.undisturbed import undisturbed

LATE = 64  # modules from the end on that are tried
PREFIXES = 8  # class and register tokens in front of those of places, at most


def activation_maps(model: nn.Module, inputs: Tensor, outputs: Tensor, *, batch: int = 8) -> Tensor | None:
    """How much each place spoke for the output chosen of each image, [n, h, w] in 0..1; None where that is not known.

    `inputs` are [n, c, height, width] as the network takes them, `outputs` the index of an output for each. The model
    is left as it was.
    """
    if inputs.ndim != 4 or not len(inputs):
        return None
    with undisturbed(model, training=False, attributes=True), _without_parameters(model), torch.enable_grad():
        name = _find(model, inputs[:1], outputs[:1])
        if name is None:
            return None
        chunks = zip(torch.split(inputs, batch), torch.split(outputs, batch), strict=True)
        return torch.cat([_maps(model, name, some, chosen) for some, chosen in chunks])


@contextmanager
def _without_parameters(model: nn.Module) -> Iterator[None]:
    """No parameter wants a gradient in the block: the graph begins at the layer that is looked at."""
    asked = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    for parameter, _ in asked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, wanted in asked:
            parameter.requires_grad_(wanted)


def _find(model: nn.Module, inputs: Tensor, outputs: Tensor) -> str | None:
    """The last module whose output differs from place to place in a way that counts."""
    called: deque[tuple[str, int]] = deque(maxlen=LATE)
    times: dict[str, int] = {}

    def noted(name: str) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            times[name] = times.get(name, 0) + 1
            if isinstance(output, Tensor) and _places(output, inputs) is not None:
                called.append((name, times[name]))

        return hook

    hooks = [module.register_forward_hook(noted(name)) for name, module in model.named_modules() if name]
    try:
        model(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    once = [name for name, count in called if times[name] == 1 and count == 1]
    for name in reversed(once):
        found = _gradient(model, name, inputs, outputs)
        if found is not None and _tells_apart(*found):
            return name
    return None


def _gradient(model: nn.Module, name: str, inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor] | None:
    """A module's output as [n, places, channels] and the chosen outputs' gradient by it; None without one."""
    kept: list[Tensor] = []

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0].clone()  # which may be changed in place

    handle = model.get_submodule(name).register_forward_hook(hook)
    try:
        scores = prediction(model(inputs)).flatten(1)
        if not scores.requires_grad:
            return None
        chosen = scores.gather(1, outputs.view(-1, 1)).sum()
        (gradient,) = torch.autograd.grad(chosen, kept[0], allow_unused=True)
    finally:
        handle.remove()
    if gradient is None or (grid := _places(kept[0], inputs)) is None:
        return None
    return _flat(kept[0].detach(), grid), _flat(gradient, grid)


def _tells_apart(values: Tensor, gradient: Tensor) -> bool:
    """Whether more than one place has a say, and they say different things."""
    speaking = (gradient != 0).any(-1).sum(1)
    return bool((speaking > 1).all()) and bool(_relevance(values, gradient).std(1).max() > 0)


def _relevance(values: Tensor, gradient: Tensor) -> Tensor:
    return (gradient.mean(1, keepdim=True) * values).sum(-1).relu()


def _maps(model: nn.Module, name: str, inputs: Tensor, outputs: Tensor) -> Tensor:
    found = _gradient(model, name, inputs, outputs)
    if found is None:
        raise RuntimeError(f"{name} has no gradient")
    relevance = _relevance(*found)
    relevance = relevance / relevance.amax(1, keepdim=True).clamp_min(1e-12)
    height, width = _grid(relevance.shape[1], inputs)
    return relevance.view(-1, height, width).float().cpu()


Grid = tuple[str, int, int]


def _places(output: Tensor, inputs: Tensor) -> Grid | None:
    """How an output keeps places of the image: its layout, height and width."""
    if len(output) != len(inputs) or not output.is_floating_point():
        return None
    aspect = inputs.shape[-2] / inputs.shape[-1]
    if output.ndim == 4:
        for layout, (height, width) in (("channels first", output.shape[2:]), ("channels last", output.shape[1:3])):
            if height * width > 1 and abs(math.log(height / width / aspect)) < 0.3:
                return layout, height, width
    if output.ndim == 3:
        for prefix in range(PREFIXES):
            height, width = _grid(output.shape[1] - prefix, inputs)
            if height * width == output.shape[1] - prefix > 1:
                return "tokens", height, width
    return None


def _grid(count: int, inputs: Tensor) -> tuple[int, int]:
    """Height and width of `count` places in the image's aspect."""
    if count < 1:
        return 0, 0
    height = max(round(math.sqrt(count * inputs.shape[-2] / inputs.shape[-1])), 1)
    return height, count // height


def _flat(values: Tensor, grid: Grid) -> Tensor:
    """[n, places, channels], class and register tokens left out."""
    layout, height, width = grid
    if layout == "channels first":
        return values.flatten(2).transpose(1, 2)
    if layout == "channels last":
        return values.flatten(1, 2)
    return values[:, values.shape[1] - height * width :]
