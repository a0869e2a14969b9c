"""Weighted averages of states."""

import torch

from zoo.model.averaging import average


def test_ends_are_bit_for_bit_and_integers_those_of_the_nearer_end():
    torch.manual_seed(0)
    one, other = ({"w": torch.randn(9), "n": torch.tensor(count)} for count in (3, 7))
    assert torch.equal(average([one, other], (1, 0), one)["w"], one["w"])
    assert torch.equal(average([one, other], (0, 1), one)["w"], other["w"])
    between = average([one, other], (0.7, 0.3), one)
    assert torch.allclose(between["w"], 0.7 * one["w"] + 0.3 * other["w"], atol=1e-7)
    assert between["n"] == 3
    assert average([one, other], (0.3, 0.7), one)["n"] == 7


def test_rows_that_a_member_lacks_come_from_the_others():
    nan = torch.nan
    states = [{"w": torch.tensor([1.0, nan, 3.0])}, {"w": torch.tensor([3.0, 5.0, nan])}]
    assert average(states, [0.5, 0.5], states[0])["w"].tolist() == [2.0, 5.0, 3.0]
    assert average(states, [1.0, 0.0], states[0])["w"].tolist() == [1.0, 5.0, 3.0]
