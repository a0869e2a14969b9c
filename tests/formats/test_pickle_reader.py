"""Pickles read without running them: plain data comes back equal, everything else as a record."""

from __future__ import annotations

import collections
import io
import pickle
from typing import Any

import pytest

from zoo.errors import InputError
from zoo.formats.pickle_reader import Global, PickleMachine, Record
from zoo.formats.pickled_tensors import OrderedTable, is_allowed, resolve, storage

PLAIN: list[Any] = [
    None, True, 7, 2**70, -1.5, "text", b"bytes", [1, [2]], (), (1,), (1, 2), (1, 2, 3, 4), {"a": {"b": [1]}},
    [["same"]] * 3, {"nested": ({"key": (1, "x")},)},
]  # fmt: skip


def read(content: Any, protocol: int = 2) -> tuple[Any, list[Global]]:
    machine = PickleMachine(io.BytesIO(pickle.dumps(content, protocol)), resolve, storage)
    return machine.run(), list(machine.globals)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("content", PLAIN, ids=repr)
def test_plain_data_of_every_protocol(content: Any, protocol: int) -> None:
    if isinstance(content, bytes) and protocol < 3:
        pytest.skip("bytes were text and a call then")
    assert read(content, protocol)[0] == content


def test_an_ordered_dict_is_known_as_one() -> None:
    found, named = read(collections.OrderedDict(b=1, a=2))
    assert isinstance(found, OrderedTable)
    assert list(found.items()) == [("b", 1), ("a", 2)]
    assert all(map(is_allowed, named))


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1/0",)


def test_a_call_becomes_a_record() -> None:
    found, named = read({"evil": Evil()})
    assert isinstance(found["evil"], Record)
    assert found["evil"].made_by == Global("__builtin__", "eval")  # protocol 2's word for builtins
    assert found["evil"].arguments == ("1/0",)
    assert not any(map(is_allowed, named))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no end|damaged"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02K\x01", "no end|damaged"),
        (b"\x80\x02h\x05.", "damaged"),  # a memo that was never written
        (b"\x80\x02\x8f(K\x01\x90e.", "damaged"),
        (b"\x80\x02K\x01R.", "damaged"),  # a call of a number
    ],
)
def test_damaged_pickles(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        PickleMachine(io.BytesIO(content), resolve, storage).run()
