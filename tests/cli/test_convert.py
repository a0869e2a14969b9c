"""`zoo convert` as the shell runs it: what it prints, its exit codes, what it leaves behind."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file

import zoo as library
from zoo.cli import typer_command
from zoo.cli.convert import command
from zoo.conversion.convert import convert
from zoo.errors import InputError

KEYS = {"coverage", "moves", "missing", "unexpected", "mismatched", "dropped", "unused_rules", "verified"}


@pytest.fixture
def source(tmp_path):
    """A .pth of timm's smallest transformer, every tensor random."""
    torch.manual_seed(0)
    state = {name: torch.randn_like(tensor) for name, tensor in timm.create_model("test_vit").state_dict().items()}
    torch.save({"state_dict": {f"encoder.{name}": tensor for name, tensor in state.items()}}, tmp_path / "in.pth")
    return tmp_path / "in.pth"


def test_a_conversion_is_told_in_patterns(zoo, source, tmp_path):
    done = zoo("convert", source, tmp_path / "out.safetensors", "--remap", r"^encoder\.=", "--to", "timm/test_vit")
    assert done.code == 0, done.err
    assert "coverage    100% of the parameters" in done.out
    row = r"encoder\.blocks\.\*\.attn\.qkv\.\{weight,bias\} +→ blocks\.\*\.attn\.qkv\.\{weight,bias\} +12×"
    assert re.search(row, done.out)
    assert f"wrote {tmp_path / 'out.safetensors'}" in done.out
    assert len(done.out.splitlines()) < 30
    assert library.load(tmp_path / "out.safetensors").zoo.architecture == "timm/test_vit"


def test_verbose_names_every_tensor(zoo, source, tmp_path):
    done = zoo("convert", source, "--dry-run", "--verbose", "--remap", r"^encoder\.=")
    assert "encoder.blocks.5.attn.qkv.weight" in done.out
    assert "nothing was written (--dry-run)" in done.out
    assert [file.name for file in tmp_path.iterdir()] == ["in.pth"]


def test_json_is_one_document(zoo, source, tmp_path):
    rules = ["--remap", r"^encoder\.=", "--remap", "drop: ^zzz"]
    done = zoo("convert", source, tmp_path / "o.safetensors", *rules, "--json")
    assert done.code == 0
    assert done.json.keys() >= KEYS
    assert done.json["unused_rules"] == [{"rule": "rule `drop: ^zzz`", "part": "^zzz", "location": None}]
    assert "warning: rule `drop: ^zzz` found nothing for '^zzz'" in done.err


def test_below_the_floor_the_code_is_1_and_the_cause_is_told(zoo, source, tmp_path):
    options = ["--to", "timm/test_vit", "--remap", "drop: cls_token"]
    done = zoo("convert", source, tmp_path / "out.safetensors", *options)
    assert done.code == 1
    assert "only 0% of the target's parameters would be filled; 100% is asked for" in done.err
    assert r"add the rule '^encoder\.='" in done.err
    assert not (tmp_path / "out.safetensors").exists()
    done = zoo("convert", source, tmp_path / "out.safetensors", *options, "--json")
    assert done.code == 1
    assert done.json["written"] is False
    assert done.json["problems"]
    assert done.json["hints"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--remap", "nothing"], "'nothing' is no remap"),
        (["--remap", "none.yaml"], "cannot read the rules none.yaml"),
        (["--remap", "(=b"], "is not a regular expression"),
        (["--remap", "drpo: x"], "is no remap"),
        (["--to", "timm/test_vitt"], "did you mean timm/test_vit"),
        (["--to", "timm/test_vit", "--to-argument", "classes"], "expected KEY=VALUE"),
        (["--to", "timm/test_vit", "--to-argument", "num_clases=3"], "num_clases"),
        (["--dtype", "float23"], "did you mean float"),
        (["--min-coverage", "2"], "--min-coverage"),
        (["--invert"], "no rules to run backwards"),
        (["--verify"], "--verify compares two networks"),
        (["--remap", "auto"], "name the architecture: --to"),
        (["--key", "optimizer"], "optimizer"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_input_is_code_2_and_leaves_nothing(zoo, source, tmp_path, arguments, told):
    done = zoo("convert", source, tmp_path / "out.safetensors", *arguments)
    assert done.code == 2
    assert told in done.err
    assert "Traceback" not in done.err
    assert [file.name for file in tmp_path.iterdir()] == ["in.pth"]


def test_mistakes_in_a_rule_file_come_with_lines(zoo, source, tmp_path):
    (tmp_path / "rules.yaml").write_text("- strip_prefx: a\n- drop: '('\n")
    done = zoo("convert", source, tmp_path / "out.safetensors", "--remap", tmp_path / "rules.yaml")
    assert done.code == 2
    assert f"{tmp_path / 'rules.yaml'}:1:3: there is no rule 'strip_prefx' (did you mean strip_prefix?)" in done.err
    assert f"{tmp_path / 'rules.yaml'}:2:3: drop: '(' is not a regular expression" in done.err


def test_there_and_back(zoo, source, tmp_path):
    rules = tmp_path / "rules.yaml"
    rules.write_text("- strip_prefix: encoder.\n- rename: {'blocks.{i}.{rest*}': 'layers.{i}.{rest}'}\n")
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    assert zoo("convert", source, there, "--remap", rules).code == 0
    assert zoo("convert", there, back, "--remap", rules, "--invert").code == 0
    assert zoo("convert", source, tmp_path / "plain.safetensors").code == 0
    assert back.read_bytes() == (tmp_path / "plain.safetensors").read_bytes()
    assert "layers.0.norm1.weight" in load_file(there)


def test_the_destination_may_not_be_the_source(zoo, source, tmp_path):
    assert zoo("convert", source, tmp_path / "a.safetensors").code == 0
    before = (tmp_path / "a.safetensors").read_bytes()
    done = zoo("convert", tmp_path / "a.safetensors", tmp_path / "a.safetensors", "--dtype", "float16")
    assert done.code == 2
    assert "is the source itself" in done.err
    assert (tmp_path / "a.safetensors").read_bytes() == before


def test_arguments_of_the_architecture(zoo, tmp_path):
    torch.save(timm.create_model("test_vit", num_classes=3, in_chans=1).state_dict(), tmp_path / "in.pth")
    options = ["--to", "timm/test_vit", "--to-argument", "num_classes=3", "--to-argument", "in_chans=1"]
    done = zoo("convert", tmp_path / "in.pth", tmp_path / "out.safetensors", *options)
    assert done.code == 0, done.err
    assert library.load(tmp_path / "out.safetensors").zoo.arguments == {"num_classes": 3, "in_chans": 1}


def test_both_networks_are_run_and_compared(zoo, source, tmp_path):
    ends = ["--from", "timm/test_vit", "--to", "timm/test_vit", "--remap", r"^encoder\.="]
    torch.save({k.removeprefix("encoder."): v for k, v in torch.load(source)["state_dict"].items()}, tmp_path / "b.pth")
    done = zoo("convert", tmp_path / "b.pth", tmp_path / "o.safetensors", *ends[:4], "--verify")
    assert done.code == 0, done.err
    assert "verified    the outputs agree" in done.out
    done = zoo("convert", source, tmp_path / "p.safetensors", *ends)
    assert "--from timm/test_vit was not needed" in done.err


def test_equal_shapes_and_other_padding_do_not_pass(zoo, tmp_path):
    """timm's two EfficientNet-Lite0 differ in padding alone; nothing is written."""
    torch.save(timm.create_model("tf_efficientnet_lite0").state_dict(), tmp_path / "in.pth")
    ends = ["--from", "timm/tf_efficientnet_lite0", "--to", "timm/efficientnet_lite0"]
    done = zoo("convert", tmp_path / "in.pth", tmp_path / "out.safetensors", *ends, "--verify", "--json")
    assert done.code == 1
    assert done.json["verified"] is False
    assert "padding" in done.json["verification"]["message"]
    assert not (tmp_path / "out.safetensors").exists()


def test_names_cannot_command_the_terminal(zoo, tmp_path):
    torch.save({"\x1b[31mred": torch.zeros(1)}, tmp_path / "in.pth")
    done = zoo("convert", tmp_path / "in.pth", "--dry-run", "--verbose")
    assert done.code == 0
    assert "\x1b" not in done.out + done.err


def test_the_options_are_the_parameters_of_zoo_convert():
    """One to one, in the same order, with the same defaults; the command adds how it prints."""
    of_python = inspect.signature(convert).parameters
    of_command = inspect.signature(command).parameters
    defaults = {name: parameter.default for name, parameter in of_command.items()}
    assert defaults.pop("verbose") is defaults.pop("as_json") is False
    assert list(defaults.items()) == [(name, parameter.default) for name, parameter in of_python.items()]
    written = {p.name: p.opts[0] for p in typer_command("convert", command).params if p.param_type_name == "option"}
    expected = {name: "--" + name.rstrip("_").replace("_", "-") for name in [*of_python][2:]}
    one_a_time = {"to_arguments": "--to-argument", "from_arguments": "--from-argument", "surgeries": "--surgery"}
    printing = {"verbose": "--verbose", "as_json": "--json", "traceback": "--traceback"}
    assert written == expected | one_a_time | printing


def test_every_option_arrives_as_its_parameter(zoo, monkeypatch):
    received = {}

    def record(*arguments, **named):
        received.update(inspect.signature(convert).bind(*arguments, **named).arguments)
        raise InputError("enough")

    monkeypatch.setattr("zoo.conversion.convert.convert", record)
    options = "--to t --from f --to-argument a=1 --from-argument b=[2] --dtype d --min-coverage 0.5 --verify --dry-run"
    more = "--invert --write-rules w --key k --trust-pickle --no-verify-bytes --overwrite --surgery s"
    zoo("convert", "SRC", "DST", "--remap", "x=y", "--remap", "auto", *options.split(), *more.split())
    assert received == {
        "source": "SRC", "destination": Path("DST"), "remap": ["x=y", "auto"], "to": "t", "from_": "f",
        "to_arguments": {"a": 1}, "from_arguments": {"b": [2]}, "dtype": "d", "min_coverage": 0.5, "verify": True,
        "dry_run": True, "invert": True, "write_rules": Path("w"), "key": "k", "trust_pickle": True,
        "verify_bytes": False, "overwrite": True, "surgeries": ["s"],
    }  # fmt: skip
    assert received.keys() == inspect.signature(convert).parameters.keys()


def test_a_rename_imports_no_torch(source, tmp_path):
    code = (
        "import sys; from zoo.cli import run; code = run(sys.argv[1:]);"
        "sys.exit(code or ('torch' in sys.modules and 3) or ('numpy' in sys.modules and 4))"
    )
    arguments = ["convert", source, tmp_path / "out.safetensors", "--remap", r"^encoder\.=vit."]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path / "out.safetensors").exists()
