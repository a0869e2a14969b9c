"""What every command ends with: an exit code, and for a failure the words for it on standard error.

0 done, 1 the work failed, 2 the user's input is wrong, 130 interrupted, 143 a run ended by SIGTERM. With `--traceback`,
or the variable ZOO_TRACEBACK=1, the entire traceback of every failure stands in front of those words, plugins' failures
too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Callable

from zoo.errors import ZooError, is_out_of_memory, printable, text_of
from zoo.isolation import noted, wants_tracebacks

INTERRUPTED = 130
_NO_PLACE = {errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR}  # what was named cannot be what was meant


def exit_code(work: Callable[[], object]) -> int:
    """Do the work; the exit code of what came of it. Failures are printed, never raised."""
    try:
        work()
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (`zoo list | head -1`) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as stop:
        say("interrupted")
        return getattr(stop, "exit_code", INTERRUPTED)
    except SystemExit as stop:
        return _code_of(stop)
    except Exception as error:
        _show_tracebacks(error)
        return _explain(error)
    finally:
        _show_tracebacks()
    return 0


def say(line: str) -> None:
    """A line on standard error (or several), with what a terminal would obey spelled out."""
    with contextlib.suppress(OSError):  # of a terminal that was closed: the exit code says it, too
        print("\n".join(map(printable, line.split("\n"))), file=sys.stderr)


def _show_tracebacks(error: Exception | None = None) -> None:
    """Print the tracebacks that were wanted: of what ended the command, and of what plugins did on the way there."""
    failures = noted()
    if error is None or not wants_tracebacks():
        failures = [failure for failure in failures if wants_tracebacks()]
    else:
        shown = [error]
        while (inner := shown[-1].__cause__ or shown[-1].__context__) is not None and inner not in shown:
            shown.append(inner)  # type: ignore[arg-type]
        failures = [*(failure for failure in failures if failure not in shown), error]
    if not failures:
        return
    import traceback

    for failure in failures:
        text = failure if isinstance(failure, str) else "".join(traceback.format_exception(failure))
        say(text.rstrip("\n"))


def _explain(error: Exception) -> int:
    """Print what a failure means for the user; its exit code."""
    if isinstance(error, ZooError):
        for problem in error.problems:
            say(str(problem) if problem.location else f"error: {problem}")
        return error.exit_code
    if is_out_of_memory(error):
        what = f": {text_of(error).strip().partition(chr(10))[0]}" if text_of(error) else ""
        say(f"error: out of memory{what} (a smaller batch_size or image_size needs less)")
    elif isinstance(error, OSError) and error.strerror:
        say(f"error: {error.strerror}" + (f": {error.filename}" if error.filename else ""))
        return 2 if error.errno in _NO_PLACE else 1
    else:
        say(f"error: this is a bug in zoo: {type(error).__name__}: {text_of(error)} ({_place(error)})")
        say("--traceback (or ZOO_TRACEBACK=1) shows the traceback; please report it")
    return 1


def _place(error: Exception) -> str:
    """The file and line an exception came from."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else "nowhere"


def _code_of(stop: SystemExit) -> int:
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or 0
    say(str(stop.code))
    return 1
