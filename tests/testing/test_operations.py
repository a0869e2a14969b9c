"""The contracts of surgeries, policies, modules and initializers hold for zoo's own."""

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
    arguments = {"module": "blocks.1"}


class TestMyLinear(ModuleContract):
    component = "tutorial/MyLinear"
    arguments = {"in_features": 4, "out_features": 3}
    input_shape = (2, 4)


class TestUniformKeepLarge(InitializerContract):
    component = "tutorial/uniform_keep_large"
