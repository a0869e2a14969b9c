"""Freezing: what is frozen, what survives, what trains again."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from zoo.errors import InputError
from zoo.model.freezing import FrozenPart, freeze, frozen_part, hashes, prove, trainable_parameters, unfreeze


class Block(nn.Module):
    """Batch norm, dropout as a module and as a function, all at rates that show."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return nn.functional.dropout(self.drop(self.norm(self.linear(x))), 0.5, training=self.training)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = Block()
        self.between = nn.Dropout(0.5)
        self.second = Block()
        self.before_head = nn.Dropout(0.5)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.before_head(self.second(self.between(self.first(x)))))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    model = Net()
    for tensor in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
        tensor.data.uniform_(0.5, 1.5)
    return model


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    model.train()
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(torch.randn(6, 8)), torch.tensor([0, 1, 2, 0, 1, 2])).backward()
    optimizer.step()


TRUNK = ["first", "second"]


def test_frozen_is_out_of_the_gradient_the_optimizer_and_training_mode(net):
    part = freeze(net, TRUNK)
    net.train()
    assert set(part.parameters) == {n for n, _ in net.named_parameters() if not n.startswith("head")}
    assert {"first.norm.running_mean", "first.norm.num_batches_tracked"} <= set(part.buffers)
    assert list(trainable_parameters(net)) == ["head.weight", "head.bias"]
    assert not any(m.training for m in (*net.first.modules(), *net.second.modules()))
    assert net.training
    assert net.head.training


def test_dropout_between_frozen_neighbours_is_off_and_in_front_of_the_head_on(net):
    part = freeze(net, TRUNK)
    net.train()
    assert not net.between.training
    assert net.before_head.training
    assert "between" in part.modules
    assert "before_head" not in part.modules


def test_twenty_steps_move_no_frozen_tensor_and_move_the_rest(net):
    part = freeze(net, TRUNK)
    before, head = hashes(net, part), net.head.weight.clone()
    optimizer = torch.optim.AdamW(trainable_parameters(net).values(), lr=0.1, weight_decay=0.5)
    for _ in range(20):
        step(net, optimizer)
    proof = prove(before, hashes(net, part))
    assert proof.holds
    assert proof.tensors == len(part.parameters) + len(part.buffers) == 8 + 6
    assert not torch.equal(head, net.head.weight)


def test_requires_grad_alone_is_caught_by_the_proof(net):
    """What everyone writes by hand lets batch-norm statistics drift; the proof has to see it."""
    part = freeze(copy.deepcopy(net), TRUNK)
    before = hashes(net, part)
    for parameter in (*net.first.parameters(), *net.second.parameters()):
        parameter.requires_grad_(False)
    step(net, torch.optim.SGD(net.parameters(), lr=0.1))
    moved = prove(before, hashes(net, part)).moved
    assert moved == tuple(sorted(part.buffers))


def test_a_gradient_left_over_does_not_move_a_frozen_parameter(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    step(net, optimizer)
    part = freeze(net, TRUNK)
    before = hashes(net, part)
    optimizer.step()  # no backward in between: the old gradients would still be applied
    assert prove(before, hashes(net, part)).holds


def test_every_way_of_asking_for_training_mode_is_answered(net):
    freeze(net, TRUNK)
    for ask in (net.train, net.first.train, net.first.norm.train, net.first.drop.train):
        ask()
        assert not any(m.training for m in net.first.modules())
    assert net.first.train() is net.first
    assert net.first.norm.eval() is net.first.norm


def test_unfreeze_restores_modes_flags_keys_and_objects(net):
    net.second.eval()
    net.head.bias.requires_grad_(False)  # fixed by its owner before zoo came
    keys, objects = list(net.state_dict()), [id(p) for p in net.parameters()]
    modes = {n: m.training for n, m in net.named_modules()}
    freeze(net, [""])
    assert not any(p.requires_grad for p in net.parameters())
    unfreeze(net)
    assert {n: m.training for n, m in net.named_modules()} == modes
    assert [n for n, p in net.named_parameters() if not p.requires_grad] == ["head.bias"]
    assert (list(net.state_dict()), [id(p) for p in net.parameters()]) == (keys, objects)
    assert "train" not in net.first.__dict__


def test_unfreeze_gives_the_mode_last_asked_for(net):
    net.eval()
    freeze(net, TRUNK)
    net.train()
    unfreeze(net)
    assert all(m.training for m in net.modules())


def test_freeze_is_absolute(net):
    freeze(net, ["first"])
    part = freeze(net, ["second"])
    assert all(name.startswith("second") for name in (*part.parameters, *part.modules))
    assert net.first.linear.weight.requires_grad
    assert net.train().first.norm.training
    assert freeze(net, []) == FrozenPart()
    assert all(p.requires_grad for p in net.parameters())


def test_a_copy_and_a_pickle_stand_as_well_and_alone(net):
    freeze(net, TRUNK)
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        twin.train()
        assert not twin.first.norm.training
        unfreeze(twin)
        assert twin.first.norm.training
        assert not net.first.norm.training
        assert not net.first.linear.weight.requires_grad
    trunk = copy.deepcopy(net.first)
    assert not trunk.train().training


def test_wrappers_and_compile_leave_the_hold(net):
    part = freeze(net, TRUNK)
    before = hashes(net, part)
    compiled = torch.compile(net, backend="eager")
    step(compiled, torch.optim.SGD(trainable_parameters(net).values(), lr=0.1))
    nn.DataParallel(net).train()
    assert prove(before, hashes(net, part)).holds
    torch.export.export(net, (torch.randn(2, 8),))


def test_a_head_put_in_after_freezing_all_trains_and_the_rest_stands(net):
    freeze(net, [""])
    net.head = nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 5))
    net.train()
    assert net.training
    assert net.head[0].training
    assert not net.first.norm.training
    part = frozen_part(net)  # what a run calls before training: dropout in front of the new head is on again
    net.train()
    assert net.before_head.training
    assert not net.between.training
    assert not any(name.startswith("head") for name in (*part.parameters, *part.buffers, *part.modules))
    unfreeze(net)
    assert all(m.training for m in net.modules())


def test_a_model_wrapped_since_is_freed_whole(net):
    freeze(net, TRUNK)
    outer = nn.Sequential(net, nn.Linear(3, 2))
    part = freeze(outer, ["0.first"])
    assert all(name.startswith("0.first") for name in part.modules)
    unfreeze(outer)
    assert all(p.requires_grad for p in outer.parameters())
    assert all(m.training for m in outer.modules())


def test_modules_converted_after_freezing_stand_again(net):
    freeze(net, TRUNK)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    part = frozen_part(converted)
    converted.train()
    assert isinstance(converted.first.norm, nn.SyncBatchNorm)
    assert not converted.first.norm.training
    assert "first.norm" in part.modules


def test_batch_norm_frozen_in_part_keeps_training(net):
    part = freeze(net, ["first.norm.weight"])
    net.train()
    assert net.first.norm.training
    assert part == FrozenPart(("first.norm.weight",), (), ())


def test_a_named_buffer_pins_its_layer_while_its_bias_trains(net):
    part = freeze(net, ["first.norm.weight", "first.norm.running_mean"])
    before, bias = hashes(net, part), net.first.norm.bias.clone()
    net.train()
    net.train()
    assert not net.first.norm.training
    step(net, torch.optim.SGD(trainable_parameters(net).values(), lr=0.1))
    assert prove(before, hashes(net, part)).holds
    assert "first.norm.running_var" in part.buffers
    assert not torch.equal(bias, net.first.norm.bias)


def test_a_buffer_of_a_module_whose_insides_train_is_proven_but_not_held(net):
    net.register_buffer("table", torch.arange(3))
    part = freeze(net, ["table"])
    net.train()
    assert net.training
    assert part == FrozenPart((), ("table",), ())


@pytest.mark.parametrize(
    "layer",
    [
        parametrizations.spectral_norm(nn.Linear(8, 8)),
        nn.utils.spectral_norm(nn.Linear(8, 8)),
        parametrizations.weight_norm(nn.Linear(8, 8)),
        nn.InstanceNorm1d(8, affine=True, track_running_stats=True),
        nn.BatchNorm1d(8, track_running_stats=False),
        nn.BatchNorm1d(8, affine=False),
        nn.GroupNorm(2, 8),
        nn.LSTM(8, 8, 2, dropout=0.5),
        nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_with_state_of_their_own_stand(layer):
    torch.manual_seed(0)
    model = nn.ModuleDict({"trunk": nn.Sequential(nn.Linear(8, 8), layer), "head": nn.Linear(8, 2)})
    part = freeze(model, ["trunk"])
    before = hashes(model, part)
    x = torch.randn(6, 8, 8)

    def trunk() -> torch.Tensor:
        output = model["trunk"](x)
        return output[0] if isinstance(output, tuple) else output

    asleep = [trunk() for _ in range(2) if model.eval()][1]
    awake = [trunk() for _ in range(3) if model.train()][2]
    assert torch.equal(asleep, awake)
    assert prove(before, hashes(model, part)).holds


def test_attention_dropout_follows_its_frozen_module():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, dropout=0.5, batch_first=True)
            self.head = nn.Linear(8, 2)

        def forward(self, x):
            return self.attention(x, x, x)[0]

    model = Attention()
    freeze(model, ["attention"])
    model.train()
    x = torch.randn(2, 4, 8)
    assert torch.equal(model(x), model(x))


def test_shared_parameters_freeze_at_every_place_and_are_told_once():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(nn.Linear(4, 4), shared, nn.ReLU(), shared)
    part = freeze(model, ["3.weight"])
    assert part.parameters == ("1.weight",)
    assert not model[1].weight.requires_grad
    assert list(hashes(model, part)) == ["1.weight"]
    assert list(trainable_parameters(model)) == ["0.weight", "0.bias", "1.bias"]


def test_unknown_names_are_all_told_with_the_nearest(net):
    with pytest.raises(InputError) as caught:
        freeze(net, ["frist", "head", "head.wieght"])
    assert "'frist'" in str(caught.value)
    assert "did you mean first" in str(caught.value)
    assert "did you mean head.weight" in str(caught.value)
    assert all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.uint8])
def test_hashes_see_one_element_of_any_dtype(dtype):
    model = nn.Module()
    model.register_buffer("table", torch.zeros(5, 3).to(dtype))
    part = FrozenPart(buffers=("table",))
    before = hashes(model, part)
    assert prove(before, hashes(model, part)).holds
    model.table[4, 2] = 1
    assert prove(before, hashes(model, part)).moved == ("table",)


def test_hashes_follow_values_not_memory_layout():
    model = nn.Conv2d(3, 4, 3)
    part = freeze(model, [""])
    before = hashes(model, part)
    model.to(memory_format=torch.channels_last)
    assert prove(before, hashes(model, part)).holds


def test_a_vanished_tensor_has_moved():
    proof = prove({"a": "1", "b": "2"}, {"a": "1"})
    assert proof.moved == ("b",)
    hashes = {"a": "1", "b": "2"}
    assert proof.as_dict() == {"tensors": 2, "moved": ["b"], "digest": proof.digest, "hashes": hashes}
    assert len(proof.digest) == 64
