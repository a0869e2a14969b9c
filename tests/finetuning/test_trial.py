"""What a trial's few samples stand for, and how the time of a run is shared out."""

from __future__ import annotations

import pytest

from zoo.finetuning.trial import END, Trial, Within


def test_shares_of_a_time():
    within = Within(100, {1: (10.0, 30.0), 3: (0.0, 60.0)}, {2: 5.0, END: 5.0})
    assert within.share(1, 100) == pytest.approx(10 + 80 * 30 / 90)  # 100 but for 5, 5 and 10; a third of the rest
    assert within.share(3, 65) == pytest.approx(60)
    assert within.share(3, 2) == 0  # of a time that is over


def test_more_samples_are_as_many_times_as_long():
    trial = Trial(8)
    trial.full, trial.used = {"train": 400, "validation": 100}, {"train": 40, "validation": 50}
    assert (trial.share("train"), trial.share("validation"), trial.share("test")) == (10, 2, 1)
