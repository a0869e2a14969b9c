"""What is counted when a file's answers are held against the network's."""

import numpy as np
import pytest
import torch
from torch import nn

from zoo.contracts import Preprocessing
from zoo.errors import WorkError
from zoo.exporting.agreement import compare
from zoo.exporting.images import Input, Source
from zoo.exporting.program import Network

ROWS = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.5, 0.0, 4.0]])


def found(change, task="classification", probabilities=None, thresholds=()):
    source = Source("3 rows", [Input(row, row) for row in ROWS], [], True, (3,))
    network = Network(nn.Identity(), None, probabilities)
    run, names = lambda values: change(values.copy()), ("a", "b", "c")
    return compare(network, run, source, task, names, Preprocessing(), thresholds)


def changed(values):
    if values.shape[0] == 3:
        values[0] = [0.0, 2.5, 0.0]
    return values


def test_equal_answers():
    same = found(lambda values: values)
    assert (same.images, same.difference, same.changed, same.largest) == (3, 0.0, 0, 4.0)
    assert same.by_class == {name: {"images": 1, "changed": 0} for name in "abc"}


def test_a_changed_label_is_counted_for_its_class():
    other = found(changed)
    assert (other.changed, other.share, other.difference, other.relative) == (1, 1 / 3, 2.0, 0.5)
    assert other.by_class["a"] == {"images": 1, "changed": 1}


def test_labels_of_a_multilabel_network_change_one_by_one():
    def lower(values):
        return np.where(values == 0.5, np.float32(-0.25), values)

    other = found(lower, "multilabel")
    assert other.changed == 1
    assert other.by_class["a"] == {"images": 3, "changed": 1}  # a score of 0 is a probability of 0.5
    assert other.by_class["c"] == {"images": 3, "changed": 0}
    assert found(lower, "multilabel", thresholds=(0.8, 0.5, 0.5)).changed == 0  # 0.5 was not there before


def test_values_have_no_labels():
    assert (found(changed, "regression").changed, found(changed, "regression").relative) == (0, 0.5)


@pytest.mark.parametrize(("expected", "given"), [(np.inf, -np.inf), (np.inf, np.nan), (np.nan, np.inf)])
def test_infinities_and_none_are_told_apart(expected, given):
    rows = ROWS.clone()
    rows[1, 2] = expected
    source = Source("3 rows", [Input(row, row) for row in rows], [], True, (3,))
    network, names = Network(nn.Identity(), None, None), ("a", "b", "c")
    either = [
        compare(network, lambda values, to=to: np.where(np.isfinite(values), values, np.float32(to)), source,
                "classification", names, Preprocessing())
        for to in (expected, given)
    ]  # fmt: skip
    assert [bool(one.unlike) for one in either] == [False, True]
    assert [one.undefined for one in either] == [np.isnan(expected)] * 2


def test_numbers_that_are_none_are_another_network():
    assert found(lambda values: values * np.float32("nan")).unlike


def test_a_file_for_one_batch_size_is_refused():
    with pytest.raises(WorkError, match=r"gives \[3, 3\] where the network gives \[2, 3\]"):
        found(lambda values: np.zeros((3, 3), "float32"))
