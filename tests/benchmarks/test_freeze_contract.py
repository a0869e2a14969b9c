"""The freeze contract over architectures of many families; the cases and checks are the benchmark's own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
FAST = ("timm/resnet18", "timm/vit_tiny_patch16_224", "timm/levit_128s", "torchvision/squeezenet1_1")


def load_benchmark():
    spec = importlib.util.spec_from_file_location("freeze_contract", ROOT / "benchmarks" / "freeze_contract.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["freeze_contract"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


contract = load_benchmark()
BY_NAME = {case.name: case for case in contract.CASES}
SLOW = [pytest.param(case, marks=pytest.mark.slow) for case in contract.CASES if case.name not in FAST]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("case", [*(BY_NAME[name] for name in FAST), *SLOW], ids=lambda case: case.name)
def test_the_contract_holds(case):
    for policy, optimizer in contract.RUNS:
        row = contract.run(case, policy, optimizer)
        assert row.broken == ()
        assert row.parameters > 0
        assert row.modules > 0


@pytest.mark.parametrize("name", ["timm/resnet18", "timm/vit_tiny_patch16_224"])
def test_requires_grad_alone_breaks_it(name):
    """The checks above can fail: the same networks, frozen the way everyone writes it, break the contract."""
    broken = contract.by_hand(BY_NAME[name], contract.all_but_head).broken
    assert any(line.endswith("output differs") for line in broken)
    assert any(line.endswith("running_mean moved") for line in broken) == (name == "timm/resnet18")


def test_there_are_many_families_and_the_page_shows_them():
    assert len(BY_NAME) >= 40
    page = (ROOT / "docs" / "freezing.md").read_text()
    assert [name for name in BY_NAME if f"| {name} |" not in page] == []
    assert contract.HEADER in page
