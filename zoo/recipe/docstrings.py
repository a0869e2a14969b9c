"""What a docstring says of each parameter: in Google's, numpy's or Sphinx's form, or in a sentence that names it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from typing import Any

_SPHINX = re.compile(r"^:param (?:[^:]+ )?\*{0,2}(\w+):[ \t]*(.*(?:\n[ \t]+.+)*)", re.M)
_SECTION = re.compile(
    r"^(?:Args|Arguments|Parameters):?[ \t]*\n(?:-+\n)?(.*?)(?=\n\S[^\n]*\n-{3,}|\n\S[^\n]*:\n|\Z)", re.M | re.S
)
_GOOGLE = re.compile(r"^[ \t]+\*{0,2}(\w+)(?: ?\([^)]*\))?:[ \t]*(.*(?:\n[ \t]{5,}.+)*)", re.M)
_NUMPY = re.compile(r"^(\w+)(?: ?:[^\n]*)?\n((?:[ \t]+.+\n?)+)", re.M)
_SENTENCE = re.compile(r"(?<=[.!?;])\s+(?=[A-Z`])|\n\s*\n")


def described_parameters(function: Callable[..., Any], names: Iterable[str]) -> dict[str, str]:
    """What the docstring of a function, or of a class and its `__init__`, says of the parameters called `names`."""
    texts = [inspect.getdoc(function) or ""]
    if inspect.isclass(function) and function.__init__.__doc__ != object.__init__.__doc__:
        texts.append(inspect.getdoc(function.__init__) or "")
    found: dict[str, str] = {}
    for text in texts:
        written = dict(_SPHINX.findall(text))
        for section in _SECTION.findall(text):
            written |= dict(_NUMPY.findall(section)) | dict(_GOOGLE.findall(section))
        for name in names:
            if said := _one_line(written.get(name, "")) or _sentence(text, name):
                found.setdefault(name, said)
    return found


def _sentence(text: str, name: str) -> str:
    """The first sentence behind the summary that speaks of `name`, in backquotes, by itself."""
    behind = text.partition("\n\n")[2]
    return next((_one_line(each) for each in _SENTENCE.split(behind) if f"`{name}`" in each), "")


def _one_line(text: str) -> str:
    return " ".join(text.split())
