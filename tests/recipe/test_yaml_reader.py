"""YAML with positions: the core schema of YAML 1.2, places through anchors and merge keys, limits."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.errors import InputError, Problem
from zoo.recipe.document import walk
from zoo.recipe.yaml_reader import MAX_BYTES, parse, read_text


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),
        ("5.0e-4", 0.0005),
        ("1E3", 1000.0),
        ("+1.", 1.0),
        (".5", 0.5),
        ("-.inf", -math.inf),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("-3", -3),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("", None),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("'3'", "3"),
        ("!!str 3", "3"),
        ("=", "="),
        ("1e", "1e"),
        ("e3", "e3"),
        ("-", [None]),
        ("0.1.2", "0.1.2"),
        ("none", "none"),
    ],
)
def test_scalars_follow_yaml_1_2(written: str, value: object) -> None:
    data = parse(f"key:\n  {written}\n", "r.yaml").data
    assert data == {"key": value}
    assert type(data["key"]) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(parse("[.nan]", "r.yaml").data[0])


def test_keys_are_texts_as_written() -> None:
    assert parse("{1: a, true: b, 1e-3: c, null: d}", "r.yaml").data == {
        "1": "a",
        "true": "b",
        "1e-3": "c",
        "null": "d",
    }


def test_every_key_and_value_has_its_place() -> None:
    document = parse("model:\n  name: x\nsteps:\n  - train\n  -  freeze:  all\n", "r.yaml")
    places = {path: (document.key(path).line, document.key(path).column) for path, _ in walk(document.data)}
    assert places == {
        (): (1, 1),
        ("model",): (1, 1),
        ("model", "name"): (2, 3),
        ("steps",): (3, 1),
        ("steps", 0): (4, 5),
        ("steps", 1): (5, 6),
        ("steps", 1, "freeze"): (5, 6),
    }
    assert str(document.value(("steps", 1, "freeze"))) == "r.yaml:5:15"
    assert str(document.value(("model", "missing", "deep"))) == "r.yaml:2:3", "the nearest written parent"


def test_columns_count_characters_not_bytes() -> None:
    assert parse("{é: ü, ключ: x}", "r.yaml").value(("ключ",)).column == 14


def test_aliases_stand_where_the_anchor_wrote_them() -> None:
    document = parse("a: &options {lr: 1}\nb: *options\n", "r.yaml")
    assert document.data["b"] == {"lr": 1}
    assert str(document.value(("b", "lr"))) == "r.yaml:1:18"
    assert str(document.key(("b",))) == "r.yaml:2:1"


def test_merge_keys_give_way_to_what_is_written_and_to_earlier_anchors() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc:\n  <<: [*a, *b]\n  x: 3\n"
    document = parse(text, "r.yaml")
    assert document.data["c"] == {"x": 3, "y": 1, "z": 2} == yaml.safe_load(text)["c"]
    assert [str(document.value(("c", key))) for key in "xyz"] == ["r.yaml:5:6", "r.yaml:1:17", "r.yaml:2:17"]


def test_merges_nest() -> None:
    text = "a: &a {x: 1}\nb: &b {<<: *a, y: 2}\nc: {<<: *b}\n"
    assert parse(text, "r.yaml").data == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "said", "place"),
    [
        ("a: 1\nb: {c: 1, c: 2}", "'c' is written twice; the first is in line 2", "2:11"),
        ("a: &a [*a]", "this alias contains itself", "1:4"),
        ("a: &a\n  b: 1\n  <<: *a", "this mapping merges itself", "1:4"),
        ("<<: 3", "'<<' merges mappings only", "1:5"),
        ("? [x]\n: 1", "a list or mapping cannot be a key", "1:3"),
        ("a: !!python/name:os.system x", "the tag !!python/name:os.system is not allowed in a recipe", "1:4"),
        ("a: !local x", "the tag !local is not allowed in a recipe", "1:4"),
        ("a: !!set {x}", "the tag !!set is not allowed in a recipe", "1:4"),
        ("a: !!int x", "'x' cannot be read as int", "1:4"),
        ("a: !!bool yes", "'yes' cannot be read as bool", "1:4"),
        ('a: "\\ud800"', "a character that no text may contain", "1:4"),
        ('a: "\\0"', "a character that no text may contain", "1:4"),
        ('"\\e[2J": 1', "a character that no text may contain", "1:1"),
    ],
)
def test_lesser_mistakes_are_collected(text: str, said: str, place: str) -> None:
    (problem,) = parse(text, "r.yaml").problems
    assert problem.message == said
    assert str(problem.location) == f"r.yaml:{place}"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 2000, "brackets or lists nest too deeply"),
        ("a: " + "{a: " * 400, "brackets or lists nest too deeply"),
        ("".join(f"k{i}: v\n" for i in range(60_000)), "more than 50,000 values"),
        (
            "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)),
            "more than 50,000 values",
        ),
        ("a: \x07", "a control character"),
        ("a: [1, 2", "expected ',' or ']'"),
    ],
)
def test_what_is_no_recipe_is_refused_at_once(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        parse(text, "r.yaml")
    assert caught.value.problems[0].location is not None


def test_an_open_bracket_is_reported_where_it_opened() -> None:
    with pytest.raises(InputError) as caught:
        parse("a:\n  b: [1,\n     2\n\n", "r.yaml")
    assert str(caught.value.problems[0].location) == "r.yaml:2:6"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow]
)  # how fast texts are made is the machine's affair
@given(JSON)
def test_what_yaml_writes_is_read_back(data: object) -> None:
    """Texts that YAML 1.1 quotes are read as texts; floats keep every bit; every value has a place."""
    text = yaml.safe_dump({"data": data}, allow_unicode=False)
    document = parse(text, "r.yaml")
    assert document.data == {"data": data} or document.problems
    lines = text.split("\n")
    for path, _ in walk(document.data):
        assert 1 <= document.value(path).line <= len(lines)


@given(st.text(alphabet=st.sampled_from("ab: -[]{}*&!|>'\"\n\t#,?%@1e.~<\\x\x00é"), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    problems: tuple[Problem, ...] = ()
    try:
        problems = tuple(parse(text, "r.yaml").problems)
    except InputError as error:
        problems = error.problems
    assert all(problem.location is not None for problem in problems)


def refused(path: str) -> str:
    with pytest.raises(InputError) as caught:
        read_text(path)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_missing_file_names_the_nearest_recipe() -> None:
    Path("recipes").mkdir()
    Path("recipes/quickstart.yaml").write_text("")
    assert refused("quickstrat.yaml") == ("there is no recipe quickstrat.yaml (did you mean recipes/quickstart.yaml?)")
    assert refused("recipes/quickstart") == (
        "there is no recipe recipes/quickstart (did you mean recipes/quickstart.yaml?)"
    )
    assert refused("recipes/zzz.yaml") == "there is no recipe recipes/zzz.yaml (see recipes/quickstart.yaml)"


def test_a_missing_file_in_an_empty_folder() -> None:
    assert refused("a.yaml") == "there is no recipe a.yaml"
    assert refused("") == "the name of the recipe is empty (name a YAML file)"


def test_a_folder_lists_its_recipes() -> None:
    Path("recipes").mkdir()
    Path("recipes/b.yml").write_text("")
    assert refused("recipes") == "recipes is a folder, not a recipe (recipes in it: recipes/b.yml)"


def test_bytes_that_are_not_utf_8_are_placed() -> None:
    Path("a.yaml").write_bytes("name: é\nmodel: ".encode() + b"\xff\n")
    assert refused("a.yaml") == "a.yaml:2:8: byte 0xff is not UTF-8 text (save the file as UTF-8)"


def test_utf_16_is_refused_and_a_byte_order_mark_is_not() -> None:
    Path("a.yaml").write_text("name: a", encoding="utf-16")
    assert "is not UTF-8 text" in refused("a.yaml")
    Path("a.yaml").write_text("name: a", encoding="utf-8-sig")
    assert read_text("a.yaml") == "name: a"


def test_a_large_file_is_refused_without_being_read_whole() -> None:
    with open("a.yaml", "wb") as file:
        file.truncate(100_000_000)
    assert refused("a.yaml") == f"a.yaml is larger than {MAX_BYTES:,} bytes, which no recipe is"
    if Path("/dev/zero").exists():
        assert "is larger" in refused("/dev/zero")


def test_an_unreadable_name() -> None:
    assert "null" in refused("a\0b.yaml")
    assert refused("x" * 5000).endswith("File name too long")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file() -> None:
    Path("a.yaml").write_text("")
    Path("a.yaml").chmod(0)
    assert refused("a.yaml") == "cannot read 'a.yaml': Permission denied"
