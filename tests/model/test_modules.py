"""Modules as recipes write them: names, arguments, nesting, mistakes, and the form that a checkpoint keeps."""

import json

import pytest
import torch
from torch import nn

from zoo.errors import InputError
from zoo.model.modules import ModuleSpec, torch_modules

PLUGIN = """
    [zoo.modules]
    scale = acme_modules:Scale
    residual = acme_modules:Residual
    broken = acme_modules:missing
    number = acme_modules:number
"""
MODULES = """
    import torch
    from torch import nn

    class Scale(nn.Module):
        def __init__(self, factor: float = 2.0):
            super().__init__()
            self.factor = factor
        def forward(self, x):
            return x * self.factor

    class Residual(nn.Module):
        def __init__(self, inner: nn.Module, scale: float = 1.0):
            super().__init__()
            self.inner, self.scale = inner, scale
        def forward(self, x):
            return x + self.scale * self.inner(x)

    def number(width: int):
        return width
"""


@pytest.fixture
def acme(plugins):
    plugins.write("zoo-acme", PLUGIN, acme_modules=MODULES)


def build(value):
    return ModuleSpec.parse(value).build()


def test_a_name_a_name_with_arguments_and_a_single_value():
    assert isinstance(build("ReLU"), nn.ReLU)
    assert build({"Linear": {"in_features": 3, "out_features": 2, "bias": False}}).bias is None
    assert build({"Dropout": 0.3}).p == 0.3
    assert isinstance(build({"ReLU": None}), nn.ReLU)


def test_a_list_and_a_mapping_of_parts():
    listed = build({"Sequential": [{"Linear": {"in_features": 3, "out_features": 4}}, "ReLU"]})
    assert list(dict(listed.named_children())) == ["0", "1"]
    named = build({"Sequential": {"block 0": "ReLU", "block 1": {"Sequential": ["Tanh"]}}})
    assert isinstance(named.get_submodule("block 1.0"), nn.Tanh)


def test_plugin_modules_by_full_and_bare_name(acme):
    assert build("acme/scale").factor == 2.0
    assert build({"scale": {"factor": 3.0}})(torch.ones(1)).item() == 3.0


def test_an_argument_that_is_a_module(acme):
    module = build({"residual": {"inner": {"Linear": {"in_features": 2, "out_features": 2}}, "scale": 0.5}})
    assert isinstance(module.inner, nn.Linear)
    layer = {"TransformerEncoderLayer": {"d_model": 8, "nhead": 2, "dim_feedforward": 16, "batch_first": True}}
    assert len(build({"TransformerEncoder": {"encoder_layer": layer, "num_layers": 3}}).layers) == 3


@pytest.mark.parametrize(
    "value",
    [
        "ReLU",
        {"Linear": {"in_features": 3, "out_features": 2}},
        {"Conv2d": {"in_channels": 1, "out_channels": 2, "kernel_size": [3, 5]}},
        {"Sequential": [{"Linear": {"in_features": 3, "out_features": 2}}, "ReLU"]},
        {"Sequential": {"block 1": "ReLU", "last": {"Sequential": []}}},
        {"acme/residual": {"inner": {"Linear": {"in_features": 2, "out_features": 2}}}},
    ],
)
def test_what_is_kept_reads_back_to_the_same_module(acme, value):
    spec = ModuleSpec.parse(value)
    kept = json.loads(json.dumps(spec.as_json()))
    assert kept == value
    assert ModuleSpec.parse(kept) == spec
    shapes = [{key: tensor.shape for key, tensor in build(form).state_dict().items()} for form in (value, kept)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ("Linaer", "no module is called 'Linaer'", "Linear"),
        ("torch.nn.Linear", "is a dotted path", "Linear"),
        ("os.system", "is a dotted path", "zoo list"),
        ("LazyLinear", "has no shapes to keep", "write Linear"),
        ("Module", "no module is called", None),
        ("ModuleList", "no module is called", None),
        ("functional", "no module is called", None),
        ({"Linear": {"out_feature": 3}}, "Linear takes no argument 'out_feature'", "out_features"),
        ({"Linear": {"device": "cuda"}}, "Linear takes no argument 'device'", None),
        ({"ReLU": {"x": 1}}, "ReLU takes no argument 'x'", "inplace"),
        ({"Flatten": {}, "ReLU": {}}, "a module is a name", "Linear"),
        (["ReLU"], "a module is a name", "Linear"),
        (7, "a module is a name", "Linear"),
        ({"Sequential": "ReLU"}, "holds a list of modules", "Sequential"),
        ({"Sequential": {"a.b": "ReLU"}}, "cannot be called 'a.b'", None),
        ({"Identity": {"x": 1}, 3: 4}, "a module is a name", None),
        ("scael", "no module is called 'scael'", "scale"),
        ("acme/broken", "is broken", None),
    ],
)
def test_mistakes(acme, value, message, hint):
    with pytest.raises(InputError) as caught:
        ModuleSpec.parse(value)
    assert message in str(caught.value)
    assert hint is None or hint in caught.value.problems[0].suggestion


def test_all_mistakes_are_told_at_once():
    parts = [{"Linear": {"out_feature": 3}}, "Rellu", {"Sequential": [{"Dropout": {"q": 1}}]}]
    with pytest.raises(InputError) as caught:
        ModuleSpec.parse({"Sequential": parts})
    assert [problem.message.split()[0] for problem in caught.value.problems] == ["Linear", "no", "Dropout"]


def test_a_value_the_module_refuses(acme):
    with pytest.raises(InputError, match=r"Dropout\(p=3\) cannot be built: ValueError"):
        build({"Dropout": {"p": 3}})
    with pytest.raises(InputError, match="gave int where"):
        build({"number": {"width": 3}})


def test_only_modules_that_run_by_themselves_have_names():
    named = torch_modules()
    assert {"Linear", "Conv2d", "Sequential", "BatchNorm2d", "CrossEntropyLoss"} <= set(named)
    assert all(issubclass(value, nn.Module) for value in named.values())
    assert not [name for name in named if name.startswith("Lazy")]


def test_device_and_dtype_follow_the_tensor_it_shall_be_like():
    spec = ModuleSpec.parse({"Sequential": [{"Linear": {"in_features": 2, "out_features": 2}}, {"BatchNorm1d": 2}]})
    module = spec.build(like=torch.empty(1, dtype=torch.bfloat16, device="meta"))
    assert module[0].weight.is_meta
    assert module[0].weight.dtype == torch.bfloat16
    assert module[1].num_batches_tracked.dtype == torch.int64
