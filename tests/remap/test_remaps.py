"""What a remap stands for: rules given, installed or found, wrappers in front of them, and which installed ones fit."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from zoo import registry
from zoo.cli import run as cli
from zoo.errors import InputError, WorkError
from zoo.formats import Source
from zoo.formats.entry import Entry
from zoo.model.build import build
from zoo.model.load_into import target_of
from zoo.remap.plan import Target
from zoo.remap.remaps import (
    choose_rules,
    classes_of,
    fitting_remaps,
    items,
    meaning_of,
    plan_source,
    read_rules,
    rules_of,
    split_at_auto,
)
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
    assert "the correspondence is open" in said
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


def entries(shapes):
    return {name: Entry(name, "F32", shape) for name, shape in shapes.items()}


def source_of(shapes, *wrappers):
    made = Source("weights.pth", "a file", entries(shapes), {}, ())
    made.wrappers = wrappers
    made.notes = ["took one of two"]
    return made


def written(rules):
    return [rule.as_mapping() for rule in rules]


LAYERS = {"body.weight": (4, 4, 3, 3), "fc.weight": (2, 4), "fc.bias": (2,)}
WRAPPED = {f"module.{name}": shape for name, shape in LAYERS.items()}
STRIPPED = "every name carried the prefix 'module.': it was stripped"


def test_one_thing_or_several(tmp_path):
    rule = parse_rules("drop: x")[0]
    assert items(None, "a=b", [rule, "auto"], {"drop": "x"}, tmp_path) == [
        "a=b",
        rule,
        "auto",
        {"drop": "x"},
        str(tmp_path),
    ]


def test_rules_are_read_from_all_that_may_hold_them(tmp_path):
    (tmp_path / "rules.yaml").write_text("- drop: ^a$\n")
    given = [tmp_path / "rules.yaml", "^b=c", "drop: d", {"add_prefix": "e."}, *parse_rules("drop: f")]
    assert written(read_rules(given)) == [
        {"drop": "^a$"}, {"rename": {"^b": "c"}}, {"drop": "d"}, {"add_prefix": "e."}, {"drop": "f"},
    ]  # fmt: skip
    assert written(read_rules(NAME)) == written(parse_rules(registry.load(NAME, "remaps")()))


def test_wrappers_are_stripped_where_that_fills_more():
    chosen = choose_rules(source_of(WRAPPED, "module."), None, Target(entries(LAYERS)))
    assert written(chosen.rules) == [{"strip_prefix": "module."}]
    assert chosen.notes == ("took one of two", STRIPPED)
    kept = choose_rules(source_of(WRAPPED, "module."), None, Target(entries(WRAPPED)))
    assert (kept.rules, kept.notes) == ((), ("took one of two",))


@pytest.mark.parametrize(
    ("remap", "stripped"),
    [(None, True), (r"^module\.fc=head", False), ("^fc=head", True), (r"^module\.=", False)],
)
def test_without_a_target_the_rules_tell_whether_wrappers_come_off(remap, stripped):
    chosen = choose_rules(source_of(WRAPPED, "module."), remap)
    assert ({"strip_prefix": "module."} in written(chosen.rules)) is stripped
    assert (STRIPPED in chosen.notes) is stripped


def test_rules_that_fit_in_neither_way_are_refused():
    with pytest.raises(InputError, match=r"fc\.weight"):
        plan_source(source_of(WRAPPED, "module."), "permute: {match: fc.weight, axes: [0, 1, 2]}")


def test_auto_finds_rules_for_what_those_in_front_of_it_leave():
    target = Target(entries({"net.conv.weight": (4, 4, 3, 3), "net.head.weight": (2, 4), "net.head.bias": (2,)}))
    auto = split_at_auto(source_of(WRAPPED, "module."), ["^body=trunk", "auto", "cast: float16"])
    assert list(auto.entries) == ["trunk.weight", "fc.weight", "fc.bias"]
    assert written(auto.before) == [{"strip_prefix": "module."}, {"rename": {"^body": "trunk"}}]
    assert written(auto.after) == [{"cast": "float16"}]
    planned = plan_source(source_of(WRAPPED, "module."), ["^body=trunk", "auto", "cast: float16"], target)
    assert {move.target: (move.sources, move.dtype) for move in planned.plan.moves} == {
        "net.conv.weight": (("module.body.weight",), "F16"),
        "net.head.weight": (("module.fc.weight",), "F16"),
        "net.head.bias": (("module.fc.bias",), "F16"),
    }
    assert planned.notes[:2] == ("took one of two", STRIPPED)
    assert planned.notes[2].startswith("unique")


def test_auto_needs_a_target_once():
    with pytest.raises(InputError, match="name the architecture: --to"):
        choose_rules(source_of(LAYERS), "auto")
    with pytest.raises(InputError, match="twice"):
        choose_rules(source_of(LAYERS), ["auto", "auto"], Target(entries(LAYERS)))


def test_auto_that_abstains_gives_no_rules():
    twins = {"a.weight": (4, 4), "b.weight": (4, 4)}
    with pytest.raises(WorkError, match="more than one answer"):
        choose_rules(source_of(twins), "auto", Target(entries({"x.weight": (4, 4), "y.weight": (4, 4)})))


@pytest.mark.parametrize(
    ("header", "classes"),
    [
        ('{"classes": ["cat", "dog"]}', ("cat", "dog")),
        ('{"classes": null}', ()),
        ('{"classes": [1]}', ()),
        ("[]", ()),
        ("no json", ()),
    ],
)
def test_class_names_of_a_header(header, classes):
    assert classes_of({"zoo": header}) == classes
    assert classes_of({}) == ()
