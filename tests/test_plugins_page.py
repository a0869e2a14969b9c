"""docs/plugins.md and the README's plugin: what they print runs, and nothing that is promised is missing."""

import re
import textwrap
import tomllib
from pathlib import Path

import pytest

import zoo.testing
from zoo import api
from zoo.registry import KINDS
from zoo.scaffolding.plugin import parts_of
from zoo.testing import SurgeryContract
from zoo.verbs.training import check

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")


def section(kind):
    """What stands below the heading of a kind."""
    return re.split(r"(?m)^##+ ", PAGE.partition(f"### {kind}\n")[2])[0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_there_with_the_example_that_zoo_new_writes(kind):
    text = section(kind)
    assert text, f"docs/plugins.md has no section {kind}"
    signature, *_ = re.findall(r"(?m)^`(.+)`$", text)
    known = "class" in signature or signature == "() -> rules" or signature.split(" -> ")[0] in api.CONTRACTS[kind]
    assert known, signature
    for part in parts_of(kind, "acme"):
        assert textwrap.indent(part.strip("\n"), "    ") in text, f"{kind}: not what the template says"


def test_every_public_name_is_promised():
    names = re.findall(r"(?m)^\| `(\w+)` \|", PAGE.partition("## What is promised")[2])
    assert names == sorted(api.__all__)


def test_every_contract_is_there():
    said = PAGE.partition("## Tests")[2].partition("## ")[0]
    assert [name for name in zoo.testing.__all__ if f"`{name}`" not in said] == []


class TestReadme:
    """Its plugin runs as printed."""

    @pytest.fixture(autouse=True)
    def installed(self, plugins):
        text = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Plugins\n")[2]
        project, module = re.findall(r"(?m)(?:^(?:    .*)?\n)*^    .*\n(?:^(?:    .*)?\n)*", text)[:2]
        self.project = tomllib.loads(textwrap.dedent(project))["project"]
        points = self.project["entry-points"]["zoo.surgeries"]
        lines = "\n".join(f"{name} = {target}" for name, target in points.items())
        plugins.write(self.project["name"], f"[zoo.surgeries]\n{lines}", version="0.1", zoo_acme=module)

    def test_it_says_what_it_needs(self):
        assert self.project["dependencies"] == ["zoo-kit", "torch"]

    def test_zoo_check_takes_it(self):
        assert check({"model": "zoo/small_cnn", "steps": [{"cosine_head": {"num_classes": 4}}, "save"]}).ok

    @pytest.mark.parametrize("test", [name for name in dir(SurgeryContract) if name.startswith("test_")])
    def test_it_keeps_the_contract(self, test, tmp_path):
        attributes = {"component": "acme/cosine_head", "arguments": {"num_classes": 5}}
        checked = type("TestCosineHead", (SurgeryContract,), attributes)()
        if "fresh_process" not in test:
            getattr(checked, test)()
