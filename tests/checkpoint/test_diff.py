"""diff finds a change of one bit, measures what it finds, and compares across formats."""

import json
import math
import os

import pytest
import torch
from safetensors.torch import save_file

from zoo.checkpoint import diff as diff_module
from zoo.checkpoint.diff import diff

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.fixture
def compare(tmp_path):
    def run(a, b, metadata=None, name=None):
        save_file(a, tmp_path / "a.safetensors")
        save_file(b, tmp_path / "b.safetensors", metadata)
        found = diff(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
        json.dumps(found, allow_nan=False)
        return found if name is None else next(row for row in found["tensors"] if row["name"] == name)

    return run


@pytest.fixture
def tensors():
    torch.manual_seed(0)
    return {
        "features.0.weight": torch.randn(8, 3),
        "features.0.bias": torch.randn(8).half(),
        "features.1.weight": torch.randn(300, 1000),
        "head.weight": torch.randn(5).bfloat16(),
        "head.steps": torch.tensor(3),
        "mask": torch.rand(7) > 0.5,
        "phase": torch.randn(3, dtype=torch.complex64),
        "small": torch.randn(4).to(torch.float8_e4m3fn),
        "empty": torch.zeros(0, 2),
    }


def test_equal_files(compare, tensors):
    found = compare(tensors, tensors)
    assert found["equal"]
    assert found["counts"]["equal"] == len(tensors)
    assert {row["changed"] for row in found["tensors"]} == {0}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("start", [1.0, -1.0, 0.0, 1e-7])
def test_a_step_of_one_ulp_anywhere_is_found(dtype, start, compare):
    values = torch.linspace(-2, 2, 300_000).to(dtype)
    values[299_998] = start
    other = values.clone()
    integers = other.view({2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize])
    integers[299_998] += 1
    row = compare({"w": values}, {"w": other}, name="w")
    assert (row["status"], row["changed"], row["ulps"]) == ("changed", 1, 1)
    assert row["elements"] == 300_000
    assert row["relative"] > 0 or start == 0.0


@pytest.mark.parametrize("dtype", FLOATS)
def test_ulps_count_across_zero(dtype, compare):
    tiny = torch.tensor([1]).to({2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]).view(dtype)
    row = compare({"w": -tiny}, {"w": tiny}, name="w")
    assert (row["changed"], row["ulps"]) == (1, 2)
    row = compare({"w": tiny * 0}, {"w": tiny * -0.0}, name="w")
    assert (row["status"], row["ulps"]) == ("changed", 0)


@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.uint8, torch.complex64, torch.float8_e5m2])
def test_numbers_are_those_of_torch(dtype, compare):
    torch.manual_seed(0)
    a, b = (torch.randn(200_003, dtype=torch.complex64 if dtype.is_complex else None).abs() * 50 for _ in "ab")
    a, b = a.to(dtype), b.to(dtype)
    row = compare({"w": a}, {"w": b}, name="w")
    x, y = (value.real.to(torch.float64) if dtype.is_complex else value.to(torch.float64) for value in (a, b))
    assert row["relative"] == pytest.approx(((y - x).norm() / x.norm()).item())
    assert row["cosine"] == pytest.approx((x @ y / x.norm() / y.norm()).item())
    assert row["largest"] == pytest.approx((y - x).abs().max().item())
    assert row["changed"] == (x != y).sum().item()


def test_every_status(compare, tensors):
    other = dict(tensors) | {"new": torch.ones(1)}
    del other["mask"]
    other["features.0.weight"] = tensors["features.0.weight"].t().contiguous()
    other["features.0.bias"] = tensors["features.0.bias"].float()
    other["head.steps"] = torch.tensor(4)
    found = compare(tensors, other)
    status = {row["name"]: row["status"] for row in found["tensors"] if row["status"] != "equal"}
    assert status == {
        "new": "added",
        "mask": "missing",
        "features.0.weight": "shape_changed",
        "features.0.bias": "dtype_changed",
        "head.steps": "changed",
    }
    rows = {row["name"]: row for row in found["tensors"]}
    assert rows["features.0.weight"]["shape"] == [[8, 3], [3, 8]]
    assert rows["features.0.bias"]["dtype"] == ["F16", "F32"]
    assert rows["features.0.bias"]["changed"] == 0
    assert rows["new"]["shape"] == [None, [1]]
    assert not found["equal"]
    modules = {row["path"]: row["counts"] for row in found["modules"]}
    assert modules["features"] == {"shape_changed": 1, "dtype_changed": 1, "equal": 1}
    assert modules["features.1"] == {"equal": 1}
    assert sum(modules[""].values()) == len(rows)


def test_modules_sum_norms(compare, tensors):
    other = dict(tensors) | {"features.0.weight": tensors["features.0.weight"] * 1.5}
    modules = {row["path"]: row for row in compare(tensors, other)["modules"]}
    change = 0.5 * tensors["features.0.weight"].norm().item()
    parts = [tensors[name].double().norm().item() for name in tensors if name.startswith("features.")]
    assert modules["features.0"]["relative"] == pytest.approx(change / math.hypot(*parts[:2]), rel=1e-5)
    assert modules["features"]["relative"] == pytest.approx(change / math.hypot(*parts), rel=1e-5)
    assert modules["head"]["relative"] == 0


def test_nan_and_infinity(compare):
    nan, inf = math.nan, math.inf
    a = torch.tensor([nan, 1.0, inf, 2.0, inf, 3.0])
    b = torch.tensor([nan, nan, inf, inf, -inf, 4.0])
    row = compare({"w": a}, {"w": b}, name="w")
    assert (row["changed"], row["nonfinite"]) == (4, 3)
    assert row["relative"] == pytest.approx(1 / 3)
    other_nan = torch.tensor([0x7FC00001], dtype=torch.int32).view(torch.float32)
    assert compare({"w": torch.tensor([nan])}, {"w": other_nan}, name="w")["status"] == "equal"
    assert compare({"w": torch.zeros(2)}, {"w": torch.ones(2)}, name="w")["relative"] is None
    huge = torch.tensor([1e300], dtype=torch.float64)
    assert compare({"w": huge}, {"w": -huge}, name="w")["changed"] == 1


def test_frozen_tensors_that_moved_are_named(compare, tensors):
    other = dict(tensors) | {"features.1.weight": tensors["features.1.weight"] + 1, "head.steps": torch.tensor(9)}
    found = compare(tensors, other, {"zoo": json.dumps({"frozen": ["features", "mask"]})})
    assert found["frozen_violations"] == ["features.1.weight"]
    assert found["metadata_changed"] == ["zoo"]


def test_formats_views_and_ties_do_not_matter(tmp_path):
    torch.manual_seed(0)
    base = torch.randn(700, 500)
    torch.save({"a": base.t(), "b": base, "c": base}, tmp_path / "a.pth")
    save_file({"a": base.t().contiguous(), "b": base, "c": base.clone()}, tmp_path / "b.safetensors")
    found = diff(tmp_path / "a.pth", tmp_path / "b.safetensors")
    assert found["equal"]
    assert found["ties_changed"] == ["c"]


def test_tied_tensors_are_read_once(tmp_path, monkeypatch):
    base = torch.randn(5)
    torch.save({"a": base, "b": base, "c": base}, tmp_path / "a.pth")
    calls = []
    real = diff_module.compare
    monkeypatch.setattr("zoo.checkpoint.diff.compare", lambda *given: (calls.append(given), real(*given))[1])
    assert diff(tmp_path / "a.pth", tmp_path / "a.pth")["counts"]["equal"] == 3
    assert len(calls) == 1


def test_no_common_name_is_said(compare):
    found = compare({"module.a": torch.ones(1)}, {"a": torch.ones(1)})
    assert "no name in common" in found["notes"][0]
    assert "strip_prefix: module." in found["notes"][1]


def test_packed_types_compare_by_bytes(tmp_path):
    from zoo.formats.entry import Entry
    from zoo.formats.safetensors_file import encode_header, layout

    header = encode_header(layout([Entry("w", "F4", (8,))]))
    for name, content in {"a": b"abcd", "b": b"abXd"}.items():
        (tmp_path / f"{name}.safetensors").write_bytes(header + content)
    row = diff(tmp_path / "a.safetensors", tmp_path / "b.safetensors")["tensors"][0]
    assert (row["status"], row["changed"]) == ("changed", 1)


def test_memory_stays_bounded(tmp_path):
    import subprocess
    import sys

    big = {"w": torch.randn(60, 1000, 1000 // 4)}
    save_file(big, tmp_path / "a.safetensors")
    big["w"][-1, -1, -1] += 1
    save_file(big, tmp_path / "b.safetensors")
    code = (
        "import sys\nfrom zoo.checkpoint.diff import diff\n"
        "assert diff(*sys.argv[1:])['tensors'][0]['changed'] == 1\n"
        "assert 'torch' not in sys.modules\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
    )
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code, *paths], check=True, capture_output=True, env=environment)
    assert int(done.stdout) < 80_000
