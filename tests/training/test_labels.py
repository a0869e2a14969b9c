"""Thresholds of labels: the best one against every cut there is, and what counts as there."""

from __future__ import annotations

import pytest
import torch
from sklearn.metrics import fbeta_score

from zoo.training.labels import best_threshold, class_of, in_order, present


def scores_and_labels(seed: int, samples: int = 60, ties: bool = False):
    generator = torch.Generator().manual_seed(seed)
    there = torch.rand(samples, generator=generator) < 0.3
    scores = (torch.randn(samples, generator=generator) + there).sigmoid()
    return (scores.mul(5).round().div(5) if ties else scores), there


@pytest.mark.parametrize("beta", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("ties", [False, True])
def test_no_cut_has_a_higher_value(beta, ties):
    for seed in range(10):
        scores, there = scores_and_labels(seed, ties=ties)
        chosen = best_threshold(scores, there, beta)
        cuts = torch.cat([scores, torch.zeros(1)])
        called = scores >= cuts[:, None]  # by cut
        right, wrong, missed = (called & there).sum(1), (called & ~there).sum(1), (~called & there).sum(1)
        values = (1 + beta**2) * right / ((1 + beta**2) * right + beta**2 * missed + wrong)
        best = float(values.max())
        assert fbeta_score(there, scores >= cuts[values.argmax()], beta=beta) == pytest.approx(best)
        assert fbeta_score(there, scores >= chosen, beta=beta) == pytest.approx(best)


def test_it_lies_between_scores_and_near_a_half():
    scores, there = torch.tensor([0.1, 0.2, 0.8, 0.9]), torch.tensor([False, False, True, True])
    assert best_threshold(scores, there) == pytest.approx(0.5)
    # 2/3 is reached with the first alone (from 0.8 on), and with the first and the second: the cut nearer a half
    assert best_threshold(torch.tensor([0.9, 0.7, 0.2]), torch.tensor([True, False, True])) == pytest.approx(0.1)
    tied = best_threshold(torch.tensor([0.9, 0.6, 0.5, 0.1]), torch.tensor([True, False, False, True]))
    assert tied == pytest.approx(0.75) or tied == pytest.approx(0.05)


def test_a_label_that_is_everywhere_or_nowhere():
    assert best_threshold(torch.tensor([0.2, 0.4]), torch.tensor([True, True])) == pytest.approx(0.1)
    assert best_threshold(torch.tensor([0.0, 0.4]), torch.tensor([True, True])) == 0.0
    assert best_threshold(torch.tensor([0.2, 0.4]), torch.tensor([False, False])) is None


def test_neighbouring_scores_are_parted():
    low = torch.tensor(0.3)
    high = torch.nextafter(low, torch.tensor(1.0))
    threshold = best_threshold(torch.stack([high, low]), torch.tensor([True, False]))
    assert present(torch.stack([high, low])[None], (threshold, threshold)).tolist() == [[True, False]]


def test_a_label_is_there_from_its_threshold_on():
    scores = torch.tensor([[0.5, 0.3, 0.2]])
    assert present(scores).tolist() == [[True, False, False]]
    assert present(scores, in_order({"b": 0.3}, ("a", "b", "c"))).tolist() == [[True, True, False]]


def test_the_class_of_a_soft_target_is_the_likeliest():
    assert class_of(torch.tensor([[0.2, 0.8], [0.9, 0.1]])).tolist() == [1, 0]
    assert class_of(torch.tensor([1, 0])).tolist() == [1, 0]
