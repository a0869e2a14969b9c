"""`zoo plugins`: the list, and the switch."""

import pytest


@pytest.fixture(autouse=True)
def acme(plugins, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CONFIG", str(tmp_path / "settings"))
    entry_points = "[zoo.surgeries]\ncut = acme_p:cut\n[zoo.remaps]\nbad = acme_no:x"
    plugins.write("zoo-acme", entry_points, acme_p="def cut(): ...")


def row(zoo):
    (found,) = (row for row in zoo("plugins", "--json").json["plugins"] if row["plugin"] == "acme")
    return found


def test_the_list(zoo):
    assert row(zoo) == {
        "plugin": "acme", "distribution": "zoo-acme", "version": "1.0", "status": "on", "why": None,
        "entry_points": "1 remap, 1 surgery", "broken": 1,
    }  # fmt: skip
    (line,) = (line for line in zoo("plugins").out.splitlines() if line.startswith("acme"))
    assert line.split() == "acme on zoo-acme 1.0 1 remap, 1 surgery (1 broken: zoo doctor)".split()


def test_off_and_on(zoo):
    assert zoo("plugins", "disable", "zoo-acme").out == "acme is off\n"
    assert row(zoo)["status"] == "off"
    assert "acme/cut" not in zoo("list").out
    refused = zoo("show", "acme/cut")
    assert refused.code == 2
    assert "the plugin acme is switched off; zoo plugins enable acme" in refused.err
    listed = zoo("list", "--plugin", "acme")
    assert (listed.code, listed.err) == (
        2,
        "error: the plugin acme is switched off; zoo plugins enable acme (see: zoo plugins)\n",
    )
    assert zoo("plugins", "disable", "acme").out == "acme was off already\n"
    assert zoo("plugins", "enable", "acme").out == "acme is on\n"
    assert "acme/cut" in zoo("list").out


def test_a_name_in_the_variable_that_is_none_is_a_remark(zoo, monkeypatch):
    monkeypatch.setenv("ZOO_PLUGINS", "acme,acne,-tim")
    out = zoo("doctor").out
    assert "ZOO_PLUGINS names acne, which is not installed" in out
    assert "ZOO_PLUGINS names tim, which is not installed" in out
    assert "names acme" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["disable"], "zoo plugins disable needs a plugin's name"),
        (["disable", "acne"], "no plugin is called 'acne' (did you mean acme?)"),
        (["disable", "zoo"], "zoo's own components are always there"),
        (["disabel", "acme"], "zoo plugins does not 'disabel' (did you mean disable?)"),
    ],
)
def test_mistakes(zoo, words, said):
    outcome = zoo("plugins", *words)
    assert outcome.code == 2
    assert said in outcome.err
