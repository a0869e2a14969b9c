"""What a remap stands for: rules given, installed or found, wrappers in front of them, and which installed ones fit."""

from __future__ import annotations

import re

import pytest

from zoo import registry
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


TWINS = {"a.weight": (4, 4), "b.weight": (4, 4)}
ITS_TWINS = {"x.weight": (4, 4), "y.weight": (4, 4)}


def test_auto_that_abstains_gives_no_rules_and_says_what_would_settle_it():
    target = Target(entries(ITS_TWINS))
    with pytest.raises(WorkError, match="more than one answer") as caught:
        choose_rules(source_of(TWINS), "auto", target)
    rules = re.findall(r"--remap '([^']+)'", str(caught.value))
    assert rules == [r"\ba\b=x", r"\ba\b=y"]
    for rule, wanted in zip(rules, (["x.weight", "y.weight"], ["y.weight", "x.weight"]), strict=True):
        chosen = choose_rules(source_of(TWINS), [rule, "auto"], target)
        assert list(run(chosen.rules, entries(TWINS)).values) == wanted


def test_auto_that_abstains_suggests_the_installed_remap_that_fits(plugins):
    rules = "[{'rename': {'^a': 'x', '^b': 'y'}}]"
    plugins.write("zoo-acme", "[zoo.remaps]\ntwins = acme:twins\n", acme=f"def twins():\n    return {rules}\n")
    with pytest.raises(WorkError, match="an installed remap fits: --remap acme/twins"):
        choose_rules(source_of(TWINS), "auto", Target(entries(ITS_TWINS)))
    assert plan_source(source_of(TWINS), "acme/twins", Target(entries(ITS_TWINS))).plan.coverage == 1


MOCO = {f"module.{net}.{name}": shape for net in ("q", "k") for name, shape in LAYERS.items()}


def test_the_one_network_that_fills_the_target_is_taken():
    """A vision tower beside a text tower, without `auto` and with it; what is left out is said."""
    towers = {f"visual.{name}": shape for name, shape in LAYERS.items()} | {"text.embed": (9, 4), "scale": ()}
    for remap in (None, "auto"):
        planned = plan_source(source_of(towers), remap, Target(entries(LAYERS)))
        assert planned.plan.coverage == planned.plan.use == 1
        assert any("the network under 'visual' fills the target; 2 tensors beside it" in n for n in planned.notes)


def test_of_several_networks_one_is_chosen_by_what_is_offered():
    target = Target(entries(LAYERS))
    with pytest.raises(WorkError, match=r"2 networks that fill the target: under module\.q and under") as caught:
        plan_source(source_of(MOCO, "module."), "auto", target)
    assert "--key module.q or --key module.k" in str(caught.value)
    (rule,) = re.findall(r"remap: \['([^']+)', …\]", str(caught.value))
    assert rule == r"keep: ^module\.q\."
    for remap in (rule, [rule, "auto"], r"keep: ^q\.", [r"keep: ^q\.", "auto"]):
        plan = plan_source(source_of(MOCO, "module."), remap, target).plan
        assert {move.sources[0] for move in plan.moves} == {name for name in MOCO if ".q." in name}
    plan = plan_source(source_of(MOCO, "module."), None, target).plan
    assert plan.coverage == 0.0


def test_networks_of_other_names_are_told_apart_by_a_match():
    """A generator beside a discriminator of another size; and two that would both do."""
    gan = {f"g.up.{i}.weight": (8, 8, 3, 3) for i in range(3)} | {f"d.{name}": shape for name, shape in LAYERS.items()}
    other = {"trunk.weight": (4, 4, 3, 3), "head.weight": (2, 4), "head.bias": (2,)}
    planned = plan_source(source_of(gan), "auto", Target(entries(other)))
    assert planned.plan.coverage == 1.0
    assert {move.sources[0].partition(".")[0] for move in planned.plan.moves} == {"d"}
    with pytest.raises(WorkError, match="2 networks that fill the target"):
        plan_source(source_of(MOCO, "module."), "auto", Target(entries(other)))


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
