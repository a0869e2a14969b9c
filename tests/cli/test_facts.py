"""What `zoo list` knows about architectures and weights: measured once, kept while versions stay, files looked for."""

import json
import sys

import pytest

from zoo import registry
from zoo.cli import facts

RESNET = "timm/test_resnet"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Nothing is known yet, and nothing is downloaded."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    facts.forget()
    yield
    facts.forget()


def row(name):
    return registry.resolve(name, None)


def test_nothing_is_known_before_it_is_measured_and_afterwards_it_is(zoo):
    assert facts.facts_of(row(RESNET)) == facts.Facts()
    document = zoo("list", RESNET, "--parameters", "--json").json
    (found,) = document["components"]
    assert (found["parameters"], found["input_size"], found["weights_here"]) == (469_688, [160, 160], False)
    facts.forget()
    assert facts.facts_of(row(RESNET)) == facts.Facts(469_688, (160, 160), False)


def test_another_version_is_measured_anew(tmp_path):
    facts.measure([row(RESNET)])
    path = tmp_path / "cache" / "facts" / "zoo-timm.json"
    document = json.loads(path.read_text())
    assert document["versions"]["timm"]
    path.write_text(json.dumps(document | {"versions": document["versions"] | {"timm": "0.0.1"}}))
    facts.forget()
    assert facts.unknown([row(RESNET)]) == 1


def test_a_damaged_cache_is_no_cache(tmp_path):
    (tmp_path / "cache" / "facts").mkdir(parents=True)
    (tmp_path / "cache" / "facts" / "zoo-timm.json").write_text("{")
    assert facts.facts_of(row(RESNET)) == facts.Facts()


def test_weights_in_the_hubs_cache_are_found(zoo, tmp_path):
    facts.measure([row(RESNET)])
    assert zoo("list", "--weights", "test_resnet").out == ""
    snapshot = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    assert not facts.is_here("hf://timm/test_resnet.r160_in1k")
    (snapshot / "model.safetensors").touch()
    assert facts.is_here("hf://timm/test_resnet.r160_in1k")
    assert facts.is_here("hf://timm/test_resnet.r160_in1k/model.safetensors")
    assert not facts.is_here("hf://timm/test_resnet.r160_in1k/other.bin")
    assert zoo("list", "--weights", "test_resnet").out == f"{RESNET}\n"


def test_weights_at_an_address_are_found_where_they_would_be_downloaded_to(tmp_path, monkeypatch):
    from zoo.formats.remote import place_of

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for address in ("https://example.org/resnet-0676ba61.pth", "https://example.org/resnet.pth"):
        place = place_of(address)[0]
        assert not facts.is_here(address)
        place.parent.mkdir(parents=True)
        place.touch()
        assert facts.is_here(address)


def test_weights_that_packages_carry_are_here_unmeasured(zoo):
    lines = zoo("list", "--weights").out.splitlines()
    assert {"efficientnet-lite/lite0", "timm/tf_efficientnet_lite0"} <= set(lines)
    assert "timm/resnet50" not in lines
    assert zoo("list", "--weights", "--kind", "weights").out.splitlines() == registry.names("weights")


def test_a_terminal_shows_what_is_known_and_says_how_to_learn_the_rest(zoo, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    outcome = zoo("list", "timm/test_res*")
    assert outcome.out == "timm/test_resnet              ?          ?  ?\n"
    assert "1 architectures have not been looked into: zoo list 'timm/test_res*' --parameters" in outcome.err
    outcome = zoo("list", "timm/test_res*", "--parameters")  # the cure
    assert outcome.out == "timm/test_resnet        469,688    160x160  weights not here\n"
    assert "looked into" not in outcome.err


def test_one_that_cannot_be_built_stays_unknown(plugins):
    plugins.write(
        "zoo-acme", "[zoo.architectures]\nnet = acme_net:net", acme_net="def net():\n    raise RuntimeError('no')"
    )
    facts.measure([row("acme/net")])
    assert facts.facts_of(row("acme/net")) == facts.Facts()
