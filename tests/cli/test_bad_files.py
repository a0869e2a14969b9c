"""Everything bad that can be handed to `zoo convert`: a clear error, the source untouched, nothing left behind.

docs/bad-files.md tells what is printed; `ZOO_WRITE_GOLDEN=1 pytest tests/checkpoint/test_bad_inputs.py` writes it anew.
"""

import io
import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file
from torch import nn

from zoo.cli import run

PAGE = Path(__file__).parents[2] / "docs" / "bad-files.md"
ROW = re.compile(r"(?m)^\| (?P<name>[^|]+) \| `(?P<said>.+)` \| (?P<code>\d+) \|$")


def settle(name, said, code, folder):
    """Compare the first line of what is printed with the page's row, or write what is true now."""
    first = said.splitlines()[0].replace(f"{folder}/", "").replace(str(folder), ".").replace("|", "\\|")
    if ".pth" in first:  # how long torch makes a file, and what it calls a storage, is its own affair
        first = re.sub(r"(?<=storage ')\d+|(?<= is )[\d,]+(?= bytes long)", "…", first)
    row = f"| {name} | `{first}` | {code} |"
    found = {match["name"]: match.group() for match in ROW.finditer(PAGE.read_text())}
    if os.environ.get("ZOO_WRITE_GOLDEN"):
        PAGE.write_text(PAGE.read_text().replace(found[name], row))
    else:
        assert found[name] == row


def safetensors(table, data=b""):
    text = json.dumps(table).encode() if isinstance(table, dict) else table
    return len(text).to_bytes(8, "little") + text + data


def row(span, shape=(2,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(span)}


GOOD = save({"a": torch.arange(4.0), "b": torch.ones(2, 3)})


def torch_file(content, **options):
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def rezipped(change):
    """A torch file whose entries are written anew: `change(name, content)` gives name, content and compression."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(torch_file({"a": torch.ones(100)}))) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            renamed, content, compression = change(name, old.read(name))
            if renamed is not None:
                new.writestr(zipfile.ZipInfo(renamed), content, compression)
    return buffer.getvalue()


def overlapping():
    content = bytearray(torch_file({"a": torch.ones(6), "b": torch.ones(6)}))
    entries = [position for position in range(len(content)) if content[position : position + 4] == b"PK\x01\x02"]
    named = {bytes(content[e + 46 : e + 46 + struct.unpack_from("<H", content, e + 28)[0]]): e for e in entries}
    first, second = named[b"archive/data/0"], named[b"archive/data/1"]
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    return bytes(content)


def compressed(name, content):
    return name, content, zipfile.ZIP_DEFLATED


def zipped(name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


class Command:
    def __reduce__(self):
        return os.system, ("true",)


REPEATED = b"](" + b"K\x01" * 5000 + b"eq\x01](" + b"cbuiltins\ntuple\nh\x01\x85R" * 10_000 + b"e."

FILES = {
    "empty": b"",
    "text": b"hello",
    "corrupted header": safetensors(b'{"a": {"dtype": '),
    "cut short": GOOD[:-5],
    "cut in the header": GOOD[:40],
    "bytes behind": GOOD + b"x",
    "overlapping offsets": safetensors({"a": row((0, 8)), "b": row((4, 12))}, bytes(12)),
    "hole": safetensors({"a": row((0, 8)), "b": row((12, 20))}, bytes(20)),
    "oversized header": (200_000_000).to_bytes(8, "little") + b"{}",
    "header past 2**63": b"\xff" * 8 + b"{}",
    "duplicate keys": safetensors(
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
        bytes(8),
    ),
    "wrong size": safetensors({"a": row((0, 8), (3,))}, bytes(8)),
    "unknown dtype": safetensors({"a": row((0, 8), dtype="F31")}, bytes(8)),
    "zip cut short": torch_file({"a": torch.ones(50)})[:-30],
    "zip without pickle": rezipped(lambda name, content: (None if name.endswith(".pkl") else name, content, 0)),
    "zip without data": rezipped(lambda name, content: (None if name.endswith("data/0") else name, content, 0)),
    "zip with short data": rezipped(lambda n, content: (n, content[:9] if n.endswith("data/0") else content, 0)),
    "zip compressed": rezipped(compressed),
    "zip path trick": rezipped(lambda n, content: ("../../evil" if n.endswith("/version") else n, content, 0)),
    "zip absolute path": rezipped(lambda n, content: ("/tmp/evil" if n.endswith("/version") else n, content, 0)),
    "zip overlapping": overlapping(),
    "legacy cut short": torch_file({"a": torch.ones(50)}, _use_new_zipfile_serialization=False)[:-30],
    "whole model": torch_file(nn.Linear(2, 2)),
    "whole model, legacy": torch_file(nn.Linear(2, 2), _use_new_zipfile_serialization=False),
    "no tensors": torch_file({"epoch": 3}),
    "sparse tensor": torch_file({"a": torch.eye(3).to_sparse()}),
    "an optimizer alone": torch_file(torch.optim.Adam(nn.Linear(2, 2).parameters()).state_dict()),
    "a shell command beside the weights": torch_file({"state_dict": {"a": torch.ones(2)}, "x": Command()}),
    "one list, copied ten thousand times": zipped("archive/data.pkl", b"\x80\x02" + REPEATED),
    "a zip with a model in it": zipped("model.pth", torch_file({"a": torch.ones(2)})),
    "two names that are one as text": torch_file({1: torch.ones(2), "1": torch.ones(2)}),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_bad_sources(name, suffix, tmp_path, capsys):
    source = tmp_path / f"source{suffix}"
    source.write_bytes(FILES[name])
    code = run(["convert", str(source), str(tmp_path / "out.safetensors"), "--json"])
    out, err = capsys.readouterr()
    assert code in (1, 2)
    assert err.startswith("error: ")
    assert "Traceback" not in err
    assert "bug" not in err
    assert not out or json.loads(out)
    assert os.listdir(tmp_path) == [source.name]
    assert source.read_bytes() == FILES[name]
    if suffix == usual_suffix(name):
        settle(name, err, code, tmp_path)


def usual_suffix(name):
    pickled = ("zip", "legacy", "whole", "no tensors", "sparse", "an ", "a ", "one ", "two ")
    return ".pth" if name.startswith(pickled) else ".safetensors"


def test_every_bad_file_has_its_row():
    assert FILES.keys() <= {match["name"] for match in ROW.finditer(PAGE.read_text())}


def test_a_bomb_of_views(tmp_path, capsys):
    archive = tmp_path / "bomb.pth"
    archive.write_bytes(torch_file({"a": torch.ones(1).expand(200, 1000, 1000, 1000, 1000)}))
    assert run(["convert", str(archive), str(tmp_path / "out.safetensors")]) == 2
    said = capsys.readouterr().err
    assert "bomb" in said
    assert os.listdir(tmp_path) == ["bomb.pth"]
    settle("a view that would be terabytes", said, 2, tmp_path)


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.safetensors"
    save_file({f"module.{index}": torch.randn(100, 500) for index in range(10)}, path)
    return path


LINKS = {
    "the destination is the source": None,
    "… a symbolic link to it": os.symlink,
    "… a hard link to it": os.link,
}


@pytest.mark.parametrize("name", LINKS)
def test_the_source_as_destination(name, source, tmp_path, capsys):
    destination = tmp_path / "link.safetensors" if LINKS[name] else source
    if LINKS[name]:
        LINKS[name](source, destination)
    before, names = source.read_bytes(), sorted(os.listdir(tmp_path))
    assert run(["convert", str(source), str(destination), "--remap", "strip_prefix: module."]) == 2
    said = capsys.readouterr().err
    assert "is the source itself" in said
    assert (source.read_bytes(), sorted(os.listdir(tmp_path))) == (before, names)
    settle(name, said, 2, tmp_path)


def convert(source, destination, *options, **limits):
    command = [
        sys.executable,
        "-m",
        "zoo",
        "convert",
        source,
        destination,
        "--remap",
        "strip_prefix: module.",
        *options,
    ]
    return subprocess.run(command, check=False, capture_output=True, text=True, **limits)


@pytest.mark.parametrize("options", [[], ["--dtype", "bfloat16"]])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_full_disk(options, old, source, tmp_path):
    before = source.read_bytes()
    destination = tmp_path / "out.safetensors"
    if old is not None:
        destination.write_bytes(old)
        options = [*options, "--overwrite"]
    limit = (500_000, 500_000)
    done = convert(source, destination, *options, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(os.listdir(tmp_path)) == ["out.safetensors"] * (old is not None) + ["source.safetensors"]
    assert old is None or destination.read_bytes() == old
    assert source.read_bytes() == before
    settle("the disk is full (a limit on the size of files stands in)", done.stderr, 1, tmp_path)


PLACES = {
    "the destination's folder is not there": "none/out.safetensors",
    "the destination is a folder": ".",
    "a folder that takes no files": "/proc/out.safetensors",
    "a folder that is none": "/dev/null/out.safetensors",
}


@pytest.mark.parametrize("name", PLACES)
def test_places_that_cannot_be_written(name, source, tmp_path, capsys):
    assert run(["convert", str(source), str(tmp_path / PLACES[name])]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert os.listdir(tmp_path) == [source.name]
    settle(name, said, 2, tmp_path)


def test_a_file_that_is_there(source, tmp_path, capsys):
    (tmp_path / "out.safetensors").write_bytes(b"old")
    assert run(["convert", str(source), str(tmp_path / "out.safetensors")]) == 2
    assert (tmp_path / "out.safetensors").read_bytes() == b"old"
    settle("the destination is there already", capsys.readouterr().err, 2, tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_of_somebody_else(source, capsys):
    with tempfile.TemporaryDirectory() as name:
        readable, theirs = Path(name) / "source.safetensors", Path(name) / "theirs"
        shutil.copyfile(source, readable)
        theirs.mkdir(mode=0o755)
        os.chmod(name, 0o755)
        before = os.geteuid()
        os.seteuid(65534)
        try:
            code = run(["convert", str(readable), str(theirs / "out.safetensors")])
        finally:
            os.seteuid(before)
        assert code == 2
        said = capsys.readouterr().err
        assert "cannot write into the folder" in said
        assert not os.listdir(theirs)
        settle("a folder of somebody else", said, 2, name)


def test_an_interrupt_leaves_nothing(tmp_path):
    source, destination = tmp_path / "source.safetensors", tmp_path / "out.safetensors"
    save_file({f"module.{index}": torch.randn(1000, 1000) for index in range(40)}, source)
    command = [sys.executable, "-m", "zoo", "convert", source, destination, "--dtype", "float64"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while len(os.listdir(tmp_path)) == 1 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert os.listdir(tmp_path) == ["source.safetensors"]
    settle("Ctrl-C while it writes", err, 130, tmp_path)
