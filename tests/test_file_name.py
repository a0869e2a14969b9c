"""Names that stay one file in one folder, on every system."""

from __future__ import annotations

from pathlib import Path, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.file_name import MAX_BYTES, as_name, name_mistake, same_name

WRONG = {
    "": "it is empty",
    " ": "it is empty",
    ".": "it begins with a dot",
    "..": "it begins with a dot",
    ".hidden": "it begins with a dot",
    "../x": "it contains '/'",
    "/x": "it contains '/'",
    "a/b": "it contains '/'",
    "a\\b": r"it contains '\\'",
    "C:": "it contains ':'",
    "C:x": "it contains ':'",
    "a\0b": r"it contains '\x00'",
    "a\nb": r"it contains '\n'",
    "what?": "it contains '?'",
    " a": "it begins or ends with a space, or ends with a dot",
    "a ": "it begins or ends with a space, or ends with a dot",
    "a.": "it begins or ends with a space, or ends with a dot",
    "CON": "Windows keeps this name for a device",
    "nul.tar.gz": "Windows keeps this name for a device",
    "lpt¹": "Windows keeps this name for a device",
    "a\ud800": "it contains a character that no file name takes",
    "ä" * 128: "it takes 256 bytes, and a file's name at most 255",
}


@pytest.mark.parametrize("name", WRONG, ids=ascii)
def test_why_a_name_is_none(name):
    assert name_mistake(name) == WRONG[name]


@pytest.mark.parametrize("name", ["run", "my run", "résumé", "数据", "v1.2", "-x", "model-00001-of-00002", "a" * 255])
def test_names_that_are_left_alone(name):
    assert name_mistake(name) is None
    assert as_name(name) == name


def test_a_suffix_counts():
    assert name_mistake("a" * 250, ".safetensors") == "it takes 262 bytes, and a file's name at most 255"
    assert as_name("a" * 250, suffix=".safetensors") == "a" * 243


@pytest.mark.parametrize(
    ("text", "name"),
    [("../../victim", "victim"), ("C:\\Users\\me", "C_Users_me"), ("con.run", "run_con.run"), ("..", "run")],
)
def test_the_nearest_name(text, name):
    assert as_name(text) == name


@given(st.text(max_size=300))
def test_whatever_is_made_of_a_text_is_one_name(text):
    name = as_name(text)
    assert name_mistake(name) is None
    assert len(name.encode()) <= MAX_BYTES
    assert Path("folder", name).parent == Path("folder")
    assert PureWindowsPath("folder", name).parent == PureWindowsPath("folder")


def test_capitals_do_not_tell_files_apart():
    assert same_name("Half", "half")
    assert not same_name("half", "whole")
