"""Installed remaps that bring a file whole to a network: suggested where `--remap auto` abstains."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from zoo import registry
from zoo.cli import run as cli
from zoo.errors import InputError
from zoo.formats.entry import Entry
from zoo.model.build import build
from zoo.model.load_into import target_of
from zoo.remap.remaps import fitting_remaps, meaning_of, rules_of
from zoo.remap.rules import invert, parse_rules, run

NAME, TINY = "timm/from_transformers_vit", "timm/vit_tiny_patch16_224"


@pytest.fixture
def vit():
    """The entries of a ViT in transformers' file layout, and those of timm's."""
    target = target_of(build(TINY, {"depth": 2}, device="meta").model).entries
    made = run(invert(parse_rules(registry.load(NAME, "remaps")())), target).values
    return {name: Entry(name, value.dtype, value.shape) for name, value in made.items()}, target


def test_the_remap_of_the_layout_fits(vit):
    assert fitting_remaps(*vit) == [NAME]


@pytest.mark.parametrize("change", ["lacks a tensor", "has one too many", "has another shape", "has other names"])
def test_none_fits_what_it_would_not_bring_whole(vit, change):
    source, target = vit
    name = "vit.layernorm.weight"
    changed = {
        "lacks a tensor": {key: value for key, value in source.items() if key != name},
        "has one too many": {**source, "vit.pooler.dense.weight": Entry("vit.pooler.dense.weight", "F32", (192, 192))},
        "has another shape": {**source, name: Entry(name, "F32", (191,))},
        "has other names": {f"x{place}": value for place, value in enumerate(source.values())},
    }[change]
    assert fitting_remaps(changed, target) == []


def test_a_broken_plugin_is_no_suggestion(vit, plugins):
    plugins.write("zoo-bad", "[zoo.remaps]\nbroken = bad:broken\n", bad="def broken():\n    return 1 / 0\n")
    assert fitting_remaps(*vit) == [NAME]


def test_the_command_suggests_what_it_then_takes(vit, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_file({name: np.zeros(entry.shape, "f4") for name, entry in vit[0].items()}, "vit.safetensors")
    command = ["convert", "vit.safetensors", "out.safetensors", "--to", TINY, "--to-argument", "depth=2", "--remap"]
    assert cli([*command, "auto"]) == 1
    said = capsys.readouterr().err
    assert f"an installed remap fits: --remap {NAME}" in said
    assert "which is which is open" in said
    assert cli([*command, NAME]) == 0


@pytest.mark.parametrize(
    ("item", "meaning"),
    [
        ("auto", "auto"),
        ({"drop": "^fc"}, "rules"),
        ("a.yaml", "file"),
        ("rules", "file"),
        ("old=new", "inline"),
        ("drop: ^fc", "inline"),
        ("drpo: ^fc", "inline"),
        ("lukemelas_lite0", "installed"),
        ("efficientnet-lite/lukemelas_lite0", "installed"),
    ],
)
def test_what_an_item_of_a_remap_means(item, meaning, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules").write_text("[drop: x]")
    assert meaning_of(item) == meaning


def test_a_misspelt_inline_rule_gets_the_nearest():
    with pytest.raises(InputError, match=r"there is no rule 'drpo' \(did you mean drop\?\)"):
        rules_of("drpo: ^fc")
