"""Headers: the bytes are upstream's, and no input gives anything but a header or an InputError."""

import contextlib
import json
import random
import string

import pytest
import safetensors
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from zoo.errors import InputError
from zoo.formats.dtypes import BITS
from zoo.formats.entry import Entry
from zoo.formats.safetensors_file import encode_header, layout, parse_header, read_header, tied_names


def file_of(table, data=b"", pad=True):
    text = table if isinstance(table, bytes) else json.dumps(table).encode()
    text += b" " * (-len(text) % 8 if pad else 0)
    return len(text).to_bytes(8, "little") + text + data


def tensor(dtype="F32", shape=(2,), span=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(span)}


@pytest.fixture
def many():
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"{name}.{dtype}": torch.randint(0, 2, shape, generator=generator).to(dtype)
        for name in ("b", "a", "ä", 'q"\n\x7f\t\\')
        for dtype in (torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float16, torch.float8_e4m3fn)
        for shape in [(3, 2)]
    }
    return tensors | {"scalar": torch.tensor(2.0), "empty": torch.zeros(0, 5)}


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"näme": 'a "quoted"\nline'}])
def test_header_bytes_are_those_of_save_file(many, metadata, tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(many, path, metadata)
    header = read_header(path)
    entries = [Entry(entry.name, entry.dtype, entry.shape) for entry in header.entries.values()]
    random.Random(0).shuffle(entries)
    assert header.metadata == (metadata or {})
    assert encode_header(layout(entries), metadata) == path.read_bytes()[: header.data_start]


def test_every_dtype_sorts_and_measures_as_upstream():
    names = list(BITS)
    random.Random(1).shuffle(names)
    placed = layout(Entry(name.lower(), name, (8,)) for name in names)
    content = encode_header(placed) + bytes(sum(entry.nbytes for entry in placed))
    rows = safetensors.deserialize(content)
    assert {name: row["dtype"] for name, row in rows} == {name.lower(): name for name in names}
    assert [entry.dtype for entry in placed] == list(reversed(BITS))


def test_metadata_order_does_not_change_the_bytes():
    entries = layout([Entry("a", "F32", (1,))])
    assert encode_header(entries, {"b": "1", "a": "2"}) == encode_header(entries, {"a": "2", "b": "1"})


BAD = {
    "nothing": b"",
    "seven bytes": b"1234567",
    "length past the end": (10**6).to_bytes(8, "little") + b"{}",
    "length past 100 MB": (10**15).to_bytes(8, "little") + b"{}",
    "length of 64 bits": b"\xff" * 8 + b"{}",
    "no JSON": file_of(b"{broken"),
    "no UTF-8": file_of(b'{"\xff": 1}'),
    "NaN": file_of(b'{"a":NaN}'),
    "a list": file_of([]),
    "deep nesting": file_of(b'{"a":' + b"[" * 200_000),
    "a number without end": file_of(b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}'),
    "duplicate names": file_of(
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        bytes(8),
    ),
    "duplicate keys in a row": file_of(
        b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)
    ),
    "half a surrogate": file_of(b'{"\\ud800":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(8)),
    "unknown dtype": file_of({"a": tensor("F31")}, bytes(8)),
    "dtype a number": file_of({"a": tensor(32)}, bytes(8)),
    "a dtype of a million letters": file_of({"a": tensor("F" * 10**6)}, bytes(8)),
    "no shape": file_of({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, bytes(8)),
    "negative size": file_of({"a": tensor(shape=(-2,))}, bytes(8)),
    "fractional size": file_of({"a": tensor(shape=(2.0,))}, bytes(8)),
    "boolean size": file_of({"a": tensor(shape=(True, 2))}, bytes(8)),
    "overflowing size": file_of({"a": tensor(shape=(2**62, 2**62, 0), span=(0, 0))}),
    "sizes without end": file_of({"a": tensor(shape=(2**62,) * 100_000, span=(0, 0))}),
    "three offsets": file_of({"a": tensor(span=(0, 8, 8))}, bytes(8)),
    "offsets backwards": file_of({"a": tensor(span=(8, 0))}, bytes(8)),
    "offsets of another size": file_of({"a": tensor(span=(0, 4))}, bytes(8)),
    "half bytes": file_of({"a": tensor("F4", (3,), (0, 2))}, bytes(2)),
    "overlap": file_of({"a": tensor(), "b": tensor(span=(4, 12))}, bytes(12)),
    "same place": file_of({"a": tensor(), "b": tensor()}, bytes(8)),
    "hole": file_of({"a": tensor(), "b": tensor(span=(16, 24))}, bytes(24)),
    "hole in front": file_of({"a": tensor(span=(8, 16))}, bytes(16)),
    "cut short": file_of({"a": tensor()}, bytes(7)),
    "bytes behind": file_of({"a": tensor()}, bytes(9)),
    "metadata a list": file_of({"__metadata__": []}),
    "metadata of numbers": file_of({"__metadata__": {"a": 1}}),
    "metadata with half a surrogate": file_of(b'{"__metadata__":{"a":"\\udc00"}}'),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_bad_headers_are_named(content, tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_header(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_all_bad_tensors_are_named_at_once(tmp_path):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(file_of({"a": tensor("F31"), "b": tensor(span=(0, 4)), "c": tensor(shape=(-1,))}, bytes(8)))
    with pytest.raises(InputError) as caught:
        read_header(path)
    assert [name for name in "abc" if f"'{name}'" in str(caught.value)] == ["a", "b", "c"]
    assert "did you mean F32" in str(caught.value)


def test_missing_file_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_header(tmp_path / "none.safetensors")


def test_many_duplicates_are_found_quickly(tmp_path):
    row = b'{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    text = b"{" + b",".join(b'"n%d":%s' % (number, row) for number in range(100_000)) + b',"n7":' + row + b"}"
    with pytest.raises(InputError, match="'n7' occurs twice"):
        parse_header(text, 0)


JSON = st.sampled_from([None, True, -1, 2**70, 0.5, "F32", "", [], [[]], {}, {"dtype": "F32"}])
ROWS = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from([*BITS, "F31"]) | JSON,
        "shape": st.lists(st.integers(-1, 5), max_size=4) | JSON,
        "data_offsets": st.lists(st.integers(-1, 64), min_size=2, max_size=2) | JSON,
    }
)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 100))
def test_fuzzed_text_gives_a_header_or_an_input_error(text, data_bytes):
    with contextlib.suppress(InputError):
        parse_header(text, data_bytes)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(string.ascii_letters, max_size=3), ROWS | JSON, max_size=4), st.integers(0, 64))
def test_fuzzed_tables_are_taken_only_if_upstream_takes_them(table, data_bytes):
    text = json.dumps(table).encode()
    try:
        header = parse_header(text, data_bytes)
    except InputError:
        return
    rows = safetensors.deserialize(len(text).to_bytes(8, "little") + text + bytes(data_bytes))
    assert {name: tuple(row["shape"]) for name, row in rows} == {e.name: e.shape for e in header.entries.values()}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_are_never_misread(data):
    content = bytearray(save({"a": torch.arange(4.0), "b": torch.ones(2, 3).half()}, {"format": "pt"}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = bytes(content[: data.draw(st.integers(0, len(content)))]) if data.draw(st.booleans()) else bytes(content)
    length = int.from_bytes(content[:8], "little")
    try:
        header = parse_header(content[8 : 8 + length], len(content) - 8 - length)
    except InputError:
        return
    assert len(safetensors.deserialize(content)) == len(header.entries)
    for entry in header.entries.values():
        assert 0 <= entry.offset <= entry.offset + entry.nbytes <= len(content) - header.data_start


def test_ties_are_read_from_both_conventions():
    assert tied_names({"head.weight": "embed.weight", "format": "pt"}) == {"head.weight": "embed.weight"}
    assert tied_names({"zoo": '{"tied": {"b": "a", "c": 3}}'}) == {"b": "a"}
    assert tied_names({"zoo": "[1]", "x": "y"}) == {"x": "y"}
    assert tied_names({"zoo": "{" * 10}) == {}
