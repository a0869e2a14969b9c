"""Torch's fake tensors: shapes and devices without memory. Torch has them in a private module: they may be missing."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


class NoFakeTensorsError(RuntimeError):
    """This version of torch has its fake tensors elsewhere."""


NEEDS_VALUES: tuple[type[Exception], ...]
try:
    from torch._subclasses import fake_tensor
except ImportError:
    fake_tensor = None  # type: ignore[assignment]
    NEEDS_VALUES = (NoFakeTensorsError,)
else:
    NEEDS_VALUES = (
        fake_tensor.DataDependentOutputException,
        fake_tensor.DynamicOutputShapeException,
        fake_tensor.UnsupportedFakeTensorException,
        fake_tensor.UnsupportedOperatorException,
    )
"""What stops a pass whose code looks at values, or one that cannot be made with fake tensors at all."""


@contextlib.contextmanager
def faking() -> Iterator[None]:
    """New tensors are fake in the block. Raises NoFakeTensorsError where there are none."""
    if fake_tensor is None:
        raise NoFakeTensorsError("torch has no fake tensors where zoo knows them")
    log = logging.getLogger("torch._subclasses.fake_tensor")  # prints a traceback for every shape that does not fit
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with fake_tensor.FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        log.setLevel(level)
