"""Remaps that never end, grow without bound or break what reads them: each is done or refused within seconds."""

import pytest

from zoo.errors import InputError
from zoo.formats.entry import Entry
from zoo.remap.rules import invert, load_rules, parse_rules, run

NAMES = {
    name: Entry(name, "F32", (2,)) for name in ("a" * 60, "a" * 200 + "!b", "ab" * 100, "a" * 3000 + "!", "9" * 5000)
}

PATTERNS = [
    "(a+)+$", "(a|a)*b", "(a|aa)+$", "(?:a?a?)*b", ".*.*.*.*.*.*.*c", "a?" * 60 + "a" * 61,
    r"(a*)(a*)(a*)(a*)\1\2\3\4b", "(?:a{,50}){,50}b", "([a-z]+.?)+!", "(?:(?:a{1000}){1000}){1000}", "a{1000000}",
    "a{1,99999999999}", "(?=(a+)+$)b",
    "{aa}{bb}{cc}{dd}{ee}{ff}{gg}z", "{aa*}{bb*}{cc*}{dd*}{ee*}z", "{aa=a|aa|aaa}{bb=a|aa|aaa}{cc=a|aa|aaa}!!", "{i}",
    "(" * 300, "[" * 999, "a|" * 499, "(a)?" * 200, r"(?P<x>a)(?(x)b|c)*", r"\d+\d+\d+\d+\d+x",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["rename", "drop"])
@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern[:30])
def test_patterns_end(pattern, kind, ends):
    value = {pattern: "x"} if kind == "rename" else pattern
    ends(lambda: run(parse_rules([{kind: value}]), NAMES))


def test_a_hundred_slow_patterns_end_too(ends):
    error = ends(lambda: run(parse_rules([{"rename": {f".*a.*a.*a.*{n}x$": "x" for n in range(100)}}]), NAMES))
    assert not isinstance(error, InputError) or "takes too long" in str(error)


def test_what_takes_too_long_is_said_with_the_rule_s_place(tmp_path, ends):
    (tmp_path / "rules.yaml").write_text("- drop: a\n- drop: '(a*)(a*)(a*)(a*)(a*)(a*)(a*)\\1\\2\\3\\4\\5\\6b'\n")
    error = ends(lambda: run(load_rules(tmp_path / "rules.yaml")[1:], NAMES))
    assert f"{tmp_path / 'rules.yaml'}:2:3" in str(error)
    assert "takes too long on 'aaa" in str(error)


def test_names_that_double(ends):
    error = ends(lambda: run(parse_rules([{"rename": {"^(.*)$": r"\1\1"}}] * 60), {"w": Entry("w", "F32", (1,))}))
    assert "is the limit" in str(error)


def test_a_way_back_that_is_too_long_to_write(ends):
    error = ends(lambda: invert(parse_rules([{"rename": {"^a$": "." * 900}}])))
    assert "cannot run backwards" in str(error)


ALIASES = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n" for n in range(9)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} {{<<: [{','.join([f'*{chr(97 + n)}'] * 10)}]}}\n" for n in range(9)
)
TEXTS = {
    "aliases": ALIASES,
    "aliases under remap": ALIASES.replace("a: &a", "remap: &a", 1),
    "merges": MERGES,
    "an alias to itself": "- &a [*a]\n",
    "a merge of itself": "- &a {<<: *a}\n",
    "nesting": "[" * 50_000,
    "a tag": "- !!python/object/apply:os.system [true]\n",
    "a list as a key": "- ? [a]\n  : b\n",
    "a number of 5,000 digits": f"- drop: {'9' * 5000}\n",
    "control characters": "- drop: '\x07'\n",
    "not UTF-8": "- drop: \udcff\n",
}


@pytest.mark.parametrize("name", TEXTS)
def test_rule_files(name, tmp_path, ends):
    (tmp_path / "rules.yaml").write_bytes(TEXTS[name].encode("utf-8", "surrogateescape"))
    assert isinstance(ends(lambda: load_rules(tmp_path / "rules.yaml"), 20), InputError)


@pytest.mark.slow
def test_a_file_of_too_many_rules(tmp_path, ends):
    (tmp_path / "rules.yaml").write_text("- drop: a\n" * 90_000)
    assert "values, counting" in str(ends(lambda: load_rules(tmp_path / "rules.yaml"), 20))


@pytest.mark.parametrize("name", ["aliases", "merges"])
def test_bombs_in_a_rule_on_the_command_line(name, ends):
    text = "drop: {" + TEXTS[name].strip().replace("\n", ", ") + "}"
    assert isinstance(ends(lambda: parse_rules(text)), InputError)


def test_a_rule_longer_than_a_file_s_name(ends):
    from zoo.remap.remaps import meaning_of

    assert ends(lambda: meaning_of("a" * 5000 + "=b")) == "inline"
