"""Completion in the shell: what `zoo --completion SHELL` prints, and the answers it asks for while one types."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence

from zoo import registry
from zoo.cli.list import SINGULAR

SCRIPTS = {
    "bash": """\
_zoo() { mapfile -t COMPREPLY < <(zoo --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null); }
complete -o default -o bashdefault -F _zoo zoo
""",
    "zsh": """\
_zoo() {
  local -a found
  found=("${(@f)$(zoo --complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  [[ -n "$found" ]] && compadd -- $found || _files
}
compdef _zoo zoo
""",
    "fish": """\
complete -c zoo -a '(zoo --complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
""",
}


def candidates(words: Sequence[str], commands: Iterable[str]) -> list[str]:
    """What the last of `words` (everything behind `zoo`) may become; empty where a file is due."""
    *before, current = words or [""]
    return sorted({word for word in _offers(before, current, commands) if word.startswith(current)})


def _offers(before: Sequence[str], current: str, commands: Iterable[str]) -> Iterable[str]:
    if not before:
        return [*commands, "--help", "--version"]
    if before[-1] == "--kind":
        return [*registry.KINDS, *SINGULAR]
    if before[-1] == "--plugin":
        return {row.plugin for row in registry.entries()}
    if before[-1] in ("--to", "--from"):
        return registry.names("architectures")
    if current.startswith("-") and before[0] in commands:
        return options(before[0])
    if before == ["show"]:
        return registry.names()
    return []


def options(command: str) -> list[str]:
    """The long options of a command."""
    from zoo.cli import typer_command

    module = importlib.import_module(f"zoo.cli.{command}")
    if command == "list":
        return [option for action in module.parser()._actions for option in action.option_strings if option[:2] == "--"]
    parameters = typer_command(command, module.command).params
    found = [option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)]
    return ["--help", *(option for option in found if option[:2] == "--")]
