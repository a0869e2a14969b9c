"""The contracts of surgeries, policies, modules and initializers hold for zoo's own, and fail for broken ones."""

import pytest

from zoo.testing import FreezingContract, InitializerContract, ModuleContract, SurgeryContract


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


class TestMyLinear(ModuleContract):
    component = "tutorial/MyLinear"
    arguments = {"in_features": 4, "out_features": 3}
    input_shape = (2, 4)


class TestUniformKeepLarge(InitializerContract):
    component = "tutorial/uniform_keep_large"


BROKEN = {
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
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_contract_fails_where_it_is_broken(fails, case):
    fails(*BROKEN[case])
