"""What may be left out of a module, and what it comes from."""

import pytest
import torch
from torch import nn

from zoo.errors import InputError
from zoo.model.infer import Place, fill, output_shape
from zoo.model.modules import ModuleSpec


def filled(value, **place):
    if shape := place.pop("shape", None):
        place["arriving"] = lambda: shape
    spec = ModuleSpec.parse(value)
    fill(spec, Place(**place))
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
def test_widths_come_from_what_arrives(value, shape, expected):
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
def test_widths_come_from_what_is_replaced_where_nothing_is_known_to_arrive(value, like, expected):
    (arguments,) = filled(value, like=like).values()
    assert arguments == expected


def test_what_arrives_is_stronger_than_what_is_replaced():
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
        ("Linear", {"shape": (2, 4)}, "Linear needs out_features, which cannot be worked out: it is for you to say"),
        ({"Linear": {"out_features": 2}}, {}, "Linear needs in_features, .*: what arrives there is not known"),
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
    fill(spec, Place(arriving=refuse))
    fill(spec)


def test_output_shape_is_found_without_computing():
    spec = ModuleSpec.parse({"Linear": {"in_features": 4, "out_features": 10**7}})
    torch.manual_seed(0)
    assert output_shape(spec, (2, 4)) == (2, 10**7)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))
