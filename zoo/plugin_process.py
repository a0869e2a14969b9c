"""Import plugins in a process of their own, and ask what is found there.

A plugin that ends the process (`os._exit`, a segmentation fault) ends that one, and one that never ends is killed with
it: neither can happen to zoo. The process answers one question after the other, a line of JSON each, so that the first
one without an answer is the culprit; a new process goes on behind it, and behind every plugin that failed or changed
something around itself, so that no plugin is blamed for another.

The parent's side is `ask`, the child's `answer_all`.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from zoo.contracts import Weights
from zoo.isolation import PluginError, guarded, owned_process
from zoo.surroundings import Surroundings

if TYPE_CHECKING:
    import queue
    import subprocess

NAMES = "names"  # of an architecture source; None for a plain architecture
IMPORT = "import"  # whether what the entry point names is there, and what its import changes
WEIGHTS = "weights"  # of a weights component: architecture, location and sha256
SECONDS = {NAMES: 15.0, IMPORT: 120.0, WEIGHTS: 15.0}  # before the process is killed; torch may take its time to import
SHARED = 8  # times as long where others have the processor or the disk: a machine's load is not the plugin's fault
PATIENCE = 3.0  # seconds before a person hears what is waited for
NAMES_LIMIT = 50_000  # more names than this from one source is taken for an endless generator
_dumps = json.dumps  # before any plugin could replace it
_INSIDE = "ZOO_PLUGIN_PROCESS"  # set in the process: a plugin that asks zoo there does not start another one
_START = "import json, sys; given = json.load(sys.stdin); sys.path[:] = given['path']; \
from zoo.plugin_process import answer_all; answer_all(given['questions'])"


@dataclass(frozen=True)
class Question:
    """What is asked of one entry point: `what` is NAMES, IMPORT or WEIGHTS."""

    what: str
    kind: str
    target: str
    distribution: str
    version: str


@dataclass(frozen=True)
class Answer:
    """`cause` says what is wrong, with the plugin's file and line, and is None where all is well.

    `value` is what was asked for; `changes` is what the import changed around itself, a phrase each.
    """

    cause: str | None = None
    value: Any = None
    changes: tuple[str, ...] = ()
    trace: str = ""


def import_target(target: str, kind: str) -> Any:
    """What an entry point names. Runs the plugin's code: call it guarded. Raises TypeError for what no component is."""
    module, _, attribute = target.partition(":")
    loaded = functools.reduce(getattr, attribute.split("."), importlib.import_module(module))
    if not callable(loaded) and not (kind == "architectures" and hasattr(loaded, "build")):
        raise TypeError(f"{target} is {type(loaded).__name__}, which nobody can call")
    return loaded


def names_of(loaded: Any) -> list[str] | None:
    """The names a source gives, sorted; None for a plain callable. Runs the plugin's code: call it guarded."""
    if not hasattr(loaded, "names"):
        return None
    if not callable(getattr(loaded, "build", None)):
        raise TypeError("a source with names() needs build(name, **arguments)")
    given = loaded.names()
    found = list(itertools.islice(() if isinstance(given, str) else given, NAMES_LIMIT + 1))
    if len(found) > NAMES_LIMIT:
        raise ValueError(f"names() gave more than {NAMES_LIMIT} names")
    if isinstance(given, str) or (wrong := [name for name in found if not is_name(name)]):
        raise TypeError(f"names() gave {given if isinstance(given, str) else wrong[0]!r}, which is not a name")
    return sorted(set(map(str, found)))


def is_name(name: Any) -> bool:
    """Whether a component may be called so: printable, without spaces."""
    return isinstance(name, str) and name.isprintable() and bool(name) and " " not in name


def ask(questions: Sequence[Question]) -> list[Answer]:
    """The answers, in order. A process or several are started for it, none of which outlives the call."""
    answers: list[Answer] = []
    if os.environ.get(_INSIDE):
        return [Answer("it was asked for while a plugin was looked at, which would never end")] * len(questions)
    while len(answers) < len(questions):
        answers += _ask_one_process(questions[len(answers) :])
    return answers


def _ask_one_process(questions: Sequence[Question]) -> list[Answer]:
    """The answers to the first one or more of the questions."""
    import queue
    import threading

    process = _start(questions)
    lines: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
    reader.start()
    answers: list[Answer] = []
    try:
        for question in questions:
            answer = _wait(process, lines, question)
            if answer is None:  # it has said all that it would
                break
            answers.append(answer)
            if answer.value is _ENDED:
                answers[-1] = Answer(answer.cause)
                break
    finally:
        _kill(process)
        reader.join(1.0)
        if process.stdout is not None and not reader.is_alive():  # else what it started holds the pipe open
            process.stdout.close()
    return answers or [Answer("the process that was to import it did not start")]


_ENDED = object()


def _start(questions: Sequence[Question]) -> subprocess.Popen[bytes]:
    import subprocess

    given = {"path": sys.path, "questions": [asdict(question) for question in questions]}
    process = subprocess.Popen(
        [sys.executable, "-c", _START],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, _INSIDE: "1"},
        start_new_session=os.name == "posix",  # what it starts itself is killed with it
    )
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.write(json.dumps(given).encode())
        process.stdin.close()
    return process


def _read(process: subprocess.Popen[bytes], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line.decode("utf-8", "replace"))
    lines.put(None)


def _wait(process: subprocess.Popen[bytes], lines: queue.Queue[str | None], question: Question) -> Answer | None:
    """The next answer; one whose value is _ENDED where the process gave none, None where it wanted a fresh one."""
    import queue

    began, said, allowance = time.monotonic(), False, _Allowance(process, SECONDS[question.what])
    while not allowance.over(waited := time.monotonic() - began):
        ended = process.poll() is not None  # looked at first: its last line may still be on the way
        try:
            line = lines.get(timeout=0.2)
        except queue.Empty:
            if ended:  # somebody else has its end of the pipe
                return Answer(_end_of(process.returncode), _ENDED)
            if not said and waited > PATIENCE:
                said = True
                limit = f"it has {SECONDS[question.what]:g} s"
                sys.stderr.write(f"waiting for {question.distribution} {question.version} ({limit})\n")
            continue
        try:
            row = json.loads(line or "")
            return None if row is None else Answer(row["cause"], row["value"], tuple(row["changes"]), row["trace"])
        except (ValueError, KeyError, TypeError, RecursionError):
            return Answer(_end_of(_code(process)), _ENDED)
    doing = {NAMES: "naming its architectures", IMPORT: "its import", WEIGHTS: "naming its weights"}[question.what]
    return Answer(f"{doing} took more than {SECONDS[question.what]:g} s", _ENDED)


class _Allowance:
    """`limit` seconds of the processor, or of the clock where the process waits for something else than processor and
    disk."""

    def __init__(self, process: subprocess.Popen[bytes], limit: float) -> None:
        import psutil

        self.limit, self.waiting, self.before = limit, 0, 0.0
        self.process: psutil.Process | None = None
        with contextlib.suppress(psutil.Error):  # it may have ended
            self.process = psutil.Process(process.pid)
            self.before = self._used()

    def _used(self) -> float:
        assert self.process is not None
        times = self.process.cpu_times()
        return float(times.user + times.system) - self.before

    def over(self, waited: float) -> bool:
        """Whether it is used up, after so many seconds; to be asked time and again."""
        import psutil

        if waited < self.limit or self.process is None:
            return waited >= self.limit
        try:
            waits = self.process.status() not in (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)
            self.waiting = self.waiting + 1 if waits else 0
            return self.waiting > 2 or waited >= SHARED * self.limit or self._used() >= self.limit
        except psutil.Error:  # it has ended meanwhile: what it said last may still be on the way
            return waited >= self.limit + 1


def _code(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code of a process that has closed its pipe; None where it goes on nevertheless."""
    import subprocess

    try:
        return process.wait(1.0)
    except subprocess.TimeoutExpired:
        return None


def _end_of(code: int | None) -> str:
    """How a process ended that was to go on."""
    if code is None:
        return "it closed the pipe through which zoo was to hear of it"
    if code >= 0:
        return f"it ended the process (os._exit, code {code})"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"it crashed the process ({name}{', a segmentation fault' if name == 'SIGSEGV' else ''})"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and all that it started."""
    with contextlib.suppress(OSError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def answer_all(questions: Sequence[dict[str, str]]) -> None:
    """The child's side: answer on standard output, which nothing else can reach, and end.

    Behind a distribution that failed or changed something, `null` asks for a fresh process.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what plugins print goes to standard error, from C too
    tolerate_damaged_metadata()
    left = ""  # the distribution behind which this process ends
    with owned_process():
        for row in questions:
            question = Question(**row)
            if left and question.distribution != left:
                break
            answer = _answer(question)
            answers.write(_dumps(asdict(answer)) + "\n")
            answers.flush()
            if answer.cause or answer.changes:
                left = question.distribution
        answers.write("null\n")
        answers.flush()
    os._exit(0)


def _answer(question: Question) -> Answer:
    before, package = Surroundings.now(), question.target.partition(":")[0].partition(".")[0]
    try:
        value, cause, trace = guarded(lambda: _value(question), package=package), None, ""
    except PluginError as failure:
        value, cause, trace = None, str(failure), _trace(failure.__cause__)
    return Answer(cause, value, tuple(before.put_back(package)), trace)


def _trace(error: BaseException | None) -> str:
    import traceback

    return "".join(traceback.format_exception(error)) if error is not None else ""


def _value(question: Question) -> Any:
    loaded = import_target(question.target, question.kind)
    if question.what == NAMES:
        return names_of(loaded)
    if question.what == WEIGHTS:
        found = loaded()
        if not isinstance(found, Weights):
            raise TypeError(f"it returned {type(found).__name__}, expected zoo.api.Weights")
        return {key: getattr(found, key) for key in ("architecture", "location", "sha256")}
    return None


def tolerate_damaged_metadata() -> None:
    """Let an `entry_points.txt` that cannot be read stand for none, in this process: torch and others read everybody's
    when they are imported, and fail with it. Which one it is stays for zoo's own reading to say."""
    import importlib.metadata as metadata

    readable: Any = metadata.Distribution.entry_points

    def entry_points(self: metadata.Distribution) -> Any:
        try:
            return readable.fget(self)
        except Exception:  # whatever the file holds
            return metadata.EntryPoints(())

    if readable.fget.__name__ != "tolerant":
        entry_points.__name__ = "tolerant"
        metadata.Distribution.entry_points = property(entry_points)  # type: ignore[assignment]
