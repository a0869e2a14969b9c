"""`zoo diff` from the command line."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from zoo.cli import run


@pytest.fixture
def files(tmp_path):
    torch.manual_seed(0)
    tensors = {
        "features.w": torch.randn(30, 20),
        "head.w": torch.randn(5),
        "head.b": torch.ones(2),
        "n": torch.tensor(1),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    changed = {name: value.clone() for name, value in tensors.items()}
    changed["features.w"].view(torch.int32)[3, 4] += 1
    changed["head.w"] *= 2
    changed["head.c"] = changed.pop("head.b")
    torch.save(changed, tmp_path / "b.pth")
    return str(tmp_path / "a.safetensors"), str(tmp_path / "b.pth")


def test_people_see_modules_and_tensors(files, capsys):
    assert run(["diff", *files]) == 0
    out, err = capsys.readouterr()
    assert "1 equal, 2 changed, 1 missing, 1 added" in out
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith("  ")}
    assert "1 of 600 elements" in rows["features.w"]
    assert rows["features.w"].endswith("1 ulp")
    assert "1 of the norm" in rows["head.w"]
    assert "cosine 1.000000" in rows["head.w"]
    assert rows["head.b"].split() == ["head.b", "missing"]
    assert "n" not in rows
    assert not err


def test_all_lists_equal_tensors_too(files, capsys):
    run(["diff", *files, "--all"])
    assert "\n  n           equal\n" in capsys.readouterr().out


def test_json_is_one_document(files, capsys):
    assert run(["diff", *files, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["counts"] == {
        "equal": 1,
        "changed": 2,
        "dtype_changed": 0,
        "shape_changed": 0,
        "missing": 1,
        "added": 1,
    }
    assert not found["equal"]


def test_exit_code_is_asked_for(files, capsys):
    assert run(["diff", *files, "--exit-code"]) == 1
    assert run(["diff", files[0], files[0], "--exit-code"]) == 0
    assert "equal: every tensor has the same bits" in capsys.readouterr().out


def test_a_missing_file(files, capsys):
    assert run(["diff", files[0], "none.safetensors"]) == 2
    assert capsys.readouterr().err == "error: there is no file none.safetensors\n"


def test_torch_is_not_imported(files):
    code = "import sys; from zoo.cli import run; run(['diff', *sys.argv[1:]]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, *files], check=True, capture_output=True, text=True)
    assert "1 ulp" in done.stdout
