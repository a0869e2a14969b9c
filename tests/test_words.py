"""What a person reads is in practitioners' words: messages, help texts and the first lines of docstrings."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(
    path for folder in (ROOT / "zoo", *(ROOT / "plugins").glob("*/zoo_*")) for path in folder.rglob("*.py")
)

# a word of this team -> what practitioners say
WORDS = {
    r"trunks?": "frozen backbone, or its feature cache",
    r"st(and|ands|anding|ood) still": "frozen",
    r"arriv(e|es|ed|al|als|ing)": "input shape; reach",
    r"(tell|tells|telling|told)": "report, say",
    r"headship": "installed as the head",
    r"the plain way": "without the feature cache, end to end",
    r"(hold|holds|held|holding)(?!( some)?[ -]out\b)": "contain",
    r"(leave|leaves|left|leaving) away": "omit",
    r"(come|comes|came|coming) behind": "append",
    r"claims?": "tensors that must be equal",
    r"wholes?(?! numbers?)": "complete, entire",
    r"stages?": "step of a recipe; stage only of a network",
    r"calibrations?": "timing",
}
# where a word has its other, usual meaning: file -> word
ALLOWED: dict[str, tuple[str, ...]] = {
    "zoo/training/trunk/": (r"trunks?",),  # the code's name for what people know as the frozen backbone
    "zoo/reporting/": (r"calibrations?",),  # of probabilities, as the field calls it
    "zoo/cli/report.py": (r"calibrations?",),
    "zoo/model/depths.py": (r"stages?",),  # of a network, as in all of these
    "zoo/training/gradual.py": (r"stages?",),
    "zoo/remap/rules/split_concat.py": (r"wholes?(?! numbers?)",),  # a tensor, and the parts it is split into
    "zoo/model/stages.py": (r"stages?",),
    "zoo/finetuning/run.py": (r"stages?",),  # the report's key
    "zoo/model/freeze_policies.py": (r"stages?",),
    "zoo/exporting/": (r"calibrations?",),  # of int8: the field's own word
    "plugins/zoo-timm/": (r"stages?",),
    "plugins/zoo-efficientnet-lite/": (r"stages?",),
}
ROOMS_TO_COME = (
    "zoo/finetuning/",
    "zoo/formats/remote.py",
    "zoo/model/initializers.py",
    "zoo/model/module_spec.py",
)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of whatever may be read: strings with a space in them, and docstrings' first lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documentation = {}
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for before, after in zip([None, *body], body, strict=False):
            if (
                isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)
            ):
                documentation[id(after.value)] = isinstance(before, ast.AnnAssign | ast.Assign)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
            if id(node) in documentation:
                entire = documentation[id(node)] or "cli" in path.parts
                yield node.lineno, text if entire else text.strip().partition("\n")[0]
            elif " " in text:
                yield node.lineno, text


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_people_read_the_fields_words(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    allowed = {word for prefix, words in ALLOWED.items() if name.startswith(prefix) for word in words}
    found = [
        f"{name}:{line}: {text.strip()!r}: say {better}"
        for line, text in texts(path)
        for word, better in WORDS.items()
        if word not in allowed and re.search(rf"(?i)\b{word}\b", text)
    ]
    assert not found, "\n".join(found)
