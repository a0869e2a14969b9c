"""Answers of plugins are remembered while what they depend on stays as it is."""

import json
import os
import time

import pytest

from zoo import plugin_memory
from zoo.plugin_memory import Asked, answers_to
from zoo.plugin_process import IMPORT, Answer, Question


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """A question about a plugin in `tmp_path`, and the list of what was really asked."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    info = tmp_path / "zoo_acme-1.0.dist-info"
    info.mkdir()
    for name in ("RECORD", "entry_points.txt", "METADATA"):
        (info / name).write_text("")
    (tmp_path / "acme_m.py").write_text("")
    calls, answer = [], [Answer(value=["net"])]
    monkeypatch.setattr(plugin_memory, "ask", lambda questions: calls.append(questions) or answer * len(questions))

    def again(version="1.0", *, said=None, anew=False):
        if said is not None:
            answer[:] = [said]
        plugin_memory.forget()
        question = Question(IMPORT, "surgeries", "acme_m:cut", "zoo-acme", version)
        one = Asked(question, str(info), (tmp_path / "acme_m.py",))
        before = len(calls)
        (found,) = answers_to([one], anew=anew)
        return found, len(calls) - before

    return again


def test_an_answer_is_remembered_while_version_and_files_stay(asked, tmp_path):
    assert asked() == (Answer(value=["net"]), 1)
    assert asked() == (Answer(value=["net"]), 0)
    assert asked(anew=True)[1] == 1
    assert asked("1.1")[1] == 1
    assert asked("1.1")[1] == 0
    for name in ("acme_m.py", "zoo_acme-1.0.dist-info/RECORD", "zoo_acme-1.0.dist-info/entry_points.txt"):
        (tmp_path / name).write_text(f"changed {name}")
        assert asked("1.1")[1] == 1, name
        assert asked("1.1")[1] == 0, name


def test_of_an_editable_install_every_file_counts(asked, tmp_path):
    assert asked()[1] == 1
    (tmp_path / "other.py").write_text("")
    assert asked()[1] == 0
    (tmp_path / "zoo_acme-1.0.dist-info/direct_url.json").write_text('{"dir_info": {"editable": true}}')
    assert asked()[1] == 1
    (tmp_path / "other.py").write_text("changed")
    assert asked()[1] == 1
    assert asked()[1] == 0


def test_a_failure_counts_until_something_is_installed(asked, tmp_path, monkeypatch):
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    assert asked(said=Answer("no torch here", trace="Traceback …")) == (Answer("no torch here", trace="Traceback …"), 1)
    assert asked()[1] == 0
    os.utime(site, ns=(time.time_ns(), time.time_ns() + 10**9))
    assert asked(said=Answer()) == (Answer(), 1)


def test_a_requirements_version_counts(asked, monkeypatch):
    monkeypatch.setattr(plugin_memory, "_requirements", lambda _: ["torch"])
    assert asked()[1] == 1
    assert asked()[1] == 0
    monkeypatch.setattr(plugin_memory, "_versions", lambda names: dict.fromkeys(names, "another"))
    assert asked()[1] == 1


@pytest.mark.parametrize("text", ["", "[]", "{", '{"import surgeries acme_m:cut": 3}'])
def test_a_damaged_file_is_asked_anew(asked, tmp_path, text):
    asked()
    (file,) = (tmp_path / "cache" / "plugins").glob("*.json")
    file.write_text(text)
    assert asked()[1] == 1
    assert asked()[1] == 0


def test_a_value_of_another_form_is_not_believed(asked, tmp_path):
    asked()
    (file,) = (tmp_path / "cache" / "plugins").glob("*.json")
    rows = json.loads(file.read_text())
    rows["import surgeries acme_m:cut"]["value"] = [{"names": 3}]
    file.write_text(json.dumps(rows))
    assert asked()[1] == 1


def test_a_cache_that_cannot_be_written_costs_time_alone(asked, tmp_path):
    (tmp_path / "cache").write_text("a file where a folder is due")
    assert asked() == (Answer(value=["net"]), 1)
    assert asked()[1] == 1
