"""Normalisation on `meta`: what comes out is as large as what went in, which torch finds out by dozens of operations in
Python, milliseconds a layer forwards and more of them backwards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


class NormsOnMeta(TorchFunctionMode):
    """While it is on, batch and layer normalisation of tensors on `meta` take microseconds, with torch's gradients."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return call(func, args, kwargs or {})


def call(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """`func(*args, **kwargs)`, the short way where there is one. Where something does not fit there is none, and torch
    says why."""
    plain = _PLAIN.get(func)
    tensors = plain(*args, **kwargs) if plain is not None else None
    return func(*args, **kwargs) if tensors is None else _Like.apply(*tensors)


class _Like(torch.autograd.Function):
    """A tensor like the first one, that all of them have a gradient from."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor | None) -> Tensor:
        value = tensors[0]
        assert value is not None
        ctx.save_for_backward(*tensors)  # as torch does, which then sees what is changed in place
        return torch.empty_like(value)

    @staticmethod
    def backward(ctx: Any, *_gradients: Tensor) -> Any:
        wanted = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=True)
        return tuple(torch.empty_like(tensor) if needed else None for tensor, needed in wanted)


_Tensors = tuple[Tensor | None, ...] | None


def _batch_norm(
    value: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> _Tensors:
    known = running_mean is not None and running_var is not None
    many = value.ndim > 1 and value.numel() > value.shape[1]
    own = (running_mean, running_var, weight, bias)
    fits = (many if training else known) and _fit(value, own, value.shape[1:2])
    return (value, weight, bias) if fits else None


def _layer_norm(
    value: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> _Tensors:
    shape = torch.Size(normalized_shape)
    fits = len(shape) > 0 and value.shape[-len(shape) :] == shape and _fit(value, (weight, bias), shape)
    return (value, weight, bias) if fits else None


def _fit(value: Tensor, own: Sequence[Tensor | None], shape: torch.Size) -> bool:
    given = [each for each in own if each is not None]
    return value.is_meta and all(each.is_meta and each.dtype == value.dtype and each.shape == shape for each in given)


_PLAIN: dict[Callable[..., Any], Callable[..., _Tensors]] = {
    functional.batch_norm: _batch_norm,
    functional.layer_norm: _layer_norm,
}
