"""The module tree for people: plain in a pipe, in the terminal's width and colours else."""

import io
import re

import pytest

from zoo.cli.module_tree import COLOURS, cut, fitting_depth, short, show, summary

MARKS = ("frozen", "trainable", "loaded", "new", "random")


def node(name, parameters=0, children=(), count=1, note="", **marks):
    return {
        "name": name, "path": name, "kind": "Linear", "settings": "", "count": count, "parameters": parameters,
        "share": parameters / 100, **dict.fromkeys(MARKS, 0 if marks else None), **marks, "input": [1, 3, 8, 8],
        "output": [1, 4], "macs": parameters * 1000, "note": note, "children": list(children),
    }  # fmt: skip


@pytest.fixture
def model():
    inner = [node("fc", 20, frozen=20, loaded=20), node("act", frozen=0)]
    blocks = node("blocks", 60, [node("0-2", 20, inner, count=3, frozen=20, loaded=20)], frozen=60, loaded=60)
    head = node("[red]head\x1b[2J", 40, note="never called", trainable=40, new=40)
    root = node("Net", 100, [blocks, head], frozen=60, trainable=40, loaded=60, new=40)
    about = {"architecture": "x/net", "arguments": {}, "input": [1, 3, 8, 8], "output": [1, 4], "notes": []}
    return about | {key: root[key] for key in ("parameters", "macs", *MARKS)} | {"tree": root}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def on_a_terminal(model, monkeypatch, columns=100, **variables):
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TERM": "xterm-256color", "COLUMNS": str(columns), **variables}.items():
        monkeypatch.setenv(name, value)
    stream = Terminal()
    show(model, None, stream)
    return stream.getvalue()


def without_codes(text):
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def test_piped_it_is_plain_text(model):
    stream = io.StringIO()
    show(model, None, stream)
    assert stream.getvalue() == (
        "module                       parameters   share        input    output   MACs\n"
        "Net                                 100  100.0%  FTLN  1×3×8×8  1×4     100 k\n"
        "├─ blocks  Linear                    60   60.0%  FL    1×3×8×8  1×4      60 k\n"
        "│  └─ 0-2 (3×)  Linear               20   20.0%  FL    1×3×8×8  1×4      20 k\n"
        "│     ├─ fc  Linear                  20   20.0%  FL    1×3×8×8  1×4      20 k\n"
        "│     └─ act  Linear                                   1×3×8×8  1×4\n"
        "└─ [red]head\\x1b[2J  Linear          40   40.0%  TN    1×3×8×8  1×4      40 k  never called\n"
        "(F frozen, T trains; L from the base weights, N new (a surgery made it), R random (neither))\n"
    )


def test_a_terminal_sees_letters_in_their_colours_and_names_as_they_are(model, monkeypatch):
    text = on_a_terminal(model, monkeypatch)
    codes = {"blue": 34, "green": 32, "cyan": 36, "magenta": 35}
    for letter in "FTLN":
        assert f"\x1b[{codes[COLOURS[letter]]}m{letter}\x1b[0m" in text
    assert "\x1b[2J" not in text
    assert "[red]head\\x1b[2J" in without_codes(text)


def test_colours_are_left_out_where_they_are_not_wanted(model, monkeypatch):
    assert "\x1b[34m" not in on_a_terminal(model, monkeypatch, NO_COLOR="1")


@pytest.mark.parametrize("columns", [50, 80, 120])
def test_a_narrow_terminal_loses_columns_but_no_digit(model, monkeypatch, columns):
    lines = without_codes(on_a_terminal(model, monkeypatch, columns)).splitlines()[:-1]
    assert max(map(len, lines)) <= columns
    assert all(" 100 " in line and line.rstrip().endswith("100 k") for line in lines if line.startswith("Net"))
    assert ("input" in lines[0]) == (columns > 50)


def test_an_architecture_has_no_letters(model):
    stream = io.StringIO()
    show(model | dict.fromkeys(MARKS) | {"tree": node("Net", 100)}, None, stream)
    assert "frozen" not in stream.getvalue()


def test_depth(model):
    tree = model["tree"]
    assert fitting_depth(tree) == 3
    assert cut(tree, 0)["children"] == []
    assert [child["children"] for child in cut(tree, 1)["children"]] == [[], []]
    wide = node("Net", 0, [node("a", 0, [node(str(place)) for place in range(50)])])
    assert fitting_depth(wide) == 1
    assert fitting_depth(node("Net", 0, wide["children"][0]["children"])) == 1


def test_what_stands_above(model):
    lines = list(summary(model))
    assert lines[0] == "  parameters   100 (60 frozen, 40 trainable, 60 loaded, 40 new)"
    assert lines[-1] == "  MACs         100,000 for one image, in convolutions and matrix products"
    assert not [line for line in summary(model | {"macs": None}) if "MACs" in line]


def test_numbers_have_three_digits():
    assert [short(number) for number in (7, 999, 9_996, 999_600, 4_089_184_256)] == [
        "7", "999", "10 k", "1 M", "4.09 G",
    ]  # fmt: skip
