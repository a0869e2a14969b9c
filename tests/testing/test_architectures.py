"""The contracts of architectures, weights and remaps hold for plugins here, and fail for broken ones."""

import pytest

from zoo.errors import InputError
from zoo.testing import ArchitectureSourceContract, RemapContract, WeightsContract


class TestLite0(WeightsContract):
    component = "efficientnet-lite/lite0"


class TestLukemelas(RemapContract):
    component = "efficientnet-lite/lukemelas_lite0"


class TestTutorialNetworks(ArchitectureSourceContract):
    namespace = "tutorial"
    sample = ("net_a", "net_b", "cifar10_quick")


BROKEN = {
    "another digest": (
        WeightsContract,
        "weights",
        "from zoo.api import Weights\ndef x(): return Weights(__file__, 'timm/resnet10t', sha256='0' * 64)",
        "test_a_file_has_the_digest_it_should",
    ),
    "a file that is gone": (
        WeightsContract,
        "weights",
        "from zoo.api import Weights\ndef x(): return Weights('/no/such/file', 'timm/resnet10t')",
        "test_it_says_what_they_are",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_contract_fails_where_it_is_broken(fails, case):
    fails(*BROKEN[case])


def test_weights_of_an_architecture_nobody_has(plugins):
    module = "from zoo.api import Weights\ndef x(): return Weights('hf://a/b', 'timm/no_such_network')"
    plugins.write("zoo-acme", "[zoo.weights]\nx = acme_contract:x", acme_contract=module)
    with pytest.raises(InputError, match="no_such_network"):
        type("Checked", (WeightsContract,), {"component": "acme/x"})().test_it_says_what_they_are()


def test_rules_that_are_none(plugins):
    plugins.write("zoo-acme", "[zoo.remaps]\nx = acme_contract:x", acme_contract="def x(): return [{'renam': 1}]")
    with pytest.raises(InputError, match="renam"):
        type("Checked", (RemapContract,), {"component": "acme/x"})().test_its_rules_are_understood()


def test_a_source_that_needs_torch_to_be_listed(plugins):
    module = """
        import torch
        class Source:
            def names(self):
                return ["a"]
            def build(self, name):
                return torch.nn.Linear(1, 1)
        source = Source()
    """
    plugins.write("zoo-acme", "[zoo.architectures]\nacme = acme_contract:source", acme_contract=module)
    checked = type("Checked", (ArchitectureSourceContract,), {"namespace": "acme", "sample": ("a",)})()
    checked.test_the_sample_is_among_the_names()
    with pytest.raises(AssertionError, match="listing acme imports torch"):
        checked.test_names_come_without_torch()
