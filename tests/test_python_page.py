"""docs/python.md: its blocks run in order, in an empty folder, and print what the page says."""

import fnmatch
import re
from pathlib import Path

import zoo

PAGE = Path(__file__).parent.parent / "docs" / "python.md"
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)


def test_every_block_runs_and_prints_what_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    scope = {"__name__": "__main__"}
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(blocks) > 5
    for code, expected in blocks:
        exec(compile(code, PAGE.name, "exec"), scope)
        printed = capsys.readouterr().out
        pattern = expected.replace("[", "[[]").replace("…", "*")
        assert fnmatch.fnmatchcase(printed, pattern), f"{code}\nprinted:\n{printed}\nthe page says:\n{expected}"


def test_it_names_every_verb():
    named = set(re.findall(r"zoo\.(\w+)", PAGE.read_text(encoding="utf-8")))
    verbs = {name for name in zoo.__all__ if name[0].islower()}
    assert verbs <= named
