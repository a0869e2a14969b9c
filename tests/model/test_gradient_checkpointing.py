"""Gradient checkpointing: the numbers of an ordinary pass, with less kept for the backward pass."""

from __future__ import annotations

import copy
import functools
from contextlib import contextmanager

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from zoo.errors import InputError
from zoo.model.depths import find_chain
from zoo.model.gradient_checkpointing import checkpointed
from zoo.training.batch_size import kept_for_backward

NETWORKS = {
    "batch norm": ("test_resnet", {"drop_rate": 0.2, "drop_path_rate": 0.2}),
    "dropout": ("test_vit", {"drop_rate": 0.2, "drop_path_rate": 0.3, "img_size": 32}),
}


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    architecture, arguments = NETWORKS[name]
    return timm.create_model(architecture, num_classes=3, **arguments).train()


def step(model: nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    images, targets = torch.randn(6, 3, 32, 32, generator=generator), torch.arange(6) % 3
    torch.manual_seed(2)
    loss = F.cross_entropy(model(images), targets)
    loss.backward()
    return loss.detach()


@pytest.mark.parametrize("name", NETWORKS)
def test_loss_gradients_and_running_statistics_are_the_same_bits(name):
    plain, saving = built(name), built(name)
    expected, drawn = step(plain), torch.rand(1)
    with checkpointed(saving) as called:
        assert torch.equal(step(saving), expected)
    assert torch.equal(torch.rand(1), drawn)  # nothing more was drawn
    assert called == set(find_chain(saving))
    for (path, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), path
    for path, buffer in plain.state_dict().items():  # updated once, `num_batches_tracked` too
        assert torch.equal(buffer, saving.state_dict()[path]), path


@pytest.mark.parametrize(("name", "share"), [("batch norm", 0.8), ("dropout", 0.4)])  # a stem is no block
def test_less_is_kept(name, share):
    model = built(name)
    plain = kept_for_backward(model, lambda: step(model))
    with checkpointed(model):
        saving = kept_for_backward(model, lambda: step(model))
    assert saving < share * plain


def test_a_frozen_block_in_the_middle_is_run_again_as_it_was():
    plain, saving = built("batch norm"), built("batch norm")
    for model in (plain, saving):
        model.layer2.eval().requires_grad_(False)
    expected = step(plain)
    with checkpointed(saving):
        assert torch.equal(step(saving), expected)
    assert torch.equal(saving.layer1[0].conv1.weight.grad, plain.layer1[0].conv1.weight.grad)


def test_blocks_are_as_before_afterwards():
    model = built("batch norm")
    block = model.get_submodule(find_chain(model)[0])
    own = block.forward
    wrapped = functools.partial(own)
    block.forward = wrapped  # as accelerate does
    before = copy.deepcopy(list(model.state_dict()))
    with pytest.raises(KeyboardInterrupt), checkpointed(model):
        raise KeyboardInterrupt
    assert block.forward is wrapped
    assert "forward" not in vars(model.get_submodule(find_chain(model)[1]))
    assert list(model.state_dict()) == before


def test_without_gradients_nothing_is_run_twice():
    model, again = built("batch norm").eval(), []

    @contextmanager
    def recomputing():
        again.append(1)
        yield

    with checkpointed(model, recomputing) as called:
        with torch.no_grad():
            model(torch.randn(2, 3, 32, 32))
        assert (called, again) == (set(), [])
        step(model.train())
    assert len(again) == len(find_chain(model))


def test_a_network_without_blocks_is_told():
    with pytest.raises(InputError, match="no chain of stages"), checkpointed(nn.Linear(2, 2)):
        pass
