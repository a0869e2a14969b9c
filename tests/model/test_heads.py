"""Finding the head and swapping it, over the families of timm and torchvision."""

import pytest
import torch
from torch import nn

from zoo.api import Context, Preprocessing
from zoo.errors import InputError
from zoo.model.build import build
from zoo.model.heads import find_head, find_heads, replace_head
from zoo.model.operations import operate
from zoo.model.shapes import dry_run
from zoo.model.surgeries import add_module, append, replace_module, wrap
from zoo.model.swap_head import swap_head

CLASSES = 7

# One small network of each family and the places of its heads.
FAMILIES = {
    "torchvision/alexnet": ["classifier.6"],
    "torchvision/convnext_tiny": ["classifier.2"],
    "torchvision/densenet121": ["classifier"],
    "torchvision/efficientnet_b0": ["classifier.1"],
    "torchvision/googlenet": ["fc"],
    "torchvision/inception_v3": ["fc"],
    "torchvision/maxvit_t": ["classifier.5"],
    "torchvision/mnasnet0_5": ["classifier.1"],
    "torchvision/mobilenet_v2": ["classifier.1"],
    "torchvision/mobilenet_v3_small": ["classifier.3"],
    "torchvision/regnet_y_400mf": ["fc"],
    "torchvision/resnet18": ["fc"],
    "torchvision/shufflenet_v2_x0_5": ["fc"],
    "torchvision/squeezenet1_1": ["classifier.1"],
    "torchvision/swin_t": ["head"],
    "torchvision/vgg11": ["classifier.6"],
    "torchvision/vit_b_32": ["heads.head"],
    "timm/beit_base_patch16_224": ["head"],
    "timm/cait_xxs24_224": ["head"],
    "timm/caformer_s18": ["head.fc.fc2"],
    "timm/coatnet_0_224": ["head.fc"],
    "timm/convit_tiny": ["head"],
    "timm/convmixer_768_32": ["head"],
    "timm/crossvit_9_240": ["head.0", "head.1"],
    "timm/deit_tiny_distilled_patch16_224": ["head", "head_dist"],
    "timm/dla34": ["fc"],
    "timm/dpn68": ["classifier"],
    "timm/edgenext_xx_small": ["head.fc"],
    "timm/efficientformer_l1": ["head", "head_dist"],
    "timm/fastvit_t8": ["head.fc"],
    "timm/ghostnet_050": ["classifier"],
    "timm/hrnet_w18_small": ["classifier"],
    "timm/inception_v4": ["last_linear"],
    "timm/levit_128s": ["head.linear", "head_dist.linear"],
    "timm/mixer_s32_224": ["head"],
    "timm/mobilenetv3_small_050": ["classifier"],
    "timm/mobilevit_xxs": ["head.fc"],
    "timm/nfnet_l0": ["head.fc"],
    "timm/pit_ti_224": ["head"],
    "timm/repvgg_a0": ["head.fc"],
    "timm/repvit_m0_9": ["head.head.l", "head.head_dist.l"],
    "timm/resmlp_12_224": ["head"],
    "timm/resnetv2_50": ["head.fc"],
    "timm/sequencer2d_s": ["head.fc"],
    "timm/swin_tiny_patch4_window7_224": ["head.fc"],
    "timm/tf_efficientnet_lite0": ["classifier"],
    "timm/tnt_s_legacy_patch16_224": ["head"],
    "timm/tresnet_m": ["head.fc"],
    "timm/twins_pcpvt_small": ["head"],
    "timm/vgg11": ["head.fc"],
    "timm/visformer_tiny": ["head"],
    "timm/vit_small_patch14_dinov2": ["head"],  # an encoder: its place is empty
    "timm/resnet50_clip_gap": ["head.fc"],
    "timm/volo_d1_224": ["head", "aux_head"],
    "timm/xcit_nano_12_p16_224": ["head"],
}


def shapes(model):
    return {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}


def assert_only_the_head_changed(before, after, heads):
    changed = {key for key in {**before, **after} if before.get(key) != after.get(key)}
    outside = [key for key in changed if not any(key.startswith(f"{head}.") for head in heads)]
    assert changed
    assert outside == []


SLOW = (  # deep, so that even a pass without computing takes a second; an LSTM takes ten
    "torchvision/densenet121",
    "timm/caformer_s18",
    "timm/cait_xxs24_224",
    "timm/hrnet_w18_small",
    "timm/inception_v4",
    "timm/sequencer2d_s",
    "timm/tnt_s_legacy_patch16_224",
    "timm/twins_pcpvt_small",
    "timm/volo_d1_224",
    "timm/xcit_nano_12_p16_224",
)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in FAMILIES]
)
def test_swap_head_finds_it_whatever_it_is_called(name):
    assembly = build(name, device="meta")
    before = shapes(assembly.model)
    assert find_heads(assembly.model) == FAMILIES[name]
    operate(assembly, "swap_head", {"num_classes": CLASSES}, Context(preprocessing=assembly.preprocessing))
    assert_only_the_head_changed(before, shapes(assembly.model), FAMILIES[name])
    assert list(assembly.operations[0]["arguments"]["heads"]) == FAMILIES[name]
    assert find_heads(assembly.model) == FAMILIES[name]
    assert dry_run(assembly.model, assembly.preprocessing).output_shape == (2, CLASSES)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("torchvision/squeezenet1_1", 64),
        ("torchvision/mobilenet_v3_small", 64),
        ("timm/vit_tiny_patch16_224", 224),
        ("timm/levit_128s", 224),
        ("timm/deit_tiny_distilled_patch16_224", 224),
        ("timm/dla46_c", 64),
        ("timm/crossvit_9_240", 240),
        ("timm/ghostnet_050", 64),
    ],
)
def test_a_real_batch_comes_out_with_a_column_for_each_class(name, size):
    model = swap_head(build(name).model, num_classes=CLASSES)
    images = torch.randn(2, 3, size, size)
    assert all(module.training for module in model.modules())
    assert model.eval()(images).shape == (2, CLASSES)
    output = model.train()(images)
    assert output.shape == (2, CLASSES)
    output.sum().backward()
    for head in find_heads(model):
        assert model.get_submodule(head).weight.grad is not None


def test_auxiliary_classifiers_get_new_heads_too():
    assembly = build("torchvision/googlenet", {"aux_logits": True})
    swap_head(assembly.model, num_classes=CLASSES)
    assert find_heads(assembly.model) == ["fc", "aux1.fc2", "aux2.fc2"]
    outputs = assembly.model.train()(torch.randn(2, 3, 224, 224))
    assert [output.shape for output in outputs] == [(2, CLASSES)] * 3


def one_of_each_file():
    """The first architecture of each of timm's model files."""
    import timm

    return [f"timm/{names[0]}" for module in timm.list_modules() if (names := timm.list_models(module=module))]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_swap_head_over_every_model_file_of_timm():
    failures = []
    for name in one_of_each_file():
        assembly = build(name, device="meta")
        before = shapes(assembly.model)
        try:
            operate(assembly, "swap_head", {"num_classes": CLASSES}, Context(preprocessing=assembly.preprocessing))
            assert_only_the_head_changed(before, shapes(assembly.model), assembly.operations[0]["arguments"]["heads"])
            assert dry_run(assembly.model, assembly.preprocessing).output_shape == (2, CLASSES)
        except (InputError, AssertionError) as error:
            failures.append(f"{name}: {error}")
    assert failures == []


@pytest.mark.parametrize(
    "name", ["deepseek_vit_412m_enc", "qwen3_vit_88m_enc", "gemma4_vit_167m_enc", "mobilenetv5_300m_enc"]
)
def test_an_encoder_that_gives_tokens_or_maps_has_no_place_for_a_head(name):
    assembly = build(f"timm/{name}", device="meta")
    before = shapes(assembly.model)
    with pytest.raises(InputError, match=r"could be its head|does not give 7 columns"):
        operate(assembly, "swap_head", {"num_classes": CLASSES}, Context(preprocessing=assembly.preprocessing))
    assert shapes(assembly.model) == before
    assert assembly.operations == []


class Backwards(nn.Module):
    """Its classifier is registered first and has a name of its own."""

    def __init__(self):
        super().__init__()
        self.answer = nn.Linear(8, 5)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, x):
        return torch.log_softmax(self.answer(self.body(x)), 1)


def test_the_layer_that_runs_last_is_the_head_not_the_one_registered_last():
    assert find_head(Backwards()) == "answer"
    assert swap_head(Backwards(), num_classes=CLASSES)(torch.randn(2, 3, 9, 9)).shape == (2, CLASSES)


def test_a_network_on_features_needs_no_image():
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, 10), nn.ReLU())
    assert find_head(model) == "3"
    assert swap_head(model, num_classes=CLASSES)(torch.randn(2, 1, 28, 28)).shape == (2, CLASSES)


def test_a_network_on_small_grey_images():
    convolutions = [nn.Conv2d(1, 4, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    model = nn.Sequential(nn.Sequential(*convolutions), nn.Linear(4 * 12 * 12, 10), nn.Softmax(1))
    assert find_head(model) == "1"
    replace_module(model, path="1", module={"Linear": {"out_features": 3}})
    assert model(torch.randn(2, 1, 28, 28)).shape == (2, 3)


def test_a_trunk_has_no_head():
    trunk = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
    with pytest.raises(InputError, match="no linear layer or 1x1 convolution that could be its head"):
        find_head(trunk)
    with pytest.raises(InputError, match="could be its head"):
        swap_head(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()), num_classes=3)


def test_an_output_that_is_not_class_scores_is_refused_and_the_model_left_as_it_was():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Conv2d(3, 8, 16, stride=16)
            self.last = nn.Linear(8, 8)

        def forward(self, x):
            return self.last(self.embed(x).flatten(2).transpose(1, 2))

    model = Tokens()
    last = model.last
    with pytest.raises(InputError, match=r"does not give 7 columns: the output is \[2, 196, 7\]"):
        swap_head(model, num_classes=CLASSES)
    assert model.last is last


def test_dropout_is_kept_set_or_put_in_front():
    mobilenet = build("torchvision/mobilenet_v2", device="meta").model
    assert swap_head(mobilenet, num_classes=CLASSES).classifier[0].p == 0.2
    swap_head(mobilenet, num_classes=CLASSES, dropout=0.4)
    assert [type(layer).__name__ for layer in mobilenet.classifier] == ["Dropout", "Linear"]
    assert mobilenet.classifier[0].p == 0.4
    resnet = swap_head(build("torchvision/resnet18", device="meta").model, num_classes=CLASSES, dropout=0.3)
    assert [type(layer).__name__ for layer in resnet.fc] == ["Dropout", "Linear"]
    assert resnet.fc[0].p == 0.3
    assert find_heads(resnet) == ["fc.1"]


def test_a_head_of_ones_own():
    module = {"Sequential": [{"Linear": {"out_features": 32}}, "GELU", "Linear"]}
    model = swap_head(build("torchvision/resnet18").model, num_classes=CLASSES, module=module)
    assert (model.fc[0].in_features, model.fc[2].in_features, model.fc[2].out_features) == (512, 32, CLASSES)
    assert find_heads(model) == ["fc"]  # whole: its first layer is as new as its last
    assert model(torch.randn(2, 3, 64, 64)).shape == (2, CLASSES)
    with pytest.raises(InputError, match="does not give 7 columns"):
        swap_head(model, num_classes=CLASSES, module={"Linear": {"out_features": 8}})


def test_heads_of_different_width_each_get_what_fits():
    module = {"Sequential": [{"Linear": {"out_features": 16}}, "ReLU", "Linear"]}
    model = swap_head(build("timm/crossvit_9_240", device="meta").model, num_classes=CLASSES, module=module)
    assert [head[0].in_features for head in model.head] == [128, 256]


def test_the_place_can_be_said():
    model = build("torchvision/vgg11", device="meta").model
    swap_head(model, num_classes=CLASSES, path="classifier")
    assert (model.classifier.in_features, model.classifier.out_features) == (25088, CLASSES)
    with pytest.raises(InputError, match="no module at 'clasifier'"):
        swap_head(model, num_classes=CLASSES, path="clasifier")


def test_a_conv_head_stays_a_conv_and_bias_can_be_left_out():
    model = swap_head(build("torchvision/squeezenet1_1", device="meta").model, num_classes=CLASSES, bias=False)
    assert isinstance(model.classifier[1], nn.Conv2d)
    assert model.classifier[1].bias is None


def test_the_model_says_the_new_number_of_classes():
    assert swap_head(build("timm/convnext_atto", device="meta").model, num_classes=CLASSES).num_classes == CLASSES
    encoder = swap_head(build("timm/vit_small_patch14_dinov2", device="meta").model, num_classes=CLASSES)
    assert encoder.num_classes == CLASSES
    assert swap_head(build("torchvision/vit_b_32", device="meta").model, num_classes=3).num_classes == 3


def test_hugging_face_models():
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], num_labels=5)
    model = swap_head(ResNetForImageClassification(config), num_classes=CLASSES)
    assert find_heads(model) == ["classifier.1"]
    assert (model.num_labels, model.config.num_labels) == (CLASSES, CLASSES)
    assert model(torch.randn(2, 3, 32, 32)).logits.shape == (2, CLASSES)


def test_device_dtype_and_mode_follow_the_model():
    model = build("torchvision/resnet18").model.to(torch.bfloat16).eval()
    swap_head(model, num_classes=CLASSES)
    assert model.fc.weight.dtype == torch.bfloat16
    assert not model.fc.training
    assert model.fc.weight.requires_grad
    assert swap_head(build("torchvision/resnet18", device="meta").model, num_classes=CLASSES).fc.weight.is_meta


def test_replace_head_gives_the_factory_the_width():
    model = replace_head(build("timm/levit_128s", device="meta").model, lambda width: nn.Linear(width, 2))
    assert find_heads(model) == ["head.linear", "head_dist.linear"]
    assert model.head.linear.in_features == 384
    encoder = replace_head(
        build("timm/vit_small_patch14_dinov2", device="meta").model, lambda width: nn.Linear(width, 2)
    )
    assert encoder.head.in_features == 384


MLP = {"Sequential": [{"Linear": {"out_features": 16}}, "ReLU", {"Linear": {"out_features": 3}}]}


def vgg():
    return build("torchvision/vgg11", device="meta").model


def test_what_takes_the_heads_place_is_the_head():
    assert find_heads(replace_module(vgg(), path="classifier.6", module=MLP)) == ["classifier.6"]
    model = replace_module(vgg(), path="classifier.3", module=MLP)
    assert find_heads(model) == ["classifier.6"]
    assert find_heads(replace_module(model, path="classifier", module=MLP)) == ["classifier"]
    model = swap_head(vgg(), num_classes=3, module=MLP)
    assert find_heads(replace_module(model, path="classifier.6", module={"Linear": {"out_features": 3}})) == [
        "classifier.6"
    ]


def test_of_several_heads_one_may_be_replaced():
    model = build("timm/deit_tiny_distilled_patch16_224", device="meta").model
    replace_module(model, path="head_dist", module=MLP)
    assert find_heads(model) == ["head", "head_dist"]


def test_what_runs_behind_the_head_is_the_head():
    linear = {"Linear": {"out_features": 3}}
    for name in ("torchvision/vgg11", "timm/vgg11"):
        model = add_module(build(name, device="meta").model, name="last", module=linear)
        assert find_heads(model) == ["last"]
    assert find_heads(append(vgg(), path="classifier", module=linear)) == ["classifier.7"]
    assert find_heads(append(vgg(), path="features", module={"Conv2d": {"out_channels": 512, "kernel_size": 1}})) == [
        "classifier.6"
    ]
    assert find_heads(append(vgg(), path="classifier", module="Softplus")) == ["classifier.6"]
    assert find_heads(add_module(vgg(), name="last", module=linear, wire=False)) == ["classifier.6"]
    both = add_module(swap_head(vgg(), num_classes=5), name="last", module=linear)
    assert find_heads(both) == ["last", "classifier.6"]  # one as new as the other


def test_wrapping_a_head():
    model = wrap(vgg(), path="classifier.6")
    assert find_heads(model) == ["classifier.6.inner"]
    assert find_heads(wrap(swap_head(model, num_classes=3), path="")) == ["inner.classifier.6.inner"]


def test_mistakes_in_numbers():
    with pytest.raises(InputError, match="one output at least"):
        swap_head(Backwards(), num_classes=0)
    assembly = build("torchvision/resnet18", device="meta")
    with pytest.raises(InputError, match="num_classes is auto, but the data does not say"):
        operate(assembly, "swap_head", {"num_classes": "auto"}, Context())
    operate(assembly, "swap_head", {"num_classes": "auto"}, Context(num_classes=4, preprocessing=Preprocessing()))
    assert assembly.model.fc.out_features == 4
