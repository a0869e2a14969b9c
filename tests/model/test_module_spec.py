"""What may be left out of a module, and what it comes from."""

import json

import pytest
import torch
from torch import nn

from zoo.errors import InputError
from zoo.model.module_spec import ModuleSpec, Place, infer_widths, output_shape


def filled(value, **place):
    if shape := place.pop("shape", None):
        place["input_shape"] = lambda: shape
    spec = ModuleSpec.parse(value)
    infer_widths(spec, Place(**place))
    return spec.as_json()


@pytest.mark.parametrize(
    ("value", "shape", "expected"),
    [
        ({"Linear": {"out_features": 3}}, (2, 7), {"out_features": 3, "in_features": 7}),
        ({"Linear": {"out_features": 3, "in_features": "auto"}}, (2, 7), {"out_features": 3, "in_features": 7}),
        ({"Linear": {"out_features": 3}}, (2, 5, 7), {"out_features": 3, "in_features": 7}),
        (
            {"Conv2d": {"out_channels": 3, "kernel_size": 1}},
            (2, 7, 5, 5),
            {"out_channels": 3, "kernel_size": 1, "in_channels": 7},
        ),
        ("BatchNorm2d", (2, 7, 5, 5), {"num_features": 7}),
        ("BatchNorm1d", (2, 7), {"num_features": 7}),
        ({"GroupNorm": {"num_groups": 1}}, (2, 7, 5), {"num_groups": 1, "num_channels": 7}),
        ("LayerNorm", (2, 5, 7), {"normalized_shape": [7]}),
        ({"MultiheadAttention": {"num_heads": 2}}, (2, 5, 8), {"num_heads": 2, "embed_dim": 8}),
        ({"TransformerEncoderLayer": {"nhead": 2}}, (2, 5, 8), {"nhead": 2, "d_model": 8}),
    ],
)
def test_widths_come_from_the_input(value, shape, expected):
    (arguments,) = filled(value, shape=shape).values()
    assert arguments == expected


@pytest.mark.parametrize(
    ("value", "like", "expected"),
    [
        ({"Linear": {"bias": False}}, nn.Linear(5, 6), {"bias": False, "in_features": 5, "out_features": 6}),
        ({"Conv2d": {"kernel_size": 3}}, nn.Conv2d(5, 6, 1), {"kernel_size": 3, "in_channels": 5, "out_channels": 6}),
        ({"GroupNorm": {"num_groups": 2}}, nn.BatchNorm2d(6), {"num_groups": 2, "num_channels": 6}),
        ("BatchNorm2d", nn.GroupNorm(2, 6), {"num_features": 6}),
        ("LayerNorm", nn.LayerNorm((3, 4)), {"normalized_shape": [3, 4]}),
    ],
)
def test_widths_come_from_what_is_replaced_where_no_input_is_known(value, like, expected):
    (arguments,) = filled(value, like=like).values()
    assert arguments == expected


def test_the_input_is_stronger_than_what_is_replaced():
    assert filled({"Linear": {"out_features": 3}}, like=nn.Linear(5, 6), shape=(2, 9)) == {
        "Linear": {"out_features": 3, "in_features": 9}
    }
    assert filled("Linear", like=nn.Linear(5, 6), shape=(2, 5)) == {"Linear": {"in_features": 5, "out_features": 6}}


def test_each_part_of_a_sequential_takes_what_the_one_before_gives():
    parts = [
        {"Conv2d": {"out_channels": 8, "kernel_size": 3, "stride": 2}},
        "BatchNorm2d",
        "ReLU",
        {"Sequential": {"pool": {"MaxPool2d": 2}, "flat": "Flatten"}},
        {"Linear": {"out_features": 16}},
        "Dropout",
        "Linear",
        {"Softmax": {"dim": 1}},
    ]
    (listed,) = filled({"Sequential": parts}, shape=(2, 3, 18, 18), out=5).values()
    assert listed[0]["Conv2d"]["in_channels"] == 3
    assert listed[1] == {"BatchNorm2d": {"num_features": 8}}
    assert listed[4]["Linear"]["in_features"] == 8 * 4 * 4
    assert listed[6]["Linear"] == {"in_features": 16, "out_features": 5}


def test_the_last_part_gives_what_the_replaced_one_gave():
    (listed,) = filled(
        {"Sequential": [{"Linear": {"out_features": 2}}, "Linear"]}, like=nn.Linear(4, 6), shape=(2, 4)
    ).values()
    assert listed[1] == {"Linear": {"in_features": 2, "out_features": 6}}


@pytest.mark.parametrize(
    ("value", "place", "message"),
    [
        (
            "Linear",
            {"shape": (2, 4)},
            "out_features, which cannot be inferred: it does not follow from the input",
        ),
        ({"Linear": {"out_features": 2}}, {}, "Linear needs in_features, .*: its input shape is not known"),
        ({"Conv2d": {"out_channels": 2}}, {"shape": (2, 4, 5, 5)}, "Conv2d needs kernel_size"),
        ("BatchNorm2d", {"shape": (2,)}, "which has no channels"),
        ("LayerNorm", {"shape": (2, 3, 4, 4)}, "any trailing part could be normalised"),
        (
            {"Sequential": ["Flatten", {"Linear": {"in_features": 3}}, "Linear"]},
            {"shape": (2, 4)},
            "needs out_features",
        ),
        (
            {"Sequential": [{"Linear": {"in_features": 3, "out_features": 3}}, "BatchNorm1d"]},
            {"shape": (2, 4)},
            r"does not take a tensor \[2, 4\]",
        ),
    ],
)
def test_what_cannot_be_worked_out(value, place, message):
    with pytest.raises(InputError, match=message):
        filled(value, **place)


def test_everything_missing_is_told_at_once():
    with pytest.raises(InputError) as caught:
        filled("Conv2d")
    assert [problem.suggestion for problem in caught.value.problems] == [
        "give in_channels",
        "give out_channels",
        "give kernel_size",
    ]


def test_a_complete_order_needs_no_place_and_asks_nothing():
    def refuse():
        raise AssertionError("asked")

    spec = ModuleSpec.parse({"Sequential": [{"Linear": {"in_features": 3, "out_features": 2}}, "ReLU"]})
    infer_widths(spec, Place(input_shape=refuse))
    infer_widths(spec)


def test_output_shape_is_found_without_computing():
    spec = ModuleSpec.parse({"Linear": {"in_features": 4, "out_features": 10**7}})
    torch.manual_seed(0)
    assert output_shape(spec, (2, 4)) == (2, 10**7)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))


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
        ("torch.nn.Linear", "no module is called 'torch.nn.Linear'", "write Linear"),
        ("os.system", "no module is called 'os.system'", "they import nothing"),
        ("LazyLinear", "no module is called 'LazyLinear'", "Linear"),
        ("Module", "no module is called", None),
        ("ModuleList", "no module is called", None),
        ("functional", "no module is called", None),
        ({"Linear": {"out_feature": 3}}, "Linear takes no argument 'out_feature'", "out_features"),
        ({"Linear": {"device": "cuda"}}, "Linear takes no argument 'device'", None),
        ({"ReLU": {"x": 1}}, "ReLU takes no argument 'x'", "inplace"),
        ({"Flatten": {}, "ReLU": {}}, "a module is a name", "Linear"),
        (["ReLU"], "a module is a name", "Linear"),
        (7, "a module is a name", "Linear"),
        ({"Sequential": "ReLU"}, "takes a list of modules", "Sequential"),
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


def test_device_and_dtype_follow_the_tensor_it_shall_be_like():
    spec = ModuleSpec.parse({"Sequential": [{"Linear": {"in_features": 2, "out_features": 2}}, {"BatchNorm1d": 2}]})
    module = spec.build(like=torch.empty(1, dtype=torch.bfloat16, device="meta"))
    assert module[0].weight.is_meta
    assert module[0].weight.dtype == torch.bfloat16
    assert module[1].num_batches_tracked.dtype == torch.int64
