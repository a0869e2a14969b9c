"""The remaps number by number: random weights in every tensor, moved to timm, and the same logits come out."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn
from zoo_timm.remaps import torchvision_attention, torchvision_cnn, torchvision_efficientnet, transformers

from zoo.conversion.random_weights import randomise
from zoo.formats import open_source
from zoo.formats.tensors import entry, to_array
from zoo.model.load_into import fill, load_into, state_of, target_of
from zoo.remap.auto import match
from zoo.remap.expression import evaluate
from zoo.remap.plan import make_plan
from zoo.remap.rules import check_inverse, invert, parse_rules, run

CNN, EFFICIENT, ATTENTION = torchvision_cnn, torchvision_efficientnet, torchvision_attention
EPS = {"bn_eps": 1e-3}
slow = pytest.mark.slow

NUMBERS = [
    (CNN.mobilenet_v2, "mobilenet_v2", {"width_mult": 0.35}, "mobilenetv2_035", {}, 64),
    (CNN.mnasnet, "mnasnet0_5", {}, "mnasnet_050", {}, 64),
    (CNN.mobilenet_v3_small, "mobilenet_v3_small", {}, "mobilenetv3_small_100", EPS, 64),
    (CNN.regnet, "regnet_x_1_6gf", {}, "regnetx_016", {}, 64),
    pytest.param(CNN.regnet, "regnet_y_400mf", {}, "regnety_004", {}, 64, marks=slow),
    pytest.param(CNN.mobilenet_v3_large, "mobilenet_v3_large", {}, "mobilenetv3_large_100", EPS, 64, marks=slow),
    pytest.param(CNN.vgg, "vgg11", {}, "vgg11", {}, 224, marks=slow),
    pytest.param(CNN.vgg, "vgg16_bn", {}, "vgg16_bn", {}, 64, marks=slow),
    pytest.param(CNN.convnext, "convnext_tiny", {}, "convnext_tiny", {}, 64, marks=slow),
    pytest.param(EFFICIENT.efficientnet, "efficientnet_b0", {}, "efficientnet_b0", {}, 64, marks=slow),
    pytest.param(EFFICIENT.efficientnet, "efficientnet_b5", {}, "efficientnet_b5", EPS, 64, marks=slow),
    pytest.param(EFFICIENT.efficientnet_v2_s, "efficientnet_v2_s", {}, "efficientnetv2_s", EPS, 64, marks=slow),
    pytest.param(EFFICIENT.efficientnet_v2, "efficientnet_v2_m", {}, "efficientnetv2_m", EPS, 64, marks=slow),
    pytest.param(
        ATTENTION.vit, "vit_b_16", {"image_size": 64}, "vit_base_patch16_224", {"img_size": 64}, 64, marks=slow
    ),
    pytest.param(ATTENTION.vit, "vit_b_32", {}, "vit_base_patch32_224", {}, 224, marks=slow),
    pytest.param(ATTENTION.swin, "swin_t", {}, "swin_tiny_patch4_window7_224", {}, 224, marks=slow),
    pytest.param(ATTENTION.swin_v2, "swin_v2_t", {}, "swinv2_tiny_window8_256", {}, 256, marks=slow),
]  # fmt: skip

SHAPES = [
    *((CNN.vgg, f"vgg{n}{bn}", f"vgg{n}{bn}") for n in (11, 13, 16, 19) for bn in ("", "_bn")),
    (CNN.mobilenet_v2, "mobilenet_v2", "mobilenetv2_100"),
    (CNN.mobilenet_v3_large, "mobilenet_v3_large", "mobilenetv3_large_100"),
    (CNN.mnasnet, "mnasnet0_75", "mnasnet_075"),
    (CNN.mnasnet, "mnasnet1_0", "mnasnet_100"),
    *((CNN.regnet, f"regnet_{a}", f"regnet{b}") for a, b in (("y_3_2gf", "y_032"), ("x_800mf", "x_008"))),
    *((CNN.convnext, f"convnext_{size}", f"convnext_{size}") for size in ("tiny", "small", "base", "large")),
    *((EFFICIENT.efficientnet, f"efficientnet_b{n}", f"efficientnet_b{n}") for n in range(8)),
    (EFFICIENT.efficientnet_v2_s, "efficientnet_v2_s", "efficientnetv2_s"),
    *((EFFICIENT.efficientnet_v2, f"efficientnet_v2_{size}", f"efficientnetv2_{size}") for size in "ml"),
    (ATTENTION.vit, "vit_b_16", "vit_base_patch16_224"),
    (ATTENTION.vit, "vit_l_16", "vit_large_patch16_224"),
    *((ATTENTION.swin, f"swin_{s[0]}", f"swin_{s}_patch4_window7_224") for s in ("tiny", "small", "base")),
    *((ATTENTION.swin_v2, f"swin_v2_{s[0]}", f"swinv2_{s}_window8_256") for s in ("tiny", "small", "base")),
]  # fmt: skip

ONE_WAY = (ATTENTION.swin_v2, ATTENTION.maxvit)  # they drop tensors that timm has no place for


def moved(source, target, remap):
    """The plan that fills `target` with random weights of `source`."""
    randomise(source)
    state = state_of(source)
    plan = make_plan(
        {name: entry(name, value) for name, value in state.items()}, parse_rules(remap()), target_of(target)
    )
    fill(target, plan, lambda name: to_array(state[name]))
    return plan


def assert_same(source, target, size):
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = source.eval()(images), target.eval()(images)
    expected = getattr(expected, "logits", expected)
    assert expected.std() > 1e-2  # random weights that fade would agree anywhere
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize(("remap", "name", "arguments", "other", "other_arguments", "size"), NUMBERS)
def test_logits_are_the_same(remap, name, arguments, other, other_arguments, size):
    source = torchvision.models.get_model(name, weights=None, **arguments)
    target = timm.create_model(other, **other_arguments)
    plan = moved(source, target, remap)
    assert (plan.coverage, plan.buffer_coverage, plan.use) == (1, 1, 1)
    assert not plan.unused
    assert_same(source, target, size)


@pytest.mark.slow
@pytest.mark.parametrize(("remap", "name", "other"), SHAPES)
def test_every_tensor_finds_its_place_and_back(remap, name, other):
    with torch.device("cpu" if "regnet" in name else "meta"):
        source, target = torchvision.models.get_model(name, weights=None), timm.create_model(other)
    rules, entries = parse_rules(remap()), target_of(source).entries
    plan = make_plan(entries, rules, target_of(target))
    assert (plan.coverage, plan.buffer_coverage, plan.use) == (1, 1, 1)
    assert not plan.unused
    if remap not in ONE_WAY:
        check_inverse(rules, {move.target: entry(move.target, target.state_dict()[move.target]) for move in plan.moves})


@pytest.mark.parametrize(("remap", "name", "arguments", "other", "other_arguments", "size"), NUMBERS[:3])
def test_there_and_back_gives_the_same_bytes(remap, name, arguments, other, other_arguments, size):
    source = torchvision.models.get_model(name, weights=None, **arguments)
    randomise(source)
    first = {key: (entry(key, value), to_array(value)) for key, value in state_of(source).items()}
    there = carried(first, parse_rules(remap()))
    back = carried(there, invert(parse_rules(remap())))
    assert {key: value[1].tobytes() for key, value in back.items()} == {
        key: value[1].tobytes() for key, value in first.items()
    }


def carried(tensors, rules):
    values = run(rules, {name: described for name, (described, _) in tensors.items()}).values
    made = {name: evaluate(value, lambda source: tensors[source][1]) for name, value in values.items()}
    return {name: (type(first)(name, values[name].dtype, values[name].shape), made[name])
            for name, first in ((name, next(iter(tensors.values()))[0]) for name in made)}  # fmt: skip


@pytest.mark.slow
def test_maxvit_agrees_where_timm_is_altered_to_match():
    """Everything but the tensors' places is set right by hand; then the logits show that those are right too."""
    source = torchvision.models.maxvit_t()
    target = timm.create_model(
        "maxvit_tiny_tf_224", conv_padding="", conv_act_layer="gelu", transformer_act_layer="gelu"
    )
    target.stem.conv1.bias = None
    target.head.fc = nn.Linear(512, 1000, bias=False)
    for module in target.modules():
        if isinstance(module, nn.AvgPool2d):
            module.kernel_size, module.padding = 3, 1
        if hasattr(module, "dim_head"):
            module.scale, module.fused_attn = (module.num_heads * module.dim_head) ** -0.5, False
    moved(source, target, ATTENTION.maxvit)
    shortcut = source.blocks[0].layers[0].layers.MBconv.proj[1]
    with torch.no_grad():
        shortcut.weight.copy_(torch.eye(64)[:, :, None, None])
        shortcut.bias.zero_()
    assert_same(source, target, 224)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_swin_v2_goes_back_to_torchvision(size):
    source = timm.create_model(f"swinv2_{size}_window8_256")
    target = torchvision.models.get_model(f"swin_v2_{size[0]}", weights=None)
    plan = moved(source, target, ATTENTION.to_swin_v2)
    assert (plan.coverage, plan.use) == (1, 1)
    assert not plan.unused
    assert all("relative_" in name for name in plan.missing)  # tables that torchvision computes
    assert_same(source, target, 256)


def saved(model, folder):
    randomise(model)
    model.save_pretrained(folder)
    return folder / "model.safetensors"


@pytest.fixture
def hub():
    return pytest.importorskip("transformers")


VIT = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "image_size": 32,
    "patch_size": 8, "num_labels": 5,
}  # fmt: skip
TIMM_VIT = {
    "img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "mlp_ratio": 2, "num_classes": 5,
}  # fmt: skip


def test_transformers_vit(hub, tmp_path):
    source = hub.ViTForImageClassification(hub.ViTConfig(**VIT))
    target = timm.create_model("vit_tiny_patch16_224", **TIMM_VIT)
    report = load_into(target, saved(source, tmp_path), "timm/from_transformers_vit")
    assert report.coverage == 1
    assert_same(source, target, 32)


def test_transformers_deit(hub, tmp_path):
    source = hub.DeiTForImageClassificationWithTeacher(hub.DeiTConfig(**VIT))
    target = timm.create_model("deit_tiny_distilled_patch16_224", **TIMM_VIT)
    report = load_into(target, saved(source, tmp_path), "timm/from_transformers_deit")
    assert report.coverage == 1
    assert_same(source, target, 32)


def test_transformers_convnext(hub, tmp_path):
    config = hub.ConvNextConfig(depths=[1, 2, 1, 1], hidden_sizes=[8, 16, 24, 32], num_labels=5)
    source = hub.ConvNextForImageClassification(config)
    target = timm.create_model("convnext_tiny", depths=(1, 2, 1, 1), dims=(8, 16, 24, 32), num_classes=5)
    report = load_into(target, saved(source, tmp_path), "timm/from_transformers_convnext")
    assert report.coverage == 1
    assert_same(source, target, 64)


@pytest.mark.parametrize(("kind", "name", "factor"), [("basic", "resnet18", 1), ("bottleneck", "resnet50", 4)])
def test_transformers_resnet(hub, tmp_path, kind, name, factor):
    widths = (8, 16, 24, 32)
    config = hub.ResNetConfig(
        embedding_size=64, hidden_sizes=[factor * width for width in widths], depths=[1, 2, 1, 1], layer_type=kind,
        num_labels=5,
    )  # fmt: skip
    source = hub.ResNetForImageClassification(config)
    target = timm.create_model(name, layers=(1, 2, 1, 1), channels=widths, num_classes=5)
    report = load_into(target, saved(source, tmp_path), "timm/from_transformers_resnet")
    assert report.coverage == 1
    assert_same(source, target, 64)


@pytest.mark.parametrize(("kind", "remap"), [("convnext", transformers.convnext), ("resnet", transformers.resnet)])
def test_the_matcher_finds_the_same_in_transformers_files(hub, tmp_path, kind, remap):
    source, target = {
        "convnext": lambda: (
            hub.ConvNextForImageClassification(hub.ConvNextConfig(depths=[2, 2, 3, 1], hidden_sizes=[8, 16, 24, 32])),
            timm.create_model("convnext_tiny", depths=(2, 2, 3, 1), dims=(8, 16, 24, 32), num_classes=2),
        ),
        "resnet": lambda: (
            hub.ResNetForImageClassification(hub.ResNetConfig(depths=[2, 2, 2, 2], num_labels=2)),
            timm.create_model("resnet50", layers=(2, 2, 2, 2), num_classes=2),
        ),
    }[kind]()
    with open_source(saved(source, tmp_path)) as file:
        result = match(file.entries, target_of(target).entries)
        named = run(parse_rules(remap()), file.entries).values
    assert result.status == "unique"
    assert result.mapping == {name: value.sources for name, value in named.items()}


@pytest.mark.parametrize("remap", [transformers.vit, transformers.deit, transformers.convnext, transformers.resnet])
def test_transformers_remaps_run_backwards(hub, tmp_path, remap):
    builders = {
        transformers.vit: lambda: timm.create_model("vit_tiny_patch16_224", **TIMM_VIT),
        transformers.deit: lambda: timm.create_model("deit_tiny_distilled_patch16_224", **TIMM_VIT),
        transformers.convnext: lambda: timm.create_model("convnext_atto", dims=(8, 16, 24, 32), conv_mlp=False),
        transformers.resnet: lambda: timm.create_model("resnet18"),
    }
    check_inverse(parse_rules(remap()), target_of(builders[remap]()).entries)
