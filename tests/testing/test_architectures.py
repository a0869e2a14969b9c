"""The contracts of architectures, weights and remaps hold for plugins here."""

import pytest

from zoo.errors import InputError
from zoo.testing import ArchitectureContract, ArchitectureSourceContract, RemapContract, WeightsContract


class TestLite0(WeightsContract):
    component = "efficientnet-lite/lite0"

    @pytest.mark.slow  # imports timm
    def test_it_works_under_zoo_check(self):
        super().test_it_works_under_zoo_check()


class TestLukemelas(RemapContract):
    component = "efficientnet-lite/lukemelas_lite0"


class TestTutorialNetworks(ArchitectureSourceContract):
    namespace = "tutorial"
    sample = ("net_a", "net_b", "cifar10_quick")


def test_weights_of_an_architecture_nobody_has(plugins):
    module = "from zoo.api import Weights\ndef x(): return Weights('hf://a/b', 'timm/no_such_network')"
    plugins.write("zoo-acme", "[zoo.weights]\nx = acme_contract:x", acme_contract=module)
    with pytest.raises(InputError, match="no_such_network"):
        type("Checked", (WeightsContract,), {"component": "acme/x"})().test_it_says_what_they_are()


class TestAcmeRemap(RemapContract):
    component = "acme/renamed"
    shapes = {"conv.w": (2, 3), "head.w": (4, 2)}
    target = {"stem.weight": (2, 3), "head.weight": (4, 2)}
    inverts = True

    @pytest.fixture(autouse=True)
    def acme(self, plugins):
        module = """
            def renamed():
                \"\"\"Names of another library.\"\"\"
                return [{"rename": {"^conv\\\\.w$": "stem.weight", "^head\\\\.w$": "head.weight"}}]
        """
        plugins.write("zoo-acme", "[zoo.remaps]\nrenamed = acme_renamed:renamed", acme_renamed=module)


class TestSmallCNN(ArchitectureContract):
    component = "zoo/small_cnn"
    arguments = {"num_classes": 3, "in_channels": 1}
