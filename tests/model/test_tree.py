"""The model on a page."""

import re

from torch import nn

from zoo.model.build import build
from zoo.model.freezing import FrozenPart, freeze
from zoo.model.shapes import dry_run
from zoo.model.surgeries import add_module, tie
from zoo.model.tree import tree


def row(text, label):
    """The line of one module, its spaces and branches taken out."""
    (line,) = [line for line in text.splitlines() if re.search(rf"(^|[├└]─ ){re.escape(label)}(  |$)", line)]
    return re.sub(r"\s+", " ", line.strip("│ ├└─"))


def test_the_tutorials_change_is_seen():
    assembly = build("torchvision/vgg16", device="meta")
    freeze(assembly.model, ["features"])
    before = tree(assembly.model)
    add_module(assembly.model, name="dead", module={"Linear": {"out_features": 10}}, wire=False)
    add_module(assembly.model, name="add_linear", module={"Linear": {"out_features": 10}})
    after = tree(assembly.model, uncalled=dry_run(assembly.model, assembly.preprocessing).uncalled)
    assert row(before, "VGG") == "VGG 138,357,544 partly"
    assert row(after, "VGG") == "VGG 138,377,564 partly"
    assert row(after, "features") == "features Sequential 14,714,688 frozen"
    assert row(after, "classifier") == "classifier Sequential 123,642,856 trains"
    linear = "Linear(in_features=1000, out_features=10, bias=True) 10,010 trains"
    assert row(after, "add_linear") == f"add_linear {linear} wired after its parent"
    assert row(after, "dead") == f"dead {linear} never called"
    assert len(after.splitlines()) == len(before.splitlines()) + 2 == 42 + 2


def test_equal_neighbours_share_a_line_until_one_differs():
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(5)])
    assert tree(model).splitlines()[1:] == [
        "└─ 0-4 (5×)  Linear(in_features=4, out_features=4, bias=True)             20  trains"
    ]
    model[1].bias.requires_grad_(False)
    assert [line.split()[1] for line in tree(model).splitlines()[1:]] == ["0", "1", "2-4"]
    assert row(tree(model), "1") == "1 Linear(in_features=4, out_features=4, bias=True) 20 partly"


def test_named_neighbours_keep_their_lines():
    model = nn.Sequential()
    model.add_module("block 0", nn.ReLU())
    model.add_module("block 1", nn.ReLU())
    assert [line.strip() for line in tree(model).splitlines()] == ["Sequential", "├─ block 0  ReLU", "└─ block 1  ReLU"]


def test_shared_modules_and_parameters_are_told():
    model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(3)])
    tie(model, path="1", to="0")
    tie(model, path="2.weight", to="0.weight")
    text = tree(model)
    assert row(text, "Sequential") == "Sequential 24 trains"
    assert row(text, "1").endswith("20 trains is 0")
    assert row(text, "2").endswith("20 trains weight is 0.weight")


def test_a_plan_of_what_shall_freeze_can_be_drawn():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    text = tree(model, FrozenPart(parameters=("0.weight", "0.bias")))
    assert row(text, "0").endswith("6 frozen")
    assert row(text, "1").endswith("9 trains")


def test_depth_cuts_the_tree():
    model = build("timm/vit_tiny_patch16_224", device="meta").model
    assert len(tree(model, depth=0).splitlines()) == 1
    assert len(tree(model, depth=1).splitlines()) == 1 + len(list(model.children()))
    assert "0-11 (12×)  Block" in tree(model)
