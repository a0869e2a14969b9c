"""A checkpoint says whose components it is made of, and notices when these compute something else."""

import importlib.metadata

import pytest
import torch

import zoo
from zoo import registry
from zoo.checkpoint import provenance
from zoo.errors import InputError
from zoo.formats.checkpoint_metadata import read_metadata
from zoo.formats.safetensors_file import read_header
from zoo.model.build import build

NET = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, width: int = 4):
            super().__init__()
            self.linear = nn.Linear(3, width)
        def forward(self, x):
            return self.linear(x) * FACTOR
    FACTOR = 1.0
"""


@pytest.fixture
def saved(plugins, tmp_path):
    """A checkpoint of zoo-acme 1.0's network, and `become(version, text)`, which puts another zoo-acme in its place."""
    torch.manual_seed(0)
    plugins.write("zoo-acme", "[zoo.architectures]\nnet = acme_net:Net", acme_net=NET)
    path = tmp_path / "net.safetensors"
    zoo.save(zoo.build("acme/net"), path)

    def become(version, text):
        import shutil
        import sys

        for info in plugins.folder.glob("*.dist-info"):
            shutil.rmtree(info)
        sys.modules.pop("acme_net", None)
        shutil.rmtree(plugins.folder / "__pycache__", ignore_errors=True)
        if version is not None:
            plugins.write("zoo-acme", "[zoo.architectures]\nnet = acme_net:Net", version=version, acme_net=text)
        importlib.invalidate_caches()
        registry.refresh()
        return path

    become.path = path
    return become


def test_what_is_recorded(saved):
    record = read_metadata(read_header(saved.path).metadata, saved.path)
    assert record.suppliers == {"acme/net": "zoo-acme"}
    assert record.versions["zoo-acme"] == "1.0"
    assert record.fingerprint["shape"] == [1, 3]
    assert len(record.fingerprint["values"]) == 4
    assert zoo.load(saved.path) is not None


def test_a_plugin_that_is_missing_is_named_with_its_version(saved):
    with pytest.raises(InputError) as caught:
        zoo.load(saved(None, ""))
    assert str(caught.value) == (
        f"{saved.path} needs acme/net of zoo-acme 1.0, which is not installed "
        "(if you trust it: pip install zoo-acme==1.0)"
    )


def test_another_version_is_a_warning(saved):
    path = saved("2.0", NET)
    with pytest.warns(
        UserWarning, match=r"was written with zoo-acme 1\.0 \(here 2\.0\); its outputs on a fixed input are"
    ):
        zoo.load(path)


def test_other_outputs_are_said(saved):
    path = saved("2.0", NET.replace("FACTOR = 1.0", "FACTOR = 0.5"))
    with pytest.warns(
        UserWarning, match=r"gives other outputs than when it was written \(by 50%.*zoo-acme 1\.0 \(here 2\.0\)"
    ):
        zoo.load(path)


def test_an_argument_that_was_renamed_names_the_version(plugins, saved):
    zoo.save(zoo.build("acme/net", width=5), saved.path)
    path = saved("2.0", NET.replace("width", "features"))
    with pytest.raises(InputError) as caught:
        zoo.load(path)
    assert "takes no argument 'width'" in str(caught.value)
    assert f"{path} was written with zoo-acme 1.0 (here 2.0)" in str(caught.value)


def test_a_fingerprint_is_the_same_each_time_and_changes_nothing():
    assembly = build("tutorial/net_a")
    assembly.model.train()
    state = torch.get_rng_state()
    found = provenance.fingerprint(assembly)
    assert found == provenance.fingerprint(assembly)
    assert found["shape"] == [1, 3, 32, 32]
    assert torch.equal(state, torch.get_rng_state())
    assert assembly.model.training
    assert provenance.fingerprint(build("tutorial/net_a", device="meta")) is None


def test_differences_are_shares_of_the_largest_value():
    before = {"shape": [1, 2], "values": [1.0, -4.0], "norm": 4.0}
    assert provenance.difference(before, before) == 0.0
    assert provenance.difference(before, {**before, "values": [1.0, -3.0]}) == 0.25
    assert provenance.difference(before, {**before, "norm": 3.0}) == 0.25
    assert provenance.difference(before, {**before, "shape": [1, 3]}) is None
    assert provenance.difference({"values": "x"}, before) is None
    assert provenance.difference(before, None) is None


def test_noise_of_other_machines_is_below_the_tolerance():
    assembly = build("tutorial/net_a")
    before = provenance.fingerprint(assembly)
    with torch.no_grad():
        for parameter in assembly.model.parameters():
            parameter.mul_(1 + 1e-5)
    after = provenance.difference(before, provenance.fingerprint(assembly))
    assert 0 < after < provenance.TOLERANCE / 10
