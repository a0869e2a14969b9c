"""Adding, replacing, removing, appending, prepending and wrapping modules, on every kind of parent."""

import copy
import io

import pytest
import torch
from torch import nn

from zoo.api import Context, Preprocessing
from zoo.errors import InputError
from zoo.model.build import build
from zoo.model.freezing import freeze
from zoo.model.shapes import dry_run
from zoo.model.surgeries import (
    adapt_input,
    add_module,
    append,
    prepend,
    remove_module,
    replace_module,
    tie,
    untie,
    wrap,
)
from zoo.model.wiring import wires

TEN = {"Linear": {"out_features": 10}}


class Net(nn.Module):
    """A forward that knows its children by name, blocks in a ModuleList, and a Sequential."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.blocks = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])
        self.tail = nn.Sequential(nn.ReLU(), nn.Linear(8, 5))

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.tail(x)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def x():
    return torch.randn(3, 4)


# add_module: the tutorial's vgg16, three ways


def test_at_the_top_level_a_new_module_runs_behind_the_model():
    model = add_module(build("torchvision/vgg16", device="meta").model, name="add_linear", module=TEN)
    assert model.add_linear.in_features == 1000
    run = dry_run(model, (2, 3, 224, 224))
    assert (run.output_shape, run.uncalled) == ((2, 10), [])


def test_without_a_wire_it_is_dead_as_by_hand():
    model = add_module(build("torchvision/vgg16", device="meta").model, name="add_linear", module=TEN, wire=False)
    run = dry_run(model, (2, 3, 224, 224))
    assert (run.output_shape, run.uncalled) == ((2, 1000), ["add_linear"])
    assert list(model.state_dict())[-1] == "add_linear.bias"


def test_inside_a_sequential_it_runs_once_by_itself():
    model = add_module(
        build("torchvision/vgg16", device="meta").model, path="classifier", name="add_linear", module=TEN
    )
    assert wires(model.classifier) == []
    run = dry_run(model, (2, 3, 224, 224))
    assert (run.output_shape, run.order.count("classifier.add_linear")) == ((2, 10), 1)


def test_a_wired_module_computes_what_it_should(net, x):
    before = net(x)
    add_module(net, name="more", module=TEN)
    add_module(net, name="most", module="Tanh")
    assert wires(net) == ["more", "most"]
    assert torch.equal(net(x), torch.tanh(net.more(before)))
    net(x).sum().backward()
    assert net.more.weight.grad.abs().sum() > 0


def test_deep_inside_it_runs_behind_its_parent(x):
    model = nn.Sequential(Net(), nn.Linear(5, 2))
    before = model[0](x)
    add_module(model, path="0", name="scale", module={"Linear": {"out_features": 5}})
    assert torch.equal(model(x), model[1](model[0].scale(before)))


def test_a_sequential_with_a_forward_of_its_own_is_wired(x):
    class Doubling(nn.Sequential):
        def forward(self, x):
            return 2 * self[0](x)

    model = add_module(Doubling(nn.Linear(4, 4)), name="1", module=TEN)
    assert wires(model) == ["1"]
    assert torch.equal(model(x), model[1](2 * model[0](x)))


def test_a_module_list_is_never_wired(net, x):
    with pytest.raises(InputError, match="'blocks' is a ModuleList, which never runs itself"):
        add_module(net, path="blocks", name="3", module=TEN)
    with pytest.raises(InputError, match="its next module is called 3"):
        add_module(net, path="blocks", name="5", module=TEN, wire=False)
    add_module(net, path="blocks", name="3", module={"Linear": {"in_features": 8, "out_features": 8}}, wire=False)
    assert dry_run(net, (2, 4)).uncalled == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "tail"}, "the model has a module 'tail'"),
        ({"name": "forward"}, "'forward' is an attribute of the model"),
        ({"name": "a.b"}, "cannot be called 'a.b'"),
        ({"name": ""}, "cannot be called ''"),
        ({"name": "new", "path": "tial"}, "no module at 'tial'"),
        ({"name": "1", "path": "tail"}, "'tail' has a module '1'"),
    ],
)
def test_names_that_do_not_do(net, arguments, message):
    with pytest.raises(InputError, match=message):
        add_module(net, module=TEN, **arguments)
    assert list(dict(net.named_children())) == ["stem", "blocks", "tail"]


# replace_module


def test_replacing_what_the_tutorial_replaces():
    model = replace_module(build("torchvision/vgg16", device="meta").model, path="classifier.6", module=TEN)
    assert (model.classifier[6].in_features, model.classifier[6].out_features) == (4096, 10)
    assert dry_run(model, (2, 3, 224, 224)).output_shape == (2, 10)


def test_replacing_deep_inside_and_by_negative_number():
    model = build("torchvision/resnet18").model
    replace_module(model, path="layer4.1.conv2", module={"Conv2d": {"kernel_size": 3, "padding": 1, "bias": False}})
    replace_module(model, path="layer4.-1.bn2", module={"GroupNorm": {"num_groups": 32}})
    assert model.layer4[1].conv2.weight.shape == (512, 512, 3, 3)
    assert model.layer4[1].bn2.num_channels == 512
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 1000)


def test_a_replaced_wired_module_stays_wired(net, x):
    add_module(net, name="more", module=TEN)
    replace_module(net, path="more", module={"Linear": {"out_features": 2}})
    assert net(x).shape == (3, 2)


def test_a_chain_of_replacements_may_fit_only_at_its_end():
    model = build("torchvision/vgg16", device="meta").model
    for path, width in [("classifier.0", 64), ("classifier.3", 32), ("classifier.6", 7)]:
        replace_module(model, path=path, module={"Linear": {"out_features": width}})
    assert [model.classifier[index].in_features for index in (0, 3, 6)] == [25088, 64, 32]
    assert dry_run(model, (2, 3, 224, 224)).output_shape == (2, 7)


def test_the_context_gives_the_input_shape():
    small = Context(preprocessing=Preprocessing(size=(64, 64)))
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 32 * 32, 10))
    replace_module(model, path="2", module=TEN, context=small)
    assert model[2].in_features == 4 * 64 * 64


def test_the_model_itself_cannot_be_replaced(net):
    with pytest.raises(InputError, match="the model itself"):
        replace_module(net, path="", module=TEN)


# remove_module


def test_removing_from_a_sequential_keeps_the_neighbours_names():
    model = build("torchvision/vgg16", device="meta").model
    kept = [key for key in model.state_dict() if not key.startswith("classifier.3.")]
    for path in ("classifier.3", "classifier.4", "classifier.5"):
        remove_module(model, path=path)
    assert list(model.state_dict()) == kept
    assert list(dict(model.classifier.named_children())) == ["0", "1", "2", "6"]
    assert dry_run(model, (2, 3, 224, 224)).output_shape == (2, 1000)


def test_elsewhere_an_identity_takes_the_place(net, x):
    remove_module(net.eval(), path="blocks.1")
    assert isinstance(net.blocks[1], nn.Identity)
    assert not net.blocks[1].training
    assert net(x).shape == (3, 5)
    remove_module(net, path="blocks.2")
    assert len(net.blocks) == 2
    assert net(x).shape == (3, 5)


def test_a_wire_goes_with_its_module(net, x):
    before = net(x)
    add_module(net, name="more", module=TEN)
    remove_module(net, path="more")
    assert wires(net) == []
    assert "more.weight" not in net.state_dict()
    assert torch.equal(net(x), before)


# append, prepend


def test_append_and_prepend_run_at_the_ends(net, x):
    append(net, path="tail", module=TEN)
    append(net, path="tail", module="Tanh", name="last")
    prepend(net, path="tail", module="BatchNorm1d")
    assert list(dict(net.tail.named_children())) == ["first", "0", "1", "2", "last"]
    assert net.tail.first.num_features == 8
    assert net.tail.get_submodule("2").in_features == 5
    net.eval()
    stem = net.blocks[2](net.blocks[1](net.blocks[0](net.stem(x))))
    by_hand = net.tail.get_submodule("0")(net.tail.first(stem))
    by_hand = torch.tanh(net.tail.get_submodule("2")(net.tail.get_submodule("1")(by_hand)))
    assert torch.equal(net(x), by_hand)


def test_append_counts_from_the_highest_number():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    remove_module(model, path="0")
    append(model, module=TEN)
    assert list(model._modules) == ["1", "2", "3"]


def test_appending_to_what_is_no_sequential(net):
    for path, place in [
        ("", "the model is a Net"),
        ("stem", "'stem' is a Linear"),
        ("blocks", "'blocks' is a ModuleList"),
    ]:
        with pytest.raises(InputError, match=f"{place}, not a Sequential"):
            append(net, path=path, module=TEN)


# wrap

WRAPPER = """
    from torch import nn

    class LowRank(nn.Module):
        def __init__(self, inner: nn.Linear, in_features: int, rank: int = 2):
            super().__init__()
            self.inner = inner
            self.down = nn.Linear(in_features, rank, bias=False)
            self.up = nn.Linear(rank, inner.out_features, bias=False)
            nn.init.zeros_(self.up.weight)
        def forward(self, x):
            return self.inner(x) + self.up(self.down(x))
"""


def test_wrap_puts_a_sequential_around(net, x):
    before, stem = net(x), net.stem
    wrap(net, path="stem", name="old")
    assert net.stem.old is stem
    assert torch.equal(net(x), before)
    append(net, path="stem", module="ReLU")
    assert not torch.equal(net(x), before)


def test_wrapping_the_model_itself(net, x):
    outer = wrap(net, path="")
    assert outer.inner is net
    prepend(outer, module="Identity")
    append(outer, module=TEN)
    assert outer(x).shape == (3, 10)


def test_a_plugins_wrapper_is_handed_the_module(plugins, net, x):
    plugins.write("zoo-acme", '[zoo.modules]\nlow_rank = "acme_rank:LowRank"\n'.replace('"', ""), acme_rank=WRAPPER)
    before, stem = net(x), net.stem
    wrap(net, path="stem", module={"acme/low_rank": {"rank": 3}})
    assert net.stem.inner is stem
    assert net.stem.down.weight.shape == (3, 4)
    assert torch.equal(net(x), before)
    with pytest.raises(InputError, match="Linear takes no module"):
        wrap(net, path="tail", module="Linear")


# what holds for all of them


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("training", [True, False])
def test_new_modules_come_as_the_model_is(dtype, device, training):
    model = Net().to(device=device, dtype=dtype).train(training)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    add_module(model, name="more", module=TEN)
    replace_module(model, path="blocks.0", module="Linear")
    append(model, path="tail", module={"Sequential": [TEN, "Dropout"]})
    prepend(model, path="tail", module="BatchNorm1d")
    wrap(model, path="stem")
    assert all(module.training is training for module in model.modules())
    assert {tensor.device.type for tensor in (*model.parameters(), *model.buffers())} == {device}
    assert {tensor.dtype for tensor in model.parameters()} == {dtype}
    trainable = {name.rpartition(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trainable == {"more", "blocks.0", "tail.2.0", "tail.first"}


def test_a_saved_state_loads_into_the_same_surgeries(net, x):
    def operated(model):
        add_module(model, name="more", module=TEN)
        remove_module(model, path="tail.0")
        return append(model, path="tail", module={"Linear": {"out_features": 5}})

    first, second = operated(net), operated(Net())
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(first(x), second(x))


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2))


def train(model, steps=3):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()


def test_a_tied_module_is_one_module(model):
    tie(model, path="4", to="2")
    assert model[4] is model[2]
    assert len(list(model.parameters())) == 6
    assert list(model.state_dict())[4:8] == ["4.weight", "4.bias", "5.weight", "5.bias"]


def test_it_stays_shared_through_training(model):
    twin = copy.deepcopy(model)
    tie(model, path="4", to="2")
    x = torch.randn(5, 4)
    model(x).sum().backward()
    twin[4].load_state_dict(twin[2].state_dict())
    twin(x).sum().backward()
    assert torch.allclose(model[2].weight.grad, twin[2].weight.grad + twin[4].weight.grad, atol=1e-6)
    train(model)
    assert model[4].weight is model[2].weight
    assert torch.equal(model.state_dict()["4.weight"], model.state_dict()["2.weight"])


def test_it_stays_shared_through_copying_moving_and_loading(model):
    tie(model, path="4", to="2")
    assert copy.deepcopy(model)[4] is not model[4]
    twin = copy.deepcopy(model).to(torch.float64)
    assert twin[4].weight is twin[2].weight
    state = {key: torch.randn_like(value) for key, value in model.state_dict().items()}
    state["4.weight"] = state["2.weight"]
    model.load_state_dict(state)
    assert torch.equal(model[4].weight, state["2.weight"])
    assert model[4].weight is model[2].weight


def test_freezing_one_place_freezes_both(model):
    tie(model, path="4", to="2")
    part = freeze(model, ["2"])
    assert not model[4].weight.requires_grad
    assert part.parameters == ("2.weight", "2.bias")
    before = model[4].weight.clone()
    train(model)
    assert torch.equal(model[4].weight, before)


def test_one_parameter_alone(model):
    tie(model, path="4.weight", to="2.weight")
    assert model[4].weight is model[2].weight
    assert model[4].bias is not model[2].bias
    train(model)
    assert model[4].weight is model[2].weight
    assert not torch.equal(model[4].bias, model[2].bias)


def test_untie_gives_a_copy_of_its_own(model):
    tie(model, path="4", to="2")
    untie(model, path="4")
    assert model[4] is not model[2]
    assert torch.equal(model[4].weight, model[2].weight)
    tie(model, path="4.weight", to="2.weight")
    untie(model, path="4.weight")
    train(model)
    assert not torch.equal(model[4].weight, model[2].weight)


@pytest.mark.parametrize(
    ("path", "to", "message"),
    [
        ("4", "0", "they cannot be shared"),
        ("4.weight", "0.weight", r"\[8, 8\] and '0.weight' is \[8, 4\]"),
        ("4", "2.weight", "is a parameter, the other is not"),
        ("4", "4", "inside each other or are the same"),
        ("", "2", "the model itself"),
        ("4", "", "inside each other"),
        ("7", "2", "no module at '7'"),
        ("4.wieght", "2.weight", "neither a module nor a parameter at '4.wieght'"),
    ],
)
def test_what_cannot_be_one(model, path, to, message):
    with pytest.raises(InputError, match=message):
        tie(model, path=path, to=to)
    assert len(list(model.parameters())) == 8


@pytest.mark.parametrize(("channels", "device"), [(1, "cpu"), (4, "cpu"), (6, "cpu"), (6, "meta")])
def test_adapt_input_keeps_what_a_grey_image_gives(channels, device):
    from torchvision.models import squeezenet1_1

    with torch.device(device):
        model = squeezenet1_1(num_classes=4).eval()
    old = model.features[0]
    assert adapt_input(model, channels=channels) is model
    new = model.features[0]
    assert (new.in_channels, tuple(new.weight.shape)) == (channels, (64, channels, 3, 3))
    assert new.bias is old.bias
    assert old.in_channels == 3
    if device == "cpu":
        grey = torch.rand(1, 1, 16, 16)
        expected = old(grey.expand(-1, 3, -1, -1))
        assert torch.allclose(new(grey.expand(-1, channels, -1, -1)), expected, atol=1e-5)


def test_adapt_input_of_what_is_no_convolution():
    with pytest.raises(InputError, match=r"the network has no convolution: no .* to adapt \(name it: path\)"):
        adapt_input(nn.Linear(3, 2), channels=1)
    model = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 2, 3))
    with pytest.raises(InputError, match="'0' is a Conv2d: no convolution of all channels"):
        adapt_input(model, channels=1)
    assert adapt_input(model, path="1", channels=8)[1].in_channels == 8
