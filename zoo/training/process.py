"""Leaves the process as it was found: what a library call may not change, in one place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zoo.training.devices import accelerate_kept
from zoo.training.seeding import generators_kept


@contextmanager
def process_kept() -> Iterator[None]:
    """Random generators and accelerate's singletons are afterwards what they were; also a decorator of functions."""
    with generators_kept(), accelerate_kept():
        yield
