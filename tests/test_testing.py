"""The contracts hold for zoo's own components, and fail for plugins that break them."""

import pytest

from zoo.errors import InputError
from zoo.testing import (
    ArchitectureSourceContract,
    DatasetContract,
    FreezingContract,
    InitializerContract,
    ModuleContract,
    RemapContract,
    SurgeryContract,
    WeightsContract,
)


class TestSwapHead(SurgeryContract):
    component = "zoo/swap_head"
    arguments = {"num_classes": 5}


class TestAddModule(SurgeryContract):
    component = "zoo/add_module"
    arguments = {"name": "add_linear", "module": {"Linear": {"out_features": 10}}}


class TestAllButHead(FreezingContract):
    component = "zoo/all_but_head"


class TestBelow(FreezingContract):
    component = "zoo/below"
    arguments = {"module": "features.6"}


class TestLite0(WeightsContract):
    component = "efficientnet-lite/lite0"


class TestLukemelas(RemapContract):
    component = "efficientnet-lite/lukemelas_lite0"


class TestMyLinear(ModuleContract):
    component = "tutorial/MyLinear"
    arguments = {"in_features": 4, "out_features": 3}
    input_shape = (2, 4)


class TestUniformKeepLarge(InitializerContract):
    component = "tutorial/uniform_keep_large"


class TestTutorialNetworks(ArchitectureSourceContract):
    namespace = "tutorial"
    sample = ("net_a", "net_b", "cifar10_quick")


BROKEN = {
    "undocumented": (SurgeryContract, "surgeries", "def x(model): return model", "test_it_is_documented"),
    "unannotated": (
        SurgeryContract,
        "surgeries",
        "def x(model, *, width=3): 'Cut.'",
        "test_its_parameters_are_annotated",
    ),
    "breaks the model": (
        SurgeryContract,
        "surgeries",
        "def x(model):\n    import torch\n    model.classifier = torch.nn.Conv2d(512, 2, 1)\n"
        "    next(model.parameters()).data.fill_(float('nan'))\n    return model",
        "test_the_model_still_answers",
    ),
    "another structure each time": (
        SurgeryContract,
        "surgeries",
        "import itertools\ncount = itertools.count(1)\n"
        "def x(model):\n    import torch\n    model.extra = torch.nn.Linear(1, next(count))\n    return model",
        "test_its_record_is_plain_and_replays_to_the_same_structure",
    ),
    "names what is not there": (
        FreezingContract,
        "freezing",
        "def x(model): return ['no.such.layer']",
        "test_it_names_what_exists_and_leaves_freezing_to_zoo",
    ),
    "freezes by itself": (
        FreezingContract,
        "freezing",
        "def x(model):\n    model.requires_grad_(False)\n    return []",
        "test_it_names_what_exists_and_leaves_freezing_to_zoo",
    ),
    "no module": (ModuleContract, "modules", "def x(): return 3", "test_it_builds_and_runs"),
    "another tensor": (
        InitializerContract,
        "initializers",
        "def x(tensor): return tensor + 1",
        "test_it_fills_in_place",
    ),
    "no data": (DatasetContract, "datasets", "def x(): return [1, 2]", "test_samples_are_what_zoo_reads"),
    "a target without a class": (
        DatasetContract,
        "datasets",
        "from PIL import Image\nfrom zoo.api import Data\n"
        "def x(): return Data([(Image.new('L', (8, 8)), 2)], classes=('a', 'b'))",
        "test_samples_are_what_zoo_reads",
    ),
    "floats for pixels": (
        DatasetContract,
        "datasets",
        "import torch\nfrom zoo.api import Data\ndef x(): return Data([(torch.rand(3, 8, 8), 0)], classes=('a',))",
        "test_samples_are_what_zoo_reads",
    ),
    "a class twice": (
        DatasetContract,
        "datasets",
        "from zoo.api import Data\ndef x(): return Data([], classes=('a', 'a'))",
        "test_class_names_are_distinct",
    ),
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
def test_a_contract_fails_where_it_is_broken(plugins, case):
    contract, kind, module, test = BROKEN[case]
    plugins.write("zoo-acme", f"[zoo.{kind}]\nx = acme_contract:x", acme_contract=module)
    checked = type("Checked", (contract,), {"component": "acme/x"})()
    with pytest.raises(AssertionError):
        getattr(checked, test)()


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
