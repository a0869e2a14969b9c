"""Completion in the shell: what `zoo --completion SHELL` prints, and the answers it asks for while one types."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

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


Options = Callable[[str], Iterable[str]]


def candidates(words: Sequence[str], commands: Iterable[str], options: Options) -> list[str]:
    """What the last of `words` (everything after `zoo`) may become; empty where a file is due.

    `options` gives the long options of a command.
    """
    *before, current = words or [""]
    return sorted({word for word in _offers(before, current, commands, options) if word.startswith(current)})


def _offers(before: Sequence[str], current: str, commands: Iterable[str], options: Options) -> Iterable[str]:
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
