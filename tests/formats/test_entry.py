"""Sizes of tensors, packed elements included."""

import pytest

from zoo.formats.entry import Entry


@pytest.mark.parametrize(
    ("dtype", "shape", "elements", "nbytes"),
    [("F32", (2, 3), 6, 24), ("BF16", (), 1, 2), ("I64", (0, 4), 0, 0), ("F4", (8,), 8, 4), ("F6_E2M3", (4,), 4, 3)],
)
def test_elements_and_bytes(dtype: str, shape: tuple[int, ...], elements: int, nbytes: int) -> None:
    entry = Entry("x", dtype, shape)
    assert (entry.elements, entry.nbytes) == (elements, nbytes)
