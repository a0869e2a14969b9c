"""One forward and backward pass: what ran, what got a gradient, and the model as it was."""

import pytest
import torch
from torch import nn

from zoo.errors import InputError
from zoo.lint import fails_on_one_sample
from zoo.lint.rehearsal import rehearse
from zoo.model.freezing import freeze


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Linear(3, 2)
        self.cut = nn.Linear(3, 2)
        self.idle = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, x):
        return self.norm(self.used(x) + self.cut(x).detach())


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_what_runs_and_what_gets_a_gradient(device):
    model = Net().to(device)
    model.norm.weight.requires_grad_(False)
    seen = rehearse(model, (4, 3))
    assert seen.reached == {
        "used.weight": True, "used.bias": True, "cut.weight": False, "cut.bias": False,
        "idle.weight": False, "idle.bias": False, "norm.bias": True,
    }  # fmt: skip
    assert not any(seen.beside.values())
    assert seen.called == {"", "used", "cut", "norm"}
    assert [path for path, _ in seen.outputs] == ["used", "cut", "norm", ""]
    assert seen.output.shape == (4, 2)


def test_the_model_is_as_it_was():
    model = Net().eval()
    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    rehearse(model, (4, 3))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training or module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_forward_that_looks_at_values_runs_on_real_numbers():
    class Branch(nn.Linear):
        def forward(self, x):
            return super().forward(x) * (2.0 if x.sum() > 0 else 1.0)

    assert rehearse(Branch(3, 2), (4, 3)).reached == {"weight": True, "bias": True}
    assert rehearse(Branch(3, 2, device="meta"), (4, 3)) is None


def test_an_input_that_does_not_fit_gives_nothing():
    assert rehearse(nn.Linear(3, 2), (4, 5)) is None


def test_an_output_without_a_prediction_is_an_error():
    class Two(nn.Linear):
        def forward(self, x):
            return {"one": super().forward(x), "other": super().forward(x)}

    with pytest.raises(InputError):
        rehearse(Two(3, 2), (4, 3))


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def test_what_follows_global_pooling_needs_two_samples():
    pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
    assert fails_on_one_sample(pooled, (2, 3, 8, 8))
    assert not fails_on_one_sample(network(), (2, 3, 8, 8))  # many values a channel
    assert not fails_on_one_sample(nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), (2, 3, 2, 2))
    freeze(pooled, ["1", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"])
    assert not fails_on_one_sample(pooled, (2, 3, 8, 8))


def test_the_model_stays_as_it_is():
    model = network().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    assert not fails_on_one_sample(model, (2, 3, 8, 8))
    assert not model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not fails_on_one_sample(model, (2, 5, 8, 8))  # another mistake, which others report
