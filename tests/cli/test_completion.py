"""Completion: the answers, and the script as bash itself runs it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zoo import registry
from zoo.cli import COMMANDS, long_options
from zoo.cli.completion import SCRIPTS, candidates


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fine"], ["finetune"]),
        (["--v"], ["--version"]),
        (["show", "sklearn/"], ["sklearn/digits"]),
        (["list", "--kind", "surg"], ["surgeries", "surgery"]),
        (["list", "--plugin", "ti"], ["timm"]),
        (["list", "--js"], ["--json"]),
        (["finetune", "recipe.yaml", "--res"], ["--resume"]),
        (["convert", "a", "b", "--to", "torchvision/vgg16"], ["torchvision/vgg16", "torchvision/vgg16_bn"]),
        (["finetune", "rec"], []),
        (["no_such_command", "--x"], []),
    ],
)
def test_answers(words, expected):
    assert candidates(words, COMMANDS, long_options) == expected


def test_nothing_typed_yet():
    assert set(candidates([], COMMANDS, long_options)) == {*COMMANDS, "--help", "--version"}
    assert candidates(["show", ""], COMMANDS, long_options) == sorted(registry.names())


def test_a_script_for_each_shell(zoo):
    for shell, script in SCRIPTS.items():
        assert zoo("--completion", shell).out == script
    assert zoo("--completion", "csh").code == 2


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_bash_completes(tmp_path):
    (tmp_path / "zoo").write_text(f'#!/bin/sh\nexec {sys.executable} -m zoo "$@"\n')
    (tmp_path / "zoo").chmod(0o755)
    script = SCRIPTS["bash"] + 'COMP_WORDS=(zoo show sklearn/d); COMP_CWORD=2; _zoo; echo "${COMPREPLY[@]}"'
    path = f"{tmp_path}:{Path(shutil.which('bash')).parent}:/usr/bin:/bin"
    done = subprocess.run(["bash", "-c", script], env={"PATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout == "sklearn/digits\n"
