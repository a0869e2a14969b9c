"""Headers and records that lie: names a terminal would obey, impossible values, addresses to ask, endless lists."""

import json
import socket
import struct

import pytest
import torch

from zoo.checkpoint.load import load
from zoo.cli.errors import say
from zoo.errors import InputError, ZooError
from zoo.formats import open_source
from zoo.formats.save import save_tensors


def written(path, header, data=b""):
    text = (header if isinstance(header, str) else json.dumps(header)).encode("utf-8", "surrogatepass")
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
HEADERS = {
    "nests": "[" * 100_000,
    "nests in an object": '{"a":' * 100_000,
    "twice": '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "a": 1}',
    "half of a surrogate pair": '{"\\ud800": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}',
    "sizes whose product wraps": {"a": {"dtype": "F32", "shape": [2**62, 0, 2**62], "data_offsets": [0, 0]}},
    "a size of many digits": '{"a": {"dtype": "F32", "shape": [' + "9" * 5000 + '], "data_offsets": [0, 4]}}',
    "minus": {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
    "truth for a number": {"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}},
    "no object": {"a": []},
    "metadata of another kind": {"__metadata__": [1], "a": ENTRY},
    "50,000 unknown types": {f"{n}": {"dtype": "F31", "shape": [], "data_offsets": [0, 0]} for n in range(50_000)},
}


@pytest.mark.parametrize("header", HEADERS)
def test_headers_that_lie(header, tmp_path, ends):
    path = written(tmp_path / "a.safetensors", HEADERS[header], bytes(4))
    assert isinstance(ends(lambda: open_source(path)), InputError)


@pytest.mark.parametrize("name", ["__metadata__", "a\ud800b"])
def test_names_that_no_file_may_hold_are_not_written(name, tmp_path):
    with pytest.raises(InputError, match="cannot contain a tensor called"):
        save_tensors({name: torch.ones(1)}, tmp_path / "a.safetensors")
    assert not list(tmp_path.iterdir())


EVIL = "\x1b[2J\x1b]0;owned\x07\rgood\n\x9b31m\u202e"


def test_names_are_spelled_out_wherever_they_are_printed(tmp_path, capsys):
    from zoo.cli.convert import command as convert
    from zoo.cli.inspect import command as inspect

    path = written(tmp_path / "a.safetensors", {"__metadata__": {EVIL: EVIL}, f"{EVIL}.w": ENTRY}, bytes(4))
    inspect(str(path), tree=True)
    convert(str(path), dry_run=True, remap=["^=x."])
    convert(str(path), dry_run=True, verbose=True)
    for rules in ([r"nothing\.=x"], [f"drop: {EVIL[:2]}"], ["concat: {into: a, from: [b, c]}"]):
        try:
            convert(str(path), dry_run=True, remap=rules)
        except ZooError as error:
            for problem in error.problems:
                say(str(problem))
    printed = capsys.readouterr()
    letters = (printed.out + printed.err).replace("\n", "")
    assert letters.isprintable()
    assert "\\x1b" in letters
    assert "good\n" not in printed.out + printed.err


def test_a_file_s_name_is_spelled_out_too(tmp_path, capsys):
    say(f"error: there is no file {tmp_path}/a\udcff\x1b[2J")
    assert capsys.readouterr().err.endswith("a\\udcff\\x1b[2J\n")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small checkpoint of zoo's, as its header and what follows."""
    from zoo.checkpoint.save import save_checkpoint
    from zoo.model.build import build

    path = tmp_path_factory.mktemp("checkpoint") / "a.safetensors"
    save_checkpoint(build("timm/test_vit", {"num_classes": 3}), path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def tampered(checkpoint, path, **changes):
    """The checkpoint with other values, its digests computed anew: an attacker can do that."""
    from zoo.formats.checkpoint_metadata import CheckpointMetadata, digests_of
    from zoo.formats.entry import Entry

    header, data = checkpoint
    record = json.loads(header["__metadata__"]["zoo"]) | changes
    entries = [Entry(n, e["dtype"], tuple(e["shape"])) for n, e in header.items() if n != "__metadata__"]
    fields = {n: record.get(n, field.get_default()) for n, field in CheckpointMetadata.model_fields.items()}
    record["digests"] = digests_of(fields, entries)
    text = json.dumps(header | {"__metadata__": {"format": "pt", "zoo": json.dumps(record)}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_the_test_s_own_tampering_is_not_what_is_refused(checkpoint, tmp_path):
    assert load(tampered(checkpoint, tmp_path / "a.safetensors")).architecture == "timm/test_vit"


@pytest.mark.parametrize(
    "change",
    [
        {"size": [10**9, 10**9]}, {"size": [-1, 0]}, {"size": [64]}, {"mean": []}, {"mean": [0.5, 0.5]},
        {"std": [0.0, 0.0, 0.0]}, {"std": [1e999, 1, 1]}, {"crop_fraction": 1e-300}, {"crop_fraction": -1.0},
        {"channels": 10**9}, {"channels": 0},
    ],
    ids=str,
)  # fmt: skip
def test_impossible_preprocessing(change, checkpoint, tmp_path, ends):
    usual = json.loads(checkpoint[0]["__metadata__"]["zoo"])["preprocessing"]
    path = tampered(checkpoint, tmp_path / "a.safetensors", preprocessing=usual | change)
    assert "preprocessing" in str(ends(lambda: load(path)))


@pytest.mark.parametrize(
    "change",
    [
        {"operations": [{"surgery": "zoo/add_module", "arguments": {}}] * 20_000},
        {"arguments": {"depth": 1_000_000, "num_classes": 3}},
        {"arguments": {"num_classes": 10**12}},
        {"arguments": {"pretrained": True}},
        {"arguments": {"checkpoint_path": "/etc/passwd"}},
        {"architecture": "os/system"},
        {"architecture": "timm/../../x"},
        {"operations": [{"surgery": "os.system", "arguments": {"command": "true"}}]},
    ],
    ids=lambda change: str(change)[:40],
)
def test_records_that_ask_for_too_much(change, checkpoint, tmp_path, ends):
    path = tampered(checkpoint, tmp_path / "a.safetensors", **change)
    assert isinstance(ends(lambda: load(path)), ZooError)


@pytest.mark.parametrize("scheme", ["http://", "https://", "hf://", "//", "\\\\"])
@pytest.mark.parametrize("field", ["name", "location"])
def test_no_address_that_a_file_names_is_asked(scheme, field, checkpoint, tmp_path, ends, monkeypatch):
    def refused(*_):
        raise AssertionError("it opens a connection")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    base = {"name": "x", "sha256": "0" * 64, field: f"{scheme}127.0.0.1/secret"}
    error = ends(lambda: load(tampered(checkpoint, tmp_path / "a.safetensors", only="trainable", base_weights=base)))
    assert isinstance(error, ZooError)
    assert "no address that a file names is opened" in str(error)


@pytest.mark.parametrize("stored", [{"source": "x"}, {"options": {"source": 3}}, {"options": {"batch_size": -1}}])
def test_data_sections_that_are_none(stored):
    from zoo.checkpoint.data_folder import found_from

    with pytest.raises(InputError, match="no data section"):
        found_from(stored)
