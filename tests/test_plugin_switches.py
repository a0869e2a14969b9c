"""Plugins are switched off by a file and by a variable, which goes before it."""

import pytest

from zoo import plugin_switches
from zoo.errors import InputError, WorkError
from zoo.plugin_switches import switch, why_off


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CONFIG", str(tmp_path / "settings"))
    monkeypatch.delenv("ZOO_PLUGINS", raising=False)
    return tmp_path / "settings"


def test_the_file(settings):
    assert why_off("acme") is None
    assert switch("acme", on=False)
    assert not switch("acme", on=False)
    assert why_off("acme") == "switched off; zoo plugins enable acme"
    assert (settings / "plugins.json").read_text() == '{"disabled": [\n "acme"\n]}\n'.replace("{", "{\n ").replace(
        "[\n ", "[\n  "
    ).replace("\n]}", "\n ]\n}")
    assert switch("acme", on=True)
    assert why_off("acme") is None


@pytest.mark.parametrize(
    ("value", "off"),
    [("acme", {"bell"}), ("acme,bell", set()), ("-acme", {"acme"}), (" acme , -bell", {"bell"}), ("", set())],
)
def test_the_variable(monkeypatch, value, off):
    monkeypatch.setenv("ZOO_PLUGINS", value)
    assert {name for name in ("acme", "bell", "zoo") if why_off(name)} == off


def test_the_variable_goes_before_the_file(monkeypatch):
    switch("acme", on=False)
    monkeypatch.setenv("ZOO_PLUGINS", "acme")
    assert why_off("acme") is None


def test_zoos_own_are_always_there_and_a_failure_is_said(settings):
    with pytest.raises(InputError, match="always there"):
        switch("zoo", on=False)
    settings.write_text("a file where a folder is due")
    with pytest.raises(WorkError, match="cannot be written"):
        switch("acme", on=False)


def test_a_damaged_file_switches_nothing_off(settings):
    settings.mkdir()
    plugin_switches.file().write_text("{")
    assert plugin_switches.disabled() == frozenset()
