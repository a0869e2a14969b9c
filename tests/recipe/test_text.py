"""Files that are no recipe: each a sentence, none a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoo.errors import InputError
from zoo.recipe.text import MAX_BYTES, read_text


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
