"""An exponential moving average of the parameters and buffers that training changes.

torch's and timm's averages copy the entire model. Here frozen tensors are left out: they are equal to their average by
definition, so that a probe on a large backbone averages its head alone. The average is therefore no second model but
a set of tensors, and measuring with it means swapping it with the live values and back (`applied`), which keeps every
tensor where optimizer and compiled code expect it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage:
    """Averages of named tensors: floating-point ones by `decay`, others (counters) are copied.

    Early on, when the average would consist mostly of the initial values, the decay is (1 + n) / (10 + n)
    after n updates, as in TensorFlow's ExponentialMovingAverage, until that reaches `decay`.
    """

    def __init__(self, tensors: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.live = dict(tensors)
        self.average = {name: tensor.detach().clone() for name, tensor in tensors.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Call after each optimizer step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        pairs = [(self.average[name], tensor.detach()) for name, tensor in self.live.items()]
        floats = [(average, live) for average, live in pairs if average.is_floating_point()]
        if floats:
            follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            follow([average for average, _ in floats], [live for _, live in floats], self.updates)
        for average, live in pairs:
            if not average.is_floating_point():
                average.copy_(live)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averages inside the block, and its own values again afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, live in self.live.items():
            kept = live.detach().clone()
            live.copy_(self.average[name])
            self.average[name].copy_(kept)
