"""Shapes without computing; dead modules; a model that is as it was afterwards."""

import time

import pytest
import torch
from torch import nn

from zoo.api import Preprocessing
from zoo.errors import InputError
from zoo.model.build import build
from zoo.model.shapes import UndecidedError, attempt, dry_run


class FixedHidden(nn.Module):
    """The tutorial's net: a constant that is no buffer, one layer used twice, and a loop that looks at values."""

    def __init__(self, loop=True):
        super().__init__()
        self.rand_weight = torch.rand(20, 20)
        self.linear = nn.Linear(20, 20)
        self.norm = nn.BatchNorm1d(20)
        self.loop = loop

    def forward(self, x):
        x = torch.relu(self.norm(self.linear(x)) @ self.rand_weight + 1)
        x = self.linear(x)
        while self.loop and x.abs().sum() > 1:
            x = x / 2
        return x.sum(1)


class Auxiliary(nn.Module):
    """Two outputs in training mode, one otherwise."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.auxiliary = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 3)
        self.dead = nn.Sequential(nn.Linear(8, 3), nn.ReLU())
        self.spare = nn.Dropout()

    def forward(self, x):
        x = self.body(x)
        return (self.head(x), self.auxiliary(x)) if self.training else self.head(x)


def everything(model):
    return {
        "tensors": {key: (value, value.clone()) for key, value in model.state_dict(keep_vars=True).items()},
        "modes": [module.training for module in model.modules()],
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        "random": torch.get_rng_state(),
    }


def assert_untouched(model, before):
    after = everything(model)
    for key, (tensor, values) in before["tensors"].items():
        assert after["tensors"][key][0] is tensor
        assert torch.equal(tensor, values)
        assert not tensor.is_meta
    assert after["modes"] == before["modes"]
    assert after["hooks"] == before["hooks"]
    assert torch.equal(after["random"], before["random"])


def test_shapes_of_a_real_network():
    assembly = build("torchvision/resnet50", device="meta")
    start = time.process_time()
    run = dry_run(assembly.model, assembly.preprocessing)
    assert time.process_time() - start < 2
    assert run.input_shape == (2, 3, 224, 224)
    assert run.output_shape == (2, 1000)
    assert run.shapes["layer4.1.conv2"] == ((2, 512, 7, 7), (2, 512, 7, 7))
    assert run.shapes["fc"] == ((2, 2048), (2, 1000))
    assert (run.uncalled, run.training_only, run.way) == ([], [], "meta")
    assert run.order[:3] == ["", "conv1", "bn1"]
    assert run.order[-1] == "fc"


def test_a_module_that_forward_does_not_know_is_dead():
    model = build("torchvision/vgg16", device="meta").model
    model.add_module("add_linear", nn.Linear(1000, 10))
    run = dry_run(model, (2, 3, 224, 224))
    assert run.uncalled == ["add_linear"]
    assert run.output_shape == (2, 1000)


def test_the_top_most_dead_module_is_named_and_what_only_training_runs_stands_apart():
    model = Auxiliary()
    run = dry_run(model, (2, 4))
    assert run.uncalled == ["dead"]
    assert run.training_only == ["auxiliary"]
    assert run.outputs == {"0": (2, 3)}


@pytest.mark.parametrize(
    "name", ["timm/beit_base_patch16_224", "torchvision/vit_b_16", "timm/swin_tiny_patch4_window7_224"]
)
def test_weights_read_without_a_call_are_not_dead(name):
    """Attention takes the weights of children it never calls (`qkv`, `out_proj`)."""
    assembly = build(name, device="meta")
    assert dry_run(assembly.model, assembly.preprocessing).uncalled == []


@pytest.mark.parametrize("way", ["meta", "real"])
@pytest.mark.parametrize("training", [True, False])
def test_the_model_is_not_altered(way, training):
    torch.manual_seed(1)
    model = nn.Sequential(FixedHidden(loop=way == "real"), nn.Flatten(0), nn.Dropout())
    model.dead = nn.Sequential(nn.BatchNorm1d(20))  # so that a pass in training mode runs, too
    model.forward = lambda x: model[2](model[1](model[0](x)))
    model.train(training)
    before = everything(model)
    assert dry_run(model, (2, 20)).way == way
    assert_untouched(model, before)
    with pytest.raises(InputError):
        dry_run(model, (2, 21))
    assert_untouched(model, before)


def test_fake_tensors_where_meta_does_not_do():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            assert x.device.type == "cpu"
            return self.linear(x)

    model = Counts()
    before = everything(model)
    run = dry_run(model, (2, 4))
    assert (run.way, run.output_shape) == ("fake", (2, 4))
    assert_untouched(model, before)
    on_meta = dry_run(Counts().to("meta"), (2, 4))
    assert (on_meta.way, on_meta.output_shape) == ("fake", (2, 4))


def test_a_forward_that_looks_at_values_needs_values():
    assert dry_run(FixedHidden(), (2, 20)).output_shape == (2,)
    with pytest.raises(UndecidedError, match="looks at values"):
        dry_run(FixedHidden().to("meta"), (2, 20))


def test_the_module_that_fails_is_named():
    model = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
    with pytest.raises(InputError, match=r"\[2, 4\] does not go through the model: in 1\.1 \(Linear\): RuntimeError"):
        dry_run(model, (2, 4))
    stopped = attempt(model, (2, 4))
    assert stopped.trace.inputs["1.1"] == (2, 8)
    assert "1.1" not in stopped.trace.shapes


def test_named_outputs_and_those_without_a_tensor():
    class Two(nn.Module):
        def __init__(self, output):
            super().__init__()
            self.linear, self.output = nn.Linear(4, 3), output

        def forward(self, x):
            return self.output(self.linear(x))

    run = dry_run(Two(lambda x: {"loss": x.mean(), "logits": x}), (2, 4))
    assert run.output_shape == (2, 3)
    assert run.outputs == {"loss": (), "logits": (2, 3)}
    assert dry_run(Two(lambda x: (x, [x[:1]])), (2, 4)).outputs == {"0": (2, 3), "1": (1, 3)}
    with pytest.raises(InputError, match="there is no prediction"):
        _ = dry_run(Two(lambda x: None), (2, 4)).output_shape
    with pytest.raises(InputError, match=r"2 outputs \(a, b\), and none is called logits or out"):
        _ = dry_run(Two(lambda x: {"a": x, "b": x}), (2, 4)).output_shape


def test_half_precision_and_shared_modules():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared).to(torch.bfloat16)
    before = everything(model)
    run = dry_run(model, (2, 4))
    assert run.order == ["", "0", "1", "0"]
    assert_untouched(model, before)
    assert model[0] is model[2]


def test_preprocessing_gives_the_input():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 26 * 26, 2))
    assert dry_run(model, Preprocessing(size=(28, 28), channels=1)).input_shape == (2, 1, 28, 28)


def test_batch_norm_that_does_not_fit_is_told_as_torch_tells_it():
    fits = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    assert dry_run(fits, (2, 3, 8, 8)).shapes["1"] == ((2, 4, 6, 6), (2, 4, 6, 6))
    with pytest.raises(InputError, match=r"in 1 \(BatchNorm2d\): RuntimeError: running_mean should contain 4 elements"):
        dry_run(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(5)), (2, 3, 8, 8))
