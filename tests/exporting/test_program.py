"""Networks as programs, and the reasons of those that cannot be."""

import errno
import logging
import tempfile
import warnings

import pytest
import torch
from torch import nn

from zoo.contracts import Preprocessing
from zoo.errors import InputError, WorkError
from zoo.exporting.program import explained, make_program, network_of, quiet
from zoo.model.assembly import Assembly


class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, rows):
        return {"logits": self.layer(rows), "hidden": rows}


class Looks(Wrapped):
    def forward(self, rows):
        return self.layer(rows) if rows.sum() > 0 else self.layer(-rows)


def assembly(model, task="classification"):
    return Assembly(model, "tests/network", preprocessing=Preprocessing(size=(4, 4)), task=task)


def test_the_prediction_for_any_batch():
    network = network_of(assembly(Wrapped()), preprocess=False, softmax=False)
    program = make_program(network, (4,), "tests/network").module()
    for size in (1, 5):
        rows = torch.randn(size, 4)
        assert torch.equal(program(rows), network.model(rows)["logits"])


@pytest.mark.parametrize(("task", "expected"), [("classification", "softmax"), ("multilabel", "sigmoid")])
def test_probabilities(task, expected):
    network = network_of(assembly(Wrapped(), task), preprocess=False, softmax=True)
    rows = torch.randn(2, 4)
    logits = network.model(rows)["logits"]
    assert network.probabilities == expected
    assert torch.equal(network(rows), logits.softmax(-1) if task == "classification" else logits.sigmoid())


def test_a_regression_has_no_probabilities():
    with pytest.raises(InputError, match="values, not probabilities"):
        network_of(assembly(Wrapped(), "regression"), preprocess=False, softmax=True)


def test_what_looks_at_values_is_refused_with_the_reason(capfd):
    network = network_of(assembly(Looks()), preprocess=False, softmax=False)
    with pytest.raises(WorkError, match=r"tests/network cannot be exported: torch.export fails with .*data-dependent"):
        make_program(network, (4,), "tests/network")
    assert capfd.readouterr() == ("", "")


def test_memory_that_ran_out_is_not_the_networks_fault():
    with pytest.raises(MemoryError), explained("x", "torch.export"):
        raise MemoryError


def test_quiet_puts_logging_back():
    with quiet():
        warnings.warn("for developers", stacklevel=1)
        print("unheard")
    assert logging.root.manager.disable == 0


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (errno.ENOSPC, r"torch.onnx cannot write into /somewhere: broken \(make room, .*TMPDIR"),
        (errno.EIO, r"net cannot be exported: torch.onnx fails with OSError: \[Errno 5\] broken"),
    ],
)
def test_a_full_disk_is_no_fault_of_the_network(monkeypatch, code, said):
    monkeypatch.setattr(tempfile, "tempdir", "/somewhere")
    with pytest.raises(WorkError, match=said), explained("net", "torch.onnx"):
        raise OSError(code, "broken")
