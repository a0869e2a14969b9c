"""What a recipe names: weights by component, tag, address and file, in this order, each found once."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoo import registry
from zoo.contracts import Weights
from zoo.errors import InputError, WorkError
from zoo.recipe.document import Document
from zoo.recipe.references import WeightsReference, check_remap, check_weights, refer_to_weights, tags_of

FACTORY = "from zoo.contracts import Weights\ndef f(): return Weights('x.pth', 'timm/resnet18')\ndef g(): return 1 / 0"


@pytest.fixture(autouse=True)
def _first_party_only() -> None:
    """These tests bring plugins of their own."""


@pytest.fixture
def resnet() -> registry.Component:
    return registry.resolve("torchvision/resnet18", "architectures")


@pytest.fixture
def acme(plugins):
    plugins.write(
        "zoo-acme", "[zoo.weights]\nmine = acme_w:f\nbad = acme_w:g\nIMAGENET1K_V1 = acme_w:f", acme_w=FACTORY
    )
    return plugins


def test_a_component_goes_before_a_tag_and_a_tag_before_a_file(acme, resnet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "IMAGENET1K_V1", "file.pth"):
        Path(name).touch()
    found = refer_to_weights("mine", resnet)
    assert found == WeightsReference("mine", registry.resolve("acme/mine", "weights"))
    assert found.look_up("torchvision/resnet18").location == "x.pth"
    assert refer_to_weights("IMAGENET1K_V1", resnet).component.name == "acme/IMAGENET1K_V1"
    registry.refresh()
    assert refer_to_weights("file.pth", resnet) == WeightsReference("file.pth")
    assert refer_to_weights("nothing", resnet) is None


def test_a_tag_is_the_architectures_own(resnet):
    found = refer_to_weights("IMAGENET1K_V1", resnet)
    assert found == WeightsReference("IMAGENET1K_V1", resnet)
    assert found.look_up(resnet.name).architecture == "torchvision/resnet18"
    assert refer_to_weights("IMAGENET1K_V1", None) is None
    assert tags_of(resnet) == ["IMAGENET1K_V1"]
    assert tags_of(None) == []


def test_an_address_is_not_asked_for(resnet):
    found = refer_to_weights("hf://org/repo", resnet)
    assert found.look_up(resnet.name) == Weights("hf://org/repo", resnet.name)
    with pytest.raises(InputError, match="not encrypted"):
        refer_to_weights("http://example.org/m.pth", resnet)


def test_files_are_looked_for_in_the_folders_in_order(resnet, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    (tmp_path / "b" / "m.pth").touch()
    folders = [tmp_path / "a", tmp_path / "b"]
    assert refer_to_weights("m.pth", resnet, folders) == WeightsReference(str(tmp_path / "b" / "m.pth"))
    (tmp_path / "a" / "m.pth").touch()
    assert refer_to_weights("m.pth", resnet, folders) == WeightsReference(str(tmp_path / "a" / "m.pth"))


def test_a_plugin_that_fails_is_named(acme, resnet):
    with pytest.raises(WorkError, match=r"acme/bad fails to say where its weights are: ZeroDivisionError: .*acme_w\.py:3"):
        refer_to_weights("bad", resnet).look_up(resnet.name)


def test_an_ambiguous_name_is_a_mistake_at_its_place(acme, resnet):
    acme.write("zoo-bell", "[zoo.weights]\nmine = bell_w:f", bell_w=FACTORY)
    document = Document("recipe.yaml", {"model": {"weights": "mine"}})
    assert check_weights(document, ("model", "weights"), resnet) is None
    assert str(document.problems[0]).startswith("recipe.yaml:1:1: model.weights: 'mine' is ambiguous: acme/mine")


@pytest.mark.parametrize(
    ("remap", "said"),
    [
        ("lite0", "no remap is called 'lite0'"),
        ("drpo: x", r"there is no rule 'drpo' \(did you mean drop"),
        (5, "expected a list of rules, not 5"),
        ([{"drop": "("}], "not a regular expression|unterminated|missing"),
        (["auto", {"drp": "x"}], "there is no rule 'drp'"),
        ("gone.yaml", "cannot read the rules gone.yaml"),
    ],
)
def test_mistakes_in_a_remap(remap, said):
    document = Document("recipe.yaml", {"model": {"remap": remap}})
    check_remap(document, ("model", "remap"))
    (problem,) = document.problems
    with pytest.raises(InputError, match=said):
        raise InputError([problem])


def test_a_folder_is_no_file_of_rules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("lukemelas_lite0").mkdir()
    document = Document("recipe.yaml", {"remap": "lukemelas_lite0"})
    assert check_remap(document, ("remap",)) == "lukemelas_lite0", "the installed one"
    assert not document.problems
