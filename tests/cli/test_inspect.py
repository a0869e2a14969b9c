"""`zoo inspect` from the command line."""

import json
import re
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from zoo.cli import run
from zoo.formats.safetensors_file import read_header


@pytest.fixture
def state():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)).state_dict()


def test_people_see_kind_totals_and_tensors(state, tmp_path, capsys):
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    assert run(["inspect", str(tmp_path / "a.pth")]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{tmp_path}/a.pth: PyTorch file (zip format): state dict under 'state_dict'\n")
    assert "tensors      9 (8 F32, 1 I64)" in out
    assert "F32 4×3×3×3" in out
    assert "num_batches_tracked  I64 scalar" in out
    assert not err


def test_a_long_file_is_summed_up_until_asked(tmp_path, capsys):
    save_file({f"blocks.{index}.w": torch.ones(250) for index in range(60)}, tmp_path / "a.safetensors")
    run(["inspect", str(tmp_path / "a.safetensors")])
    short = capsys.readouterr().out
    assert "blocks  60 tensors      60 kB" in short
    assert "--tree" in short
    run(["inspect", str(tmp_path / "a.safetensors"), "--tree"])
    long = capsys.readouterr().out
    assert long.count("F32 250") == 60
    assert long.index(" 9  ") < long.index(" 10 ")


@pytest.mark.parametrize("name", ["layers.{0}.experts.{1}.weight", "tensor_{0}_{1}"])
def test_ten_thousand_tensors_take_as_long_as_they_should(name, tmp_path, capsys):
    save_file({name.format(n % 20, n): torch.ones(1) for n in range(10_000)}, tmp_path / "a.safetensors")
    began = time.process_time()
    assert run(["inspect", str(tmp_path / "a.safetensors")]) == 0
    assert run(["convert", str(tmp_path / "a.safetensors"), "--dry-run"]) == 0
    assert time.process_time() - began < 5
    assert len(capsys.readouterr().out.splitlines()) < 100


def test_json_is_one_document(state, tmp_path, capsys):
    save_file(state, tmp_path / "a.safetensors", {"zoo": '{"architecture": "timm/x"}', "format": "pt"})
    assert run(["inspect", str(tmp_path / "a.safetensors"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metadata"] == {"zoo": '{"architecture": "timm/x"}', "format": "pt"}
    assert found["zoo"]["architecture"] == "timm/x"
    assert {row["name"] for row in found["tensors"]} == set(state)
    assert {tuple(row) for row in found["tensors"]} == {("name", "dtype", "shape", "bytes")}


def test_a_whole_model_is_named_and_not_run(tmp_path, capsys):
    torch.save(nn.Linear(2, 2), tmp_path / "a.pth")
    assert run(["inspect", str(tmp_path / "a.pth")]) == 0
    out = capsys.readouterr().out
    assert "pickled model (torch.nn.modules.linear.Linear)" in out
    assert "--trust-pickle" in out


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{broken}", b"PK\x03\x04 cut", b"\x80\x02X"])
def test_damaged_files_are_an_error_of_one_line(content, tmp_path, capsys):
    (tmp_path / "a.safetensors").write_bytes(content)
    assert run(["inspect", str(tmp_path / "a.safetensors"), "--json"]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_missing_file_names_the_nearest(tmp_path, capsys):
    (tmp_path / "model.safetensors").touch()
    assert run(["inspect", str(tmp_path / "modell.safetensors")]) == 2
    assert "did you mean model.safetensors?" in capsys.readouterr().err


def test_names_cannot_steer_the_terminal(tmp_path, capsys):
    save_file({"\x1b[2Jevil\n": torch.ones(1)}, tmp_path / "a.safetensors", {"note\x07": "\x1b[31mred"})
    run(["inspect", str(tmp_path / "a.safetensors")])
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "\\x1b[2Jevil\\n" in out


def test_torch_is_not_imported(state, tmp_path):
    torch.save(state, tmp_path / "a.pth")
    code = "import sys; from zoo.cli import run; run(['inspect', sys.argv[1]]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "a.pth"], check=True, capture_output=True, text=True)
    assert "state dict" in done.stdout


def test_an_architecture_by_its_name(zoo):
    done = zoo("inspect", "torchvision/squeezenet1_1", "--argument", "num_classes=7", "--depth", "1")
    assert done.code == 0
    assert done.out.startswith("torchvision/squeezenet1_1: architecture\n  parameters   726,087\n")
    assert "output       1×7" in done.out
    assert [line.split()[1] for line in done.out.splitlines() if line.startswith(("├", "└"))] == [
        "features",
        "classifier",
    ]
    assert "frozen" not in done.out


def test_a_file_of_that_name_wins(state, tmp_path, monkeypatch, zoo):
    (tmp_path / "timm").mkdir()
    save_file(state, tmp_path / "timm/resnet18")
    monkeypatch.chdir(tmp_path)
    found = zoo("inspect", "timm/resnet18", "--json").json
    assert (found["kind"], found["model"]) == ("safetensors file", None)
    done = zoo("inspect", "timm/resnet18", "--argument", "num_classes=7")
    assert done.code == 2
    assert "leave out --argument" in done.err


def test_a_checkpoint_shows_its_modules(checkpoint, zoo):
    done = zoo("inspect", checkpoint)
    assert done.code == 0
    assert re.search(r"├─ 1  Conv2d +5,130 +0.7% +TN +1×512×1×1", done.out)
    assert "down to depth 2; --depth N and --tree show more" in done.out
    assert "I64" not in done.out
    complete = zoo("inspect", checkpoint, "--tree").out
    assert "squeeze_activation  ReLU" in complete
    assert "F32 10×512×1×1" in complete


def test_json_has_the_facts_of_the_tree(checkpoint, zoo):
    model = zoo("inspect", checkpoint, "--json").json["model"]
    assert (model["new"], model["random"]) == (5130, model["parameters"] - 5130)  # squeezenet from scratch
    assert (model["frozen"], model["trainable"]) == (0, model["parameters"])
    cut = zoo("inspect", checkpoint, "--json", "--depth", "1").json
    assert [child["children"] for child in cut["model"]["tree"]["children"]] == [[], []]
    assert [module["path"] for module in cut["modules"]] == ["", "classifier", "features"]


def test_depth_of_a_plain_file(state, tmp_path, zoo):
    save_file({f"a.{name}": value for name, value in state.items()}, tmp_path / "a.safetensors")
    assert [
        line.split()[0] for line in zoo("inspect", tmp_path / "a.safetensors", "--depth", "1").out.splitlines()[-1:]
    ] == ["a"]


def test_a_checkpoint_that_cannot_be_built_still_shows_its_tensors(checkpoint, tmp_path, zoo):
    """Of an architecture that nobody has."""
    header = read_header(checkpoint)
    said = json.loads(header.metadata["zoo"]) | {"architecture": "acme/gone"}
    del said["digests"]
    save_file(load_file(checkpoint), tmp_path / "a.safetensors", {"zoo": json.dumps(said)})
    done = zoo("inspect", tmp_path / "a.safetensors")
    assert done.code == 0
    assert "note         the network is left out: " in done.out
    assert "52 (52 F32)" in done.out
