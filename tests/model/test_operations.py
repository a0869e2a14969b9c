"""Surgeries by name on an assembly: `auto`, mistakes, records, and replaying them to the same structure."""

import json
import os

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from zoo.api import Context, Preprocessing
from zoo.errors import InputError, WorkError
from zoo.model.build import build, rebuild
from zoo.model.freezing import freeze
from zoo.model.heads import find_heads
from zoo.model.operations import operate, replay
from zoo.model.wiring import wires

TEN = Context(num_classes=10, classes=tuple("abcdefghij"))

PLUGIN = """
    [zoo.surgeries]
    widen = acme_surgeries:widen
    cosine_head = acme_surgeries:cosine_head
    stack = acme_surgeries:stack
    fails = acme_surgeries:fails
    forgets = acme_surgeries:forgets
    typed = acme_typed:typed
    unkept = acme_surgeries:unkept
    [zoo.modules]
    cosine = acme_surgeries:Cosine
"""
SURGERIES = """
    import torch
    from torch import nn
    from zoo.api import Context, replace_head
    from zoo.model.module_spec import ModuleSpec

    class Cosine(nn.Module):
        def __init__(self, in_features: int, num_classes: int, scale: float = 16.0):
            super().__init__()
            self.weight, self.scale = nn.Parameter(torch.randn(num_classes, in_features)), scale
        def forward(self, x):
            return self.scale * nn.functional.normalize(x) @ nn.functional.normalize(self.weight).T

    def cosine_head(model, *, num_classes: int, scale: float = 16.0):
        return replace_head(model, lambda width: Cosine(width, num_classes, scale))

    def widen(model, *, factor: int = 2, width: int | None = None, context: Context):
        context.resolved["width"] = width or factor * 100
        model.wide = nn.Linear(context.resolved["width"], 1)
        return model

    def stack(model, *, modules: list[ModuleSpec], extra: dict[str, ModuleSpec] | None = None):
        for index, spec in enumerate(modules):
            model.add_module(f"stacked{index}", spec.build())
        for name, spec in (extra or {}).items():
            model.add_module(name, spec.build())
        return model

    def fails(model):
        raise KeyError("inner")

    def forgets(model):
        model.forgotten = nn.ReLU()

    def unkept(model, *, context):
        context.resolved["tensor"] = torch.zeros(1)
        return model
"""
TYPED = """
    from __future__ import annotations
    from typing import TYPE_CHECKING
    if TYPE_CHECKING:
        from torch import nn
        from zoo.model.module_spec import ModuleSpec

    def typed(model: nn.Module, *, module: ModuleSpec | None = None, width: int | str, mode: str = "auto", **more):
        model.typed = module.build()
        model.told = (width, mode, more)
        return model
"""


@pytest.fixture
def acme(plugins):
    plugins.write("zoo-acme", PLUGIN, acme_surgeries=SURGERIES, acme_typed=TYPED)


@pytest.fixture
def vgg():
    return build("torchvision/vgg11", device="meta")


def described(assembly):
    """What a checkpoint keeps, through JSON."""
    kept = {
        "architecture": assembly.architecture,
        "arguments": assembly.arguments,
        "operations": assembly.operations,
        "preprocessing": assembly.preprocessing.as_dict(),
        "classes": assembly.classes,
        "task": assembly.task,
    }
    return json.loads(json.dumps(kept))


def structure(model):
    tensors = {key: (tuple(value.shape), value.dtype) for key, value in model.state_dict().items()}
    modules = [(path, type(module), module.extra_repr(), wires(module)) for path, module in model.named_modules()]
    shared = [path for path, _ in model.named_modules(remove_duplicate=False)]
    return list(tensors.items()), modules, shared


def assert_replays(assembly):
    again = rebuild(described(assembly), device="meta")
    assert structure(again.model) == structure(assembly.model)
    assert again.operations == assembly.operations
    assert heads(again.model) == heads(assembly.model)


def heads(model):
    try:
        return find_heads(model)
    except InputError:
        return None


def test_the_record_is_whole_and_plain(vgg):
    operate(vgg, "swap_head", {"num_classes": "auto"}, TEN)
    linear = {"Linear": {"out_features": 10, "bias": True, "in_features": 4096}}
    assert vgg.operations == [
        {
            "surgery": "zoo/swap_head",
            "arguments": {
                "num_classes": 10,
                "module": None,
                "dropout": None,
                "bias": True,
                "path": None,
                "heads": {"classifier.6": linear},
                "reuse": None,
                "standardise": True,
            },
        }
    ]
    operate(vgg, "replace_module", {"path": "classifier.-1", "module": {"Linear": {"out_features": "auto"}}}, TEN)
    arguments = {"path": "classifier.6", "module": {"Linear": {"out_features": 10, "in_features": 4096}}}
    assert vgg.operations[1] == {"surgery": "zoo/replace_module", "arguments": arguments}
    assert_replays(vgg)


@pytest.mark.parametrize(
    ("component", "arguments", "messages"),
    [
        ("swap_haed", {}, ["no surgeries component is called 'swap_haed'"]),
        ("remove_module", {}, ["zoo/remove_module needs path"]),
        (
            "replace_module",
            {"pth": "x", "module": {"Linaer": {}}},
            ["takes no argument 'pth'", "needs path", "no module is called 'Linaer'"],
        ),
        ("swap_head", {"num_classes": 3, "context": 1}, ["takes no argument 'context'"]),
        ("swap_head", {"num_classes": 3, "model": 1}, ["takes no argument 'model'"]),
        ("remove_module", {"path": "classifer.6"}, ["no module at 'classifer.6'"]),
    ],
)
def test_mistakes_are_told_all_at_once_and_nothing_is_recorded(vgg, component, arguments, messages):
    before = structure(vgg.model)
    with pytest.raises(InputError) as caught:
        operate(vgg, component, arguments, TEN)
    assert len(caught.value.problems) == len(messages)
    for problem, message in zip(caught.value.problems, messages, strict=True):
        assert message in problem.message
    assert vgg.operations == []
    assert structure(vgg.model) == before


def test_suggestions(vgg):
    for component, arguments, meant in [
        ("swap_haed", {}, "swap_head"),
        ("swap_head", {"num_classes": 3, "dropuot": 0.1}, "dropout"),
        ("remove_module", {"path": "classifer.6"}, "classifier.6"),
    ]:
        with pytest.raises(InputError) as caught:
            operate(vgg, component, arguments, TEN)
        assert meant in caught.value.problems[0].suggestion


def test_a_plugins_surgery_with_defaults_and_what_it_worked_out(acme, vgg):
    operate(vgg, "acme/cosine_head", {"num_classes": "auto"}, TEN)
    assert vgg.operations[0]["arguments"] == {"num_classes": 10, "scale": 16.0}
    assert find_heads(vgg.model) == ["classifier.6"]
    operate(vgg, "widen", {}, TEN)
    assert vgg.operations[1] == {"surgery": "acme/widen", "arguments": {"factor": 2, "width": 200}}
    assert_replays(vgg)


def test_modules_in_lists_and_mappings(acme, vgg):
    given = {
        "modules": ["ReLU", {"Dropout": 0.1}],
        "extra": {"bend": {"Linear": {"in_features": 2, "out_features": "auto"}}},
    }
    operate(vgg, "stack", given, TEN)
    assert vgg.model.bend.out_features == 10
    assert vgg.operations[0]["arguments"]["extra"] == {"bend": {"Linear": {"in_features": 2, "out_features": 10}}}
    assert_replays(vgg)


def test_a_plugins_module_is_a_head(acme, vgg):
    operate(vgg, "swap_head", {"num_classes": 3, "module": {"cosine": {"num_classes": "auto"}}}, Context(num_classes=3))
    head = vgg.operations[0]["arguments"]["heads"]["classifier.6"]
    assert head == {"cosine": {"num_classes": 3, "in_features": 4096}}
    assert_replays(vgg)


def test_annotations_that_only_type_checkers_see(acme, vgg):
    operate(vgg, "typed", {"module": "ReLU", "width": 3, "mode": "auto", "deep": 7}, TEN)
    assert type(vgg.model.typed).__name__ == "ReLU"
    assert vgg.model.told == (3, "auto", {"deep": 7})
    with pytest.raises(InputError, match="width is auto, but the data does not say"):
        operate(vgg, "typed", {"module": "ReLU", "width": "auto"}, TEN)


def test_a_surgery_that_fails_says_who_failed(acme, vgg):
    with pytest.raises(WorkError, match="acme/fails failed: KeyError: 'inner'"):
        operate(vgg, "fails", {}, TEN)
    with pytest.raises(
        WorkError, match="surgery 'forgets' returned NoneType, expected the model: a surgery returns it"
    ):
        operate(vgg, "forgets", {}, TEN)
    with pytest.raises(WorkError, match="acme/unkept makes a record that no checkpoint can contain"):
        operate(vgg, "unkept", {}, TEN)
    assert vgg.operations == []


def test_what_was_frozen_stays_and_what_comes_in_trains():
    assembly = build("torchvision/resnet18")
    assembly.frozen = freeze(assembly.model, [""])
    operate(assembly, "swap_head", {"num_classes": 10}, TEN)
    trainable = [name for name, p in assembly.model.named_parameters() if p.requires_grad]
    assert trainable == ["fc.weight", "fc.bias"]
    assembly.model.train()
    assert assembly.model.fc.training
    assert not assembly.model.layer1[0].bn1.training
    assert "fc.weight" not in assembly.frozen.parameters
    frozen = set(assembly.frozen.parameters)
    operate(assembly, "wrap", {"path": ""}, TEN)
    assert set(assembly.frozen.parameters) == {f"inner.{name}" for name in frozen}
    assert not assembly.model.train().inner.layer1[0].bn1.training
    assert [name for name, p in assembly.model.named_parameters() if p.requires_grad] == [
        "inner.fc.weight",
        "inner.fc.bias",
    ]


def trained(assembly):
    return [name for name, parameter in assembly.model.named_parameters() if parameter.requires_grad]


def test_a_surgery_that_stops_gradients_freezes_nothing_and_is_named(beside):
    assembly = build("tutorial/net_a")
    everything = trained(assembly)
    operate(assembly, "adapt", {}, TEN)
    assert set(trained(assembly)) > {name for name in everything if not name.startswith("fc1")}
    assert "fc1.base.weight" in trained(assembly)
    assert len(assembly.notes) == 1
    assert assembly.notes[0].startswith("beside/adapt set requires_grad of conv1.weight, ")
    assert assembly.notes[0].endswith("put back, since freezing is for a freeze step")


def test_after_a_surgery_that_stops_gradients_freeze_none_trains_all(beside):
    assembly = build("tutorial/net_a")
    operate(assembly, "adapt", {}, TEN)
    assembly.frozen = freeze(assembly.model, [])
    assert trained(assembly) == [name for name, _ in assembly.model.named_parameters()]


def test_what_a_surgery_renames_stays_frozen_and_is_known_by_its_new_name(beside):
    assembly = build("tutorial/net_a")
    assembly.frozen = freeze(assembly.model, ["conv1", "fc1"])
    operate(assembly, "adapt", {}, TEN)
    assert assembly.frozen.parameters == ("conv1.weight", "conv1.bias", "fc1.base.weight", "fc1.base.bias")
    assert "fc1.narrow.weight" in trained(assembly)
    assembly.model.train()
    assert not assembly.model.fc1.base.training
    assert assembly.model.fc1.narrow.training
    operate(assembly, "merge", {}, TEN)
    assert assembly.frozen.parameters == ("conv1.weight", "conv1.bias", "fc1.weight", "fc1.bias")
    assembly.frozen = freeze(assembly.model, [])
    assert trained(assembly) == [name for name, _ in assembly.model.named_parameters()]


def test_a_surgery_does_not_unfreeze(beside):
    assembly = build("tutorial/net_a")
    assembly.frozen = freeze(assembly.model, ["conv1"])
    operate(assembly, "thaw", {}, TEN)
    assert assembly.frozen.parameters == ("conv1.weight", "conv1.bias")
    assert not assembly.model.conv1.weight.requires_grad
    assert "beside/thaw set requires_grad of conv1.weight, conv1.bias: put back" in assembly.notes[0]


@pytest.mark.parametrize(
    "record",
    [
        "swap_head",
        {"surgery": "zoo/swap_head"},
        {"surgery": "zoo/swap_head", "arguments": {}, "more": 1},
        {"surgery": "zoo/no_such", "arguments": {}},
        {"surgery": "zoo/swap_head", "arguments": {"num_classes": 3, "heads": {"nowhere": "Linear"}}},
        {"surgery": "zoo/swap_head", "arguments": {"num_classes": "auto"}},
        {"surgery": "zoo/add_module", "arguments": {"name": "x", "module": {"os.system": {"command": "true"}}}},
    ],
)
def test_a_tampered_record_is_refused(vgg, record):
    with pytest.raises(InputError):
        replay(vgg, [record])


def test_replaying_draws_the_same_logits_from_the_same_tensors():
    torch.manual_seed(0)
    assembly = build("torchvision/resnet18")
    context = Context(num_classes=10, preprocessing=Preprocessing(size=(64, 64)))
    mlp = {"Sequential": {"block 1": {"Linear": {"out_features": 32}}, "act": "GELU", "out": "Linear"}}
    operate(assembly, "swap_head", {"num_classes": "auto", "module": mlp}, context)
    operate(assembly, "add_module", {"name": "calibrate", "module": {"Linear": {"out_features": 10}}}, context)
    operate(
        assembly,
        "add_module",
        {"path": "layer2", "name": "extra", "module": {"Conv2d": {"out_channels": 128, "kernel_size": 1}}},
        context,
    )
    operate(assembly, "tie", {"path": "layer1.1.conv2", "to": "layer1.1.conv1"}, context)
    operate(assembly, "wrap", {"path": "layer3", "name": "old"}, context)
    with torch.no_grad():
        for tensor in (*assembly.model.parameters(), *assembly.model.buffers()):
            tensor.copy_(torch.rand(tensor.shape) * 0.1)
    again = rebuild(described(assembly))
    again.model.load_state_dict(assembly.model.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert again.model.layer1[1].conv2 is again.model.layer1[1].conv1
    assert torch.equal(again.model.eval()(images), assembly.model.eval()(images))


# Any chain of surgeries on any of these replays to the same structure.

ARCHITECTURES = {
    "torchvision/resnet18": ["layer1", "layer4.1.conv2", "bn1", "fc", "layer3.0.relu", "layer2.0.downsample"],
    "torchvision/vgg11": ["features", "classifier", "classifier.6", "classifier.0", "features.3", "avgpool"],
    "torchvision/mobilenet_v3_small": ["features.1", "classifier.3", "features.2.block.1.0", "classifier"],
    "timm/vit_tiny_patch16_224": ["blocks.3.mlp.fc1", "blocks.2", "norm", "head", "patch_embed.proj", "blocks"],
    "timm/levit_128s": ["head.linear", "stages.0.blocks", "stages.1.blocks.0.mlp", "stem"],
    "timm/tf_efficientnet_lite0": ["conv_head", "blocks.2", "blocks.1.0.bn2", "classifier"],
}
MODULES = st.sampled_from(
    [
        "ReLU",
        {"Dropout": 0.2},
        {"Linear": {"out_features": "auto"}},
        {"Conv2d": {"out_channels": 6, "kernel_size": 1}},
        "BatchNorm2d",
        {"Sequential": [{"Linear": {"out_features": 5}}, "GELU", {"Linear": {"out_features": 4}}]},
        {"Sequential": {"block 1": "Flatten", "dense": {"Linear": {"out_features": 3}}}},
    ]
)


@st.composite
def chains(draw):
    architecture = draw(st.sampled_from(sorted(ARCHITECTURES)))
    paths = st.sampled_from(ARCHITECTURES[architecture])
    step = st.one_of(
        st.fixed_dictionaries(
            {
                "path": st.one_of(st.just(""), paths),
                "name": st.sampled_from(["new", "7"]),
                "module": MODULES,
                "wire": st.booleans(),
            }
        ).map(lambda a: ("add_module", a)),
        st.fixed_dictionaries({"path": paths, "module": MODULES}).map(lambda a: ("replace_module", a)),
        st.fixed_dictionaries({"path": paths}).map(lambda a: ("remove_module", a)),
        st.fixed_dictionaries({"path": paths, "module": MODULES}).map(lambda a: ("append", a)),
        st.fixed_dictionaries({"path": paths, "module": MODULES}).map(lambda a: ("prepend", a)),
        st.fixed_dictionaries({"path": st.one_of(st.just(""), paths)}).map(lambda a: ("wrap", a)),
        st.fixed_dictionaries({"path": paths, "to": paths}).map(lambda a: ("tie", a)),
        st.fixed_dictionaries({"path": paths}).map(lambda a: ("untie", a)),
        st.fixed_dictionaries({"num_classes": st.just("auto"), "dropout": st.sampled_from([None, 0.1])}).map(
            lambda a: ("swap_head", a)
        ),
    )
    return architecture, draw(st.lists(step, min_size=1, max_size=4))


def check_chain(chain):
    architecture, steps = chain
    assembly = build(architecture, device="meta")
    context = Context(num_classes=9, preprocessing=assembly.preprocessing)
    for component, arguments in steps:
        before, recorded = structure(assembly.model), len(assembly.operations)
        try:
            operate(assembly, component, arguments, context)
        except InputError:  # a chain may take away what a later step names: then nothing has happened
            assert structure(assembly.model) == before
            assert len(assembly.operations) == recorded
    assert_replays(assembly)


OPTIONS = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)


@pytest.mark.slow
@settings(OPTIONS, max_examples=int(os.environ.get("ZOO_FUZZ_EXAMPLES", "30")))  # more of them look longer
@given(chains())
def test_any_chain_replays_to_the_same_structure(chain):
    check_chain(chain)


@pytest.mark.parametrize(
    ("surgery", "arguments", "classes"),
    [
        ("swap_head", {"num_classes": 3}, ("a", "b", "c")),
        ("swap_head", {"num_classes": 4}, ()),  # fresh outputs, as many as before
        ("add_module", {"name": "more", "module": {"Linear": {"out_features": 3}}}, ("a", "b", "c")),
        ("replace_module", {"path": "fc", "module": {"Linear": {"out_features": 7}}}, ()),
        ("add_module", {"name": "same", "module": "Identity"}, ("tench", "shark", "ray", "cock")),
    ],
)
def test_outputs_are_called_as_what_they_are(surgery, arguments, classes):
    assembly = build("timm/test_resnet", {"num_classes": 4}, device="meta")
    assembly.classes = ("tench", "shark", "ray", "cock")
    operate(assembly, surgery, arguments, Context(3, ("a", "b", "c"), assembly.preprocessing))
    assert assembly.classes == classes


def test_without_data_a_new_head_has_no_names():
    assembly = build("timm/test_resnet", {"num_classes": 4}, device="meta")
    assembly.classes = ("tench", "shark", "ray", "cock")
    operate(assembly, "swap_head", {"num_classes": 4}, Context(None, assembly.classes, assembly.preprocessing))
    assert assembly.classes == ()
