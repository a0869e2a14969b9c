"""The command line: which commands there are, and how one is run. A command's file is imported when it is called.

A command's file is `zoo/cli/<name>.py` and exports `command`, a function with typer annotations; the docstring is its
help, where an indented paragraph (the examples) keeps its lines. `zoo list` alone exports `run(arguments)` instead:
it has a fifth of a second to live in, and typer takes most of that.
"""

from __future__ import annotations

import sys

try:
    import atexit
    import contextlib
    import gc
    import importlib
    import io
    import os
    from collections.abc import Callable, Iterator, Sequence
    from typing import TYPE_CHECKING, Annotated, Any, NoReturn

    from zoo.cli.errors import exit_code
    from zoo.cli.interrupts import end_at_once, raised_between_imports
    from zoo.errors import InputError, did_you_mean
    from zoo.isolation import TRACEBACKS as VARIABLE
    from zoo.isolation import owned_process
    from zoo.plugin_process import tolerate_damaged_metadata
except KeyboardInterrupt:  # Ctrl-C in the first tenths of a second, before `main` can see to it
    print("interrupted", file=sys.stderr)
    sys.exit(130)

if TYPE_CHECKING:
    import typer

COMMANDS = {
    "list": "What is installed: architectures, surgeries, datasets, weights, …",
    "show": "One component: signature, documentation, weights, plugin",
    "check": "Validate a recipe and dry-run it; nothing is trained",
    "finetune": "Run a recipe; leaves one checkpoint that rebuilds the model anywhere",
    "reproduce": "Run a finished run's recipe again: bit-equal, or where and why not",
    "report": "A run as one HTML page, or several side by side",
    "evaluate": "Measure a checkpoint on data",
    "predict": "Class names and probabilities for images",
    "embed": "Features of any module for every image of a data set",
    "export": "ONNX or .pt2 that runs without zoo, compared with torch at once",
    "compare": "Two models on the same images: their difference, and whether it is more than chance",
    "verify": "Check again, from the files, what a run or a checkpoint says of itself",
    "inspect": "What is in a weight file: metadata, tensors, sizes",
    "diff": "What changed between two weight files, tensor by tensor",
    "convert": "Move weights to other names, shapes, types or files",
    "merge": "Average checkpoints of one base into one",
    "recipes": "The recipes that come with zoo; copy one to start from",
    "plugins": "Which plugins there are; switch one off or on",
    "push": "Put a checkpoint and its model card on the Hugging Face hub",
    "schema": "The JSON Schema of recipes, for editors",
    "new": "A plugin to start from: a package that installs and passes its own tests",
    "doctor": "Plugins, devices and versions: what is broken and how to mend it",
}
OVERVIEW = """\
zoo: fine-tune any registered architecture from a YAML recipe; move weights between models.

Usage: zoo COMMAND [OPTIONS] [ARGUMENTS]

Commands:
{commands}

Options:
  --version           the version of zoo
  --completion SHELL  a script for bash, zsh or fish: eval "$(zoo --completion bash)"
  --traceback         with any command: the entire traceback of whatever fails, a plugin's too (or ZOO_TRACEBACK=1)
  --help              this page; `zoo COMMAND --help` shows a command's options and examples

Examples:
  zoo list 'timm/resnet*'
  zoo finetune recipes/quickstart.yaml
  zoo predict checkpoints/quickstart/model.safetensors photo.jpg
"""


def main() -> NoReturn:
    """The `zoo` of the shell."""
    end_at_once()
    code = 1
    if not _is_watched():
        atexit.register(lambda: _leave(code))  # registered first, so it runs last
    gc.set_threshold(100_000, 20, 100)  # imports make a million objects that stay; looking them over took 0.6 s
    _keep_standard_output()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console may lack × and –: that ends no command
    code = run(sys.argv[1:])
    sys.exit(code)


def _keep_standard_output() -> None:
    """Standard output is zoo's alone: what a plugin or a library writes to descriptor 1 itself, from C or by a program
    that it starts, goes to standard error."""
    if os.name != "posix" or not isinstance(sys.stdout, io.TextIOWrapper):
        return
    with contextlib.suppress(OSError, ValueError):
        own = os.dup(sys.stdout.fileno())
        os.dup2(sys.stderr.fileno(), 1)
        replaced = sys.stdout
        sys.stdout = sys.__stdout__ = io.TextIOWrapper(  # type: ignore[misc]
            os.fdopen(own, "wb"), encoding=replaced.encoding, line_buffering=replaced.line_buffering
        )


def _is_watched() -> bool:
    """Whether a debugger, a profiler or coverage follows the process; these have work of their own at its end."""
    return bool(sys.gettrace() or sys.getprofile()) or "coverage" in sys.modules


def _leave(code: int) -> NoReturn:
    """End the process without taking its objects apart one by one: seconds, once torch is there.

    Only the shell's command does so, as the last of its exit functions: threads have ended, the others have run.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


TRACEBACK = "--traceback"  # of every command
TRACEBACK_HELP = "The entire traceback of whatever fails, a plugin's too."


def run(arguments: Sequence[str]) -> int:
    """Run the command line `arguments`; its exit code. Failures are printed, never raised."""
    with owned_process(), _tracebacks_where_asked(arguments) as arguments:
        return exit_code(lambda: _dispatch([*arguments]))  # not list(…): that is a command's module here, once imported


@contextlib.contextmanager
def _tracebacks_where_asked(arguments: Sequence[str]) -> Iterator[list[str]]:
    """The arguments without `--traceback`, which is the environment variable for the time of the command."""
    before = os.environ.get(VARIABLE)
    kept = [word for word in arguments if word != TRACEBACK]
    if len(kept) < len(arguments) and arguments[:1] != ["--complete"]:
        os.environ[VARIABLE] = "1"
    else:
        kept = [*arguments]
    try:
        yield kept
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def _dispatch(arguments: Sequence[str]) -> None:
    match arguments:
        case [] | ["--help" | "-h" | "help"]:
            print(OVERVIEW.format(commands="\n".join(f"  {name:10}{text}" for name, text in COMMANDS.items())), end="")
        case ["--version" | "-V"]:
            print(f"zoo {_version()}")
        case ["--completion", ("bash" | "zsh" | "fish") as shell]:
            print(importlib.import_module("zoo.cli.completion").SCRIPTS[shell], end="")
        case ["--complete", *words]:
            print("\n".join(importlib.import_module("zoo.cli.completion").candidates(words, COMMANDS, long_options)))
        case [name, *rest] if name in COMMANDS:
            _run_command(name, rest)
        case [name, *_]:
            kind = "option" if name.startswith("-") else "command"
            hint = did_you_mean(name, COMMANDS) or "see: zoo --help"
            raise InputError(f"zoo has no {kind} {name!r}", suggestion=hint)


def _run_command(name: str, arguments: Sequence[str]) -> None:
    tolerate_damaged_metadata()
    module = importlib.import_module(f"zoo.cli.{name}")
    if hasattr(module, "run"):
        with raised_between_imports():
            module.run(arguments)
    else:
        typer_command(name, module.command).main(arguments, prog_name=f"zoo {name}")


def typer_command(name: str, function: Callable[..., Any]) -> typer.core.TyperCommand:
    """A command's function as typer runs it: plain help, and failures left to `zoo.cli.errors`."""
    import functools
    import inspect
    import typing

    import typer

    @functools.wraps(function)
    def reporting(**values: Any) -> None:
        del values["traceback"]  # in the help alone: `run` has taken it
        with raised_between_imports():
            code = exit_code(lambda: function(**values))
        sys.exit(code)

    kind = Annotated[bool, typer.Option(TRACEBACK, help=TRACEBACK_HELP)]
    kinds = {**typing.get_type_hints(function, include_extras=True), "traceback": kind}
    last = inspect.Parameter("traceback", inspect.Parameter.KEYWORD_ONLY, default=False)
    parameters = [*inspect.signature(function).parameters.values(), last]
    parameters = [each.replace(annotation=kinds[each.name]) for each in parameters]
    reporting.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    reporting.__annotations__ = kinds
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(name, help=_help(function))(reporting)
    command: typer.core.TyperCommand = typer.main.get_command(app)  # type: ignore[assignment]
    return command


def long_options(name: str) -> list[str]:
    """The long options of a command."""
    module = importlib.import_module(f"zoo.cli.{name}")
    if hasattr(module, "run"):
        return [option for action in module.parser()._actions for option in action.option_strings if option[:2] == "--"]
    parameters = typer_command(name, module.command).params
    return ["--help", *(option for parameter in parameters for option in parameter.opts if option[:2] == "--")]


def _help(function: Callable[..., Any]) -> str:
    """The docstring, its indented paragraphs marked (`\\b`) as not to be rewrapped."""
    import inspect

    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    return "\n\n".join(f"\b\n{text}" if text.startswith("    ") else text for text in paragraphs)


def _version() -> str:
    import importlib.metadata

    return importlib.metadata.version("zoo-kit")
