"""The paired tests against other people's code, against brute force, and on differences that are known."""

import numpy as np
import pytest
from mlxtend.evaluate import mcnemar as mlxtend_mcnemar
from scipy.optimize import minimize_scalar

from zoo.comparison.paired import (
    Difference,
    accuracy_difference,
    holm,
    mcnemar,
    mean_difference,
    metric_difference,
    score_interval,
)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (10, 3), (9, 20), (30, 30)])
def test_mcnemar_is_mlxtends(gained, lost):
    table = np.array([[50, lost], [gained, 5]])
    expected = mlxtend_mcnemar(table, exact=True)[1] if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(min(expected, 1.0))


def restricted_score(gained, lost, samples, difference):
    """Tango's statistic by brute force: the nuisance probability that is likeliest under the assumed difference."""

    def surprise(only_a):
        only_b = only_a + difference
        both = 1 - only_a - only_b
        cells = ((gained, only_b), (lost, only_a), (samples - gained - lost, both))
        return -sum(count * np.log(max(share, 1e-300)) for count, share in cells if count)

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    only_a = minimize_scalar(surprise, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    variance = samples * (2 * only_a + difference * (1 - difference))
    return (gained - lost - samples * difference) / np.sqrt(variance)


@pytest.mark.parametrize(("gained", "lost", "samples"), [(10, 3, 100), (3, 10, 40), (2, 0, 50), (60, 20, 2000)])
def test_the_interval_ends_where_the_score_test_rejects(gained, lost, samples):
    low, high = score_interval(gained, lost, samples)
    assert low < (gained - lost) / samples < high
    assert restricted_score(gained, lost, samples, low) == pytest.approx(1.96, abs=1e-3)
    assert restricted_score(gained, lost, samples, high) == pytest.approx(-1.96, abs=1e-3)


def test_intervals_of_extreme_tables():
    low, high = score_interval(0, 0, 100)
    assert low == pytest.approx(-high)
    assert 0 < high < 0.05
    assert score_interval(100, 0, 100)[1] == 1.0
    assert score_interval(0, 1, 1)[0] == -1.0
    assert score_interval(20, 0, 100)[0] > 0 > score_interval(0, 20, 100)[1]


def test_accuracy_counts_only_where_the_models_part():
    right_a = np.array([True] * 1800 + [False] * 140 + [True] * 40 + [False] * 20)
    right_b = np.array([True] * 1800 + [False] * 140 + [False] * 40 + [True] * 20)
    found = accuracy_difference(right_a, right_b)
    assert (found.a, found.b, found.value) == (0.92, 0.91, pytest.approx(-0.01))
    assert found.p_value == mcnemar(20, 40)
    assert found.shown
    assert found.low < found.value < found.high < 0
    assert accuracy_difference(right_b, right_a).low == pytest.approx(-found.high)
    assert not accuracy_difference(right_a, right_a).shown


def test_an_interval_never_excludes_what_the_test_allows():
    """12 against 4 is where Tango's interval and the exact test do not agree."""
    assert score_interval(12, 4, 1000)[0] > 0
    samples = np.arange(1000)
    found = accuracy_difference(samples < 4, (samples >= 4) & (samples < 16))
    assert found.p_value == mcnemar(12, 4) > 0.05
    assert not found.shown
    assert found.low == 0.0


def test_means_show_a_shift_and_no_shift():
    rng = np.random.default_rng(1)
    hard = rng.exponential(size=300)
    noise_a, noise_b = rng.normal(0, 0.1, (2, 300))
    none = mean_difference(hard + noise_a, hard + noise_b, resamples=999)
    assert not none.shown
    assert none.low <= 0 <= none.high
    shift = mean_difference(hard + noise_a, hard + noise_b - 0.05, resamples=999)
    assert shift.shown
    assert shift.low < shift.value < shift.high < 0
    assert shift == mean_difference(hard + noise_a, hard + noise_b - 0.05, resamples=999)  # seeded


def test_any_metric_by_exchanging_answers():
    rng = np.random.default_rng(2)
    targets = rng.normal(size=200)
    close, far = targets + rng.normal(0, 0.5, 200), targets + rng.normal(0, 1.0, 200)

    def correlation(outputs, wanted):
        return float(np.corrcoef(outputs, wanted)[0, 1])

    found = metric_difference(correlation, far, close, targets, resamples=199)
    assert (found.a, found.b) == (correlation(far, targets), correlation(close, targets))
    assert found.shown
    assert 0 < found.low < found.value < found.high
    assert metric_difference(correlation, close, close, targets, resamples=99).p_value == 1.0


def test_holm_against_its_paper():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_as_plain_data():
    document = Difference(0.5, 0.75, 0.1, 0.4, 0.01, "exact McNemar").as_dict()
    assert document["difference"] == 0.25
    assert document["interval"] == [0.1, 0.4]
    assert document["shown"] is True
