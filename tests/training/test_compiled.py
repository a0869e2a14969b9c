"""A compiled forward pass: how long compiling took, how often, and what is said where it cannot be done."""

from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from zoo.errors import WorkError
from zoo.training.compiled import Compiled


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture
def backend(monkeypatch):
    """Lets torch.compile take another backend: one that needs no C compiler, or fails as one without it does."""

    def take(backend):
        torch._dynamo.reset()
        monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))

    return take


def test_sizes_of_batches_compile_two_graphs(backend):
    """One of the first batch's shapes, and one for any other size: an epoch's last batch, parts of a batch."""
    backend("eager")
    compiled = Compiled(net())
    for size in (16, 16, 12, 16, 8, 4, 2, 15):
        assert compiled(torch.randn(size, 6)).shape == (size, 3)
    assert compiled.graphs == 2
    assert compiled.seconds > 0


def no_compiler(graph, inputs):
    raise RuntimeError("Failed to find C compiler. Please specify via CC environment variable")


def broken(graph, inputs):
    raise ValueError("no kernel for this")


def no_memory(graph, inputs):
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        (no_compiler, r"torch.compile failed: .*C compiler.*\(install one \(apt install g\+\+ python3-dev\)"),
        (broken, r"torch.compile failed: .*\(compile: false trains without it\)"),
    ],
)
def test_what_cannot_be_compiled_is_told(backend, fails, said):
    backend(fails)
    with pytest.raises(WorkError, match=said):
        Compiled(net())(torch.randn(4, 6))


def test_memory_that_runs_out_is_no_matter_of_compiling(backend):
    backend(no_memory)
    with pytest.raises(Exception, match="out of memory") as caught:
        Compiled(net())(torch.randn(4, 6))
    assert not isinstance(caught.value, WorkError)


def test_a_trainer_with_it(make_trainer, backend):
    backend("eager")
    trainer = make_trainer(net(), compile=True)
    trainer.begin(0, {})
    trainer.run()
    assert 2 <= trainer.compiled.graphs <= 4  # training and validation, each for two sizes
    assert not any("_orig_mod" in name for name in trainer.job.model.state_dict())
    assert trainer.state.load().model.keys() == trainer.job.model.state_dict().keys()
