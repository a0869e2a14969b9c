"""README.zh.md says what README.md says: the same commands, outputs, code and links, section by section."""

import re
from itertools import zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def sections(text):
    return re.split(r"(?m)^## .*\n", text)[1:]


def commands(text):
    """The indented lines; of a command with a remark (three spaces on) only the command."""
    lines = [line for line in text.splitlines() if line.startswith("    ")]
    return [re.split(r"(?<=\S) {3,}", line)[0] if remarked(line) else line for line in lines]


def remarked(line):
    """Whether a line is something to type with a remark next to it."""
    return bool(re.match(r"    (make|\.venv/bin/zoo) ", line))


ENGLISH, CHINESE_PAGE = sections(read("README.md")), sections(read("README.zh.md"))


def test_both_have_the_same_sections():
    assert len(ENGLISH) == len(CHINESE_PAGE) > 5
    assert all(CHINESE.search(section) for section in CHINESE_PAGE)


@pytest.mark.parametrize("number", range(len(ENGLISH)))
def test_code_is_the_same(number):
    for one, other in zip_longest(commands(ENGLISH[number]), commands(CHINESE_PAGE[number])):
        assert one == other


@pytest.mark.parametrize("number", range(len(ENGLISH)))
@pytest.mark.parametrize("pattern", [r"`[^`\n]+`", r"\]\([^)]+\)", r"(?m)^- \*\*"], ids=["code", "links", "points"])
def test_words_of_code_links_and_points_are_the_same(number, pattern):
    of = lambda text: sorted(re.findall(pattern, text))  # noqa: E731
    assert of(CHINESE_PAGE[number]) == of(ENGLISH[number])


def test_each_page_leads_to_the_other():
    assert "(README.md)" in read("README.zh.md")
    assert "(README.zh.md)" in read("README.md")
