"""Plugins imported in a process of their own: what ends there ends alone, and is told apart."""

import os
import signal
import sys
import threading

import psutil
import pytest

from zoo import plugin_process
from zoo.isolation import PluginError, guarded
from zoo.plugin_process import IMPORT, NAMES, WEIGHTS, Answer, Question, ask, import_target, names_of


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """`modules(a="text")`: modules that can be imported, here and in the other process."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(**texts):
        for name, text in texts.items():
            (tmp_path / f"{name}.py").write_text(text)
        return tmp_path

    return write


def question(module, what=IMPORT, kind="surgeries", name="cut"):
    return Question(what, kind, f"{module}:{name}", f"zoo-{module}", "1.0")


def test_the_culprit_is_the_one_that_was_being_asked(modules):
    folder = modules(
        q_good="def cut(): ...", q_ends="import os; os._exit(7)", q_bad="def cut(): ...\n1 / 0", q_last="cut = dict"
    )
    found = ask([question(name) for name in ("q_good", "q_ends", "q_bad", "q_last")])
    assert [each.cause for each in found] == [
        None,
        "it ended the process (os._exit, code 7)",
        f"ZeroDivisionError: division by zero ({folder / 'q_bad.py'}:2)",
        None,
    ]
    assert "in <module>\n    1 / 0" in found[2].trace


def test_what_one_plugin_changes_does_not_reach_the_next(modules):
    modules(
        p_changes="import json, os\nos.environ['P_CHANGED'] = '1'\njson.dumps = None\ndef cut(): ...",
        p_next="import json, os\nassert 'P_CHANGED' not in os.environ\njson.dumps(1)\ndef cut(): ...",
    )
    found = ask([question("p_changes"), question("p_next")])
    assert found == [Answer(changes=("environment: P_CHANGED added",)), Answer()]


def test_weights_are_asked_for_what_they_say(modules):
    text = "from zoo.api import Weights\ndef cut(): return Weights('/x.pth', 'a/b', sha256='0' * 8)\n"
    modules(w_m=f"{text}def odd(): return 3")
    good = question("w_m", WEIGHTS, "weights")
    odd = question("w_m", WEIGHTS, "weights", "odd")
    found = ask([good, odd])
    assert found[0].value == {"architecture": "a/b", "location": "/x.pth", "sha256": "0" * 8}
    assert found[1].cause == "TypeError: it returned int, expected zoo.api.Weights"


def test_a_plugin_that_asks_zoo_starts_no_further_process(modules):
    modules(n_m="from zoo.plugin_process import Question, ask\ncut = type(ask([None])[0].cause)")
    assert ask([question("n_m")]) == [Answer()]


def test_what_it_starts_is_killed_with_it(modules, monkeypatch):
    monkeypatch.setitem(plugin_process.SECONDS, IMPORT, 0.7)
    sleeper = f"subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(99)'])"
    modules(k_m=f"import subprocess, time\n{sleeper}\ntime.sleep(99)")
    (found,) = ask([question("k_m")])
    assert found.cause == "its import took more than 0.7 s"


SPINS = "import time\nbegan = time.process_time()\nwhile time.process_time() - began < {}: pass\ncut = dict"


def test_a_busy_machine_is_not_its_fault(modules, monkeypatch):
    """While others have the processor, its own seconds count, not the clock's."""
    monkeypatch.setitem(plugin_process.SECONDS, IMPORT, 1.5)
    modules(b_m=SPINS.format(0.4))
    start, others = plugin_process._start, []

    def crowded(questions):
        process = start(questions)
        os.kill(process.pid, signal.SIGSTOP)  # it starts, and has to wait for the others
        others.append(threading.Timer(2.0, os.kill, (process.pid, signal.SIGCONT)))
        others[-1].start()
        return process

    monkeypatch.setattr(plugin_process, "_start", crowded)
    monkeypatch.setattr(psutil.Process, "status", lambda self: psutil.STATUS_RUNNING)  # stopped would be waiting
    assert ask([question("b_m")]) == [Answer()]


def test_what_computes_too_long_is_killed(modules, monkeypatch):
    monkeypatch.setitem(plugin_process.SECONDS, IMPORT, 0.7)
    modules(b_m=SPINS.format(99))
    (found,) = ask([question("b_m")])
    assert found.cause == "its import took more than 0.7 s"


def test_names(modules):
    modules(s_m="class S:\n    def names(self): return ['b', 'a']\n    def build(self, name): ...\ncut = S()")
    assert ask([question("s_m", NAMES, "architectures")])[0].value == ["a", "b"]
    assert names_of(dict) is None
    assert import_target("builtins:dict.fromkeys", "surgeries") is not None
    with pytest.raises(PluginError, match="which nobody can call"):
        guarded(lambda: import_target("sys:path", "surgeries"))
