"""What every command ends with: an exit code, and for a failure the words for it on standard error.

0 done, 1 the work failed, 2 the user's input is wrong, 130 interrupted, 143 a run ended by SIGTERM.
Set ZOO_TRACEBACK=1 to see tracebacks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from zoo.errors import ZooError, is_out_of_memory, printable

INTERRUPTED = 130


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
        if os.environ.get("ZOO_TRACEBACK"):
            raise
        return _explain(error)
    return 0


def say(line: str) -> None:
    """A line on standard error (or several), with what a terminal would obey spelled out."""
    print("\n".join(map(printable, line.split("\n"))), file=sys.stderr)


def _explain(error: Exception) -> int:
    """Print what a failure means for the user; its exit code."""
    if isinstance(error, ZooError):
        for problem in error.problems:
            say(str(problem) if problem.location else f"error: {problem}")
        return error.exit_code
    if is_out_of_memory(error):
        what = f": {str(error).strip().partition(chr(10))[0]}" if str(error) else ""
        say(f"error: out of memory{what} (a smaller batch_size or image_size needs less)")
    elif isinstance(error, OSError) and error.strerror:
        say(f"error: {error.strerror}" + (f": {error.filename}" if error.filename else ""))
    else:
        say(f"error: this is a bug in zoo: {type(error).__name__}: {error} ({_place(error)})")
        say("ZOO_TRACEBACK=1 shows the traceback; please report it")
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
