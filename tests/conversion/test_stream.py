"""Plans carried out: the bytes are exactly those of loading, transforming and saving, without doing that."""

import errno
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from zoo.conversion import stream
from zoo.conversion import stream as stream_module
from zoo.conversion.stream import write
from zoo.errors import InputError, WorkError
from zoo.formats import files, open_source
from zoo.formats.safetensors_file import read_header
from zoo.remap.plan import make_plan
from zoo.remap.rules import parse_rules


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return {
        "module.a.weight": torch.randn(7, 5),
        "module.a.bias": torch.randn(5).bfloat16(),
        "module.b.weight": torch.randn(3, 2, 2).half(),
        "module.b.steps": torch.tensor(7),
        "module.b.mask": torch.rand(11) > 0.5,
        "module.c.empty": torch.zeros(0, 4),
        "module.c.large": torch.randn(600, 1000),
        "module.c.double": torch.randn(3).double(),
    }


def written(path, destination, rules, **options):
    with open_source(path) as source:
        plan = make_plan(source.entries, parse_rules(rules), aliases=source.aliases)
        return write(plan, source, destination, **options)


def store(tensors, path, kind):
    if kind == "safetensors":
        save_file(tensors, path)
    elif kind == "npz":
        np.savez(path, **{name: value.numpy() for name, value in tensors.items()})
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=kind == "pth")


@pytest.mark.parametrize("kind", ["safetensors", "pth", "legacy", "npz"])
@pytest.mark.parametrize("verify_bytes", [True, False])
def test_renaming_gives_the_bytes_of_load_rename_save(kind, verify_bytes, tensors, tmp_path):
    if kind == "npz":
        tensors.pop("module.a.bias")
    path = tmp_path / f"source.{kind if kind in ('safetensors', 'npz') else 'pth'}"
    store(tensors, path, kind)
    before = path.read_bytes()
    report = written(
        path, tmp_path / "out", [{"strip_prefix": "module."}], metadata={"x": "y"}, verify_bytes=verify_bytes
    )
    renamed = {name.removeprefix("module."): value for name, value in tensors.items()}
    save_file(renamed, tmp_path / "expected", {"x": "y"})
    assert (tmp_path / "out").read_bytes() == (tmp_path / "expected").read_bytes()
    assert path.read_bytes() == before
    sizes = sum(value.nbytes for value in tensors.values())
    assert (report["copied"], report["cast"], report["transformed"]) == (sizes, 0, 0)
    assert report["bytes"] == (tmp_path / "out").stat().st_size
    assert report["verified"] is verify_bytes


def test_views_are_gathered(tmp_path):
    base = torch.randn(40, 30)
    views = {"t": base.t(), "rows": base[3:9], "columns": base[:, 4:6]}
    torch.save(views, tmp_path / "a.pth")
    report = written(tmp_path / "a.pth", tmp_path / "out", [])
    loaded = load_file(tmp_path / "out")
    assert all(torch.equal(loaded[name], views[name]) for name in views)
    assert report["copied"] == views["rows"].nbytes


def test_shards_become_one_file(tensors, tmp_path):
    import json

    names = list(tensors)
    save_file({name: tensors[name] for name in names[:4]}, tmp_path / "1.safetensors")
    save_file({name: tensors[name] for name in names[4:]}, tmp_path / "2.safetensors")
    weight_map = {name: "1.safetensors" if name in names[:4] else "2.safetensors" for name in names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    written(tmp_path, tmp_path / "out", [])
    save_file(tensors, tmp_path / "expected")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "expected").read_bytes()


def float32(*bits):
    return torch.tensor(bits, dtype=torch.int64).to(torch.int32).view(torch.float32)


ZEROS_AND_INFINITIES = float32(0x00000000, 0x80000000, 0x7F800000, 0xFF800000)
SUBNORMALS = float32(0x00000001, 0x80000001, 0x007FFFFF, 0x00008000, 0x00018000, 0x33000000, 0x387FE000)
LARGEST = float32(0x7F7FFFFF, 0xFF7FFFFF, 0x7F7F7FFF, 0x7F7F8000, 0x477FEFFF, 0x477FF000)
HALFWAY = float32(0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x3F801000, 0x3F803000)
NANS = float32(0x7FC00000, 0xFFC00000, 0x7F800001, 0x7FFFFFFF, 0xFF80FFFF, 0x7FBFFFFF)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_casts_round_as_torch_does(dtype, kind, tmp_path):
    random = float32(*torch.randint(-(2**31), 2**31, (700_001,)).tolist())
    values = torch.cat([ZEROS_AND_INFINITIES, SUBNORMALS, LARGEST, HALFWAY, random[~random.isnan()]])
    tensors = {"a": values, "b": torch.randn(3, 4), "n": torch.arange(3)}
    path = tmp_path / f"a.{kind}"
    store(tensors, path, kind)
    report = written(path, tmp_path / "out", [{"cast": {"match": "^[ab]$", "to": dtype}}])
    loaded, target = load_file(tmp_path / "out"), getattr(torch, dtype)
    for name in "ab":
        assert loaded[name].dtype == target
        assert torch.equal(loaded[name].view(torch.uint8), tensors[name].to(target).view(torch.uint8))
    assert torch.equal(loaded["n"], tensors["n"])
    assert (report["cast"], report["copied"]) == ((values.numel() + 12) * target.itemsize, 24)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_nan_survives_every_cast(dtype, tmp_path):
    save_file({"a": NANS}, tmp_path / "a.safetensors")
    written(tmp_path / "a.safetensors", tmp_path / "out", [{"cast": {"match": "a", "to": dtype}}])
    assert load_file(tmp_path / "out")["a"].isnan().all()


def test_transforms_and_joins(tmp_path):
    tensors = {"q": torch.randn(4, 3), "k": torch.randn(4, 3), "v": torch.randn(4, 3), "w": torch.randn(2, 5)}
    save_file(tensors, tmp_path / "a.safetensors")
    rules = [{"concat": {"into": "qkv", "from": ["q", "k", "v"]}}, {"transpose": {"match": "^w$", "axes": [0, 1]}}]
    report = written(tmp_path / "a.safetensors", tmp_path / "out", rules)
    loaded = load_file(tmp_path / "out")
    assert torch.equal(loaded["qkv"], torch.cat([tensors[name] for name in "qkv"]))
    assert torch.equal(loaded["w"], tensors["w"].t())
    assert (report["copied"], report["transformed"]) == (4 * 36, 40)


def test_copies_that_follow_each_other_are_one_call(tensors, tmp_path, monkeypatch):
    save_file(tensors, tmp_path / "a.safetensors")
    calls = []
    copy = files.Readers.copy
    monkeypatch.setattr(files.Readers, "copy", lambda self, *rest: (calls.append(rest), copy(self, *rest)))
    written(tmp_path / "a.safetensors", tmp_path / "out", [{"strip_prefix": "module."}])
    assert len(calls) == 1


def test_large_files_keep_their_place_within_pages_and_go_back_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(stream_module, "ALIGN_FROM", 0)
    tensors = {f"module.layer.{index}.weight": torch.randn(10, 10) for index in range(20)}
    save_file(tensors, tmp_path / "a")
    written(tmp_path / "a", tmp_path / "b", [{"strip_prefix": "module.layer."}])
    written(tmp_path / "b", tmp_path / "c", [{"add_prefix": "module.layer."}])
    starts = [read_header(tmp_path / name).data_start for name in "abc"]
    assert starts[0] % 4096 == starts[1] % 4096
    assert starts[1] % 8 == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes()
    loaded = load_file(tmp_path / "b")
    assert all(torch.equal(loaded[name.removeprefix("module.layer.")], value) for name, value in tensors.items())


@pytest.mark.parametrize("first", [errno.EXDEV, errno.ENOSYS, "stops", "nothing"])
@pytest.mark.parametrize("second", [errno.EINVAL, "stops", None])
def test_every_way_of_copying(first, second, tensors, tmp_path, monkeypatch):
    def behave(how):
        left = [3]

        def copy(source, destination, count, source_offset, offset):
            if isinstance(how, int):
                raise OSError(how, "unsupported")
            left[0] -= 1
            if how == "nothing" or left[0] < 0:
                return 0
            block = os.pread(source, min(count, 1000), source_offset)
            return os.pwrite(destination, block, offset)

        return copy

    ways = [behave(how) for how in (first, second) if how is not None]
    monkeypatch.setattr(files, "_KERNEL_COPIES", ways if second is not None else [*ways, files._send_file])
    save_file(tensors, tmp_path / "a.safetensors")
    written(tmp_path / "a.safetensors", tmp_path / "out", [])
    assert (tmp_path / "out").read_bytes() == (tmp_path / "a.safetensors").read_bytes()


def test_a_full_disk_in_the_kernel_is_told(tensors, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "_KERNEL_COPIES", [full])
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(WorkError, match="No space left on device"):
        written(tmp_path / "a.safetensors", tmp_path / "out", [])
    assert os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_the_source_as_destination_is_refused(link, tensors, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(tensors, path)
    before = path.read_bytes()
    destination = path if link is None else tmp_path / "b.safetensors"
    if link is not None:
        link(path, destination)
    with pytest.raises(InputError, match="is the source itself"):
        written(path, destination, [{"strip_prefix": "module."}])
    assert path.read_bytes() == before


def test_wrong_bytes_are_found_and_removed(tensors, tmp_path, monkeypatch):
    save_file(tensors, tmp_path / "a.safetensors")
    (tmp_path / "out").write_bytes(b"old")

    def spoil(self, span, destination, offset):
        block = bytearray(b"".join(self.chunks(span)))
        block[len(block) // 2] ^= 1
        destination.write(block, offset)

    monkeypatch.setattr(files.Readers, "copy", spoil)
    with pytest.raises(WorkError, match="reads back differently"):
        written(tmp_path / "a.safetensors", tmp_path / "out", [])
    assert sorted(os.listdir(tmp_path)) == ["a.safetensors", "out"]
    assert (tmp_path / "out").read_bytes() == b"old"


@pytest.mark.parametrize("sync", [True, False])
def test_the_disk_gets_bytes_while_the_rest_is_made(sync, tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(files, "STEP", 100_000)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, offset, length, advice: started.append((offset, length)))
    save_file({f"{index}": torch.randn(7_000) for index in range(40)}, tmp_path / "a.safetensors")
    for rules in ([], [{"cast": "float64"}]):
        started.clear()
        written(tmp_path / "a.safetensors", tmp_path / "out", rules, sync=sync)
        ends = [0, *(offset + length for offset, length in started)]
        assert [offset for offset, _ in started] == ends[:-1]
        assert (ends[-1] > 1_000_000) is sync


def test_a_source_that_shrinks_is_told(tensors, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file(tensors, path)
    with open_source(path) as source:
        os.truncate(path, path.stat().st_size - 10)
        with pytest.raises(WorkError, match="was it changed meanwhile"):
            write(make_plan(source.entries), source, tmp_path / "out")
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_an_interrupt_leaves_nothing(tensors, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    save_file(tensors, tmp_path / "a.safetensors")
    monkeypatch.setattr(stream, "_verify", interrupt)
    with pytest.raises(KeyboardInterrupt):
        written(tmp_path / "a.safetensors", tmp_path / "out", [])
    assert os.listdir(tmp_path) == ["a.safetensors"]


def run(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=True, capture_output=True, text=True
    )
    return done.stdout.split()


PLAIN = """
import sys
from zoo.remap.plan import make_plan
from zoo.remap.rules import parse_rules
from zoo.formats import open_source
from zoo.conversion.stream import write
source = open_source(sys.argv[1])
write(make_plan(source.entries, parse_rules(sys.argv[3])), source, sys.argv[2])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) // 1024, "torch" in sys.modules, "numpy" in sys.modules)
"""


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_renaming_imports_no_torch_and_takes_little_memory(kind, tmp_path):
    tensors = {f"module.{index}.weight": torch.randn(1000, 2500) for index in range(10)}
    path = tmp_path / f"a.{kind}"
    store(tensors, path, kind)
    peak, torch_loaded, numpy_loaded = run(PLAIN, path, tmp_path / "out", "strip_prefix: module.")
    assert (torch_loaded, numpy_loaded) == ("False", "False")
    assert int(peak) < 64
    peak, torch_loaded, _ = run(PLAIN, path, tmp_path / "out", "cast: {match: weight, to: bfloat16}")
    assert torch_loaded == "False"
    assert int(peak) < 128
    loaded = load_file(tmp_path / "out")
    assert all(torch.equal(loaded[name], value.bfloat16()) for name, value in tensors.items())


def test_a_network_converted_works(tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
    network(torch.randn(2, 3, 8, 8))
    torch.save({"state_dict": nn.DataParallel(network).state_dict()}, tmp_path / "a.pth")
    written(tmp_path / "a.pth", tmp_path / "out.safetensors", [{"strip_prefix": "module."}])
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
    other.load_state_dict(load_file(tmp_path / "out.safetensors"))
    image = torch.randn(2, 3, 8, 8)
    assert torch.equal(network.eval()(image), other.eval()(image))
