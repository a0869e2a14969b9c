"""The moving average: its values, its warm-up, and the swap with the model's own tensors."""

import pytest
import torch

from zoo.training.ema import MovingAverage


def test_the_average_follows_by_the_decay():
    live = {"weight": torch.tensor([0.0]), "count": torch.tensor(0)}
    average = MovingAverage(live, decay=0.05)  # below the warm-up's first decay, 1/10
    expected = 0.0
    for step in (1.0, 2.0, 3.0):
        live["weight"].fill_(step)
        live["count"].fill_(int(step))
        average.update()
        expected = 0.05 * expected + 0.95 * step
        assert average.average["weight"].item() == pytest.approx(expected, rel=1e-6)
        assert average.average["count"].item() == step  # a counter is copied
    assert average.updates == 3


def test_the_decay_grows_to_its_value():
    live = {"weight": torch.ones(1)}
    average = MovingAverage(live, decay=0.5)
    decays = []
    for _ in range(12):
        average.average["weight"].zero_()
        average.update()
        decays.append(1 - average.average["weight"].item())
    assert decays == pytest.approx([min(0.5, (1 + n) / (10 + n)) for n in range(12)], rel=1e-5)


def test_the_model_has_the_averages_inside_the_block_only():
    weight = torch.tensor([4.0])
    average = MovingAverage({"weight": weight}, decay=0.9)
    average.average["weight"].fill_(1.0)
    with average.applied():
        assert weight.item() == 1.0
    assert (weight.item(), average.average["weight"].item()) == (4.0, 1.0)
    with pytest.raises(ZeroDivisionError), average.applied():
        raise ZeroDivisionError
    assert (weight.item(), average.average["weight"].item()) == (4.0, 1.0)
