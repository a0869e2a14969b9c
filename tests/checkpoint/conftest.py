"""Builders shared by the tests of rules, plans, loading and converting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from zoo.checkpoint.header import Entry
from zoo.checkpoint.rules import Outcome, Surroundings, parse_rules, run
from zoo.checkpoint.save import save_tensors

Shapes = Mapping[str, tuple[int, ...]]


def make_entries(shapes: Shapes, dtype: str = "F32") -> dict[str, Entry]:
    return {name: Entry(name, dtype, tuple(shape)) for name, shape in shapes.items()}


@pytest.fixture
def entries() -> Callable[..., dict[str, Entry]]:
    """`entries({"fc.weight": (10, 4)})`: a source's or target's entries, float32 unless told."""
    return make_entries


@pytest.fixture
def program() -> Callable[..., Outcome]:
    """`program(yaml_text, {"a": (2, 2)}, target={…})`: what rules make of names and shapes."""

    def run_it(text: str, shapes: Shapes, *, target: Shapes | None = None, **surroundings: Any) -> Outcome:
        known = Surroundings(make_entries(target or {}), **surroundings)
        return run(parse_rules(yaml.safe_load(text)), make_entries(shapes), surroundings=known)

    return run_it


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write({"a": tensor}, name="x.safetensors")`: a safetensors file with these tensors."""

    def write_it(
        tensors: Mapping[str, torch.Tensor], name: str = "source.safetensors", metadata: Mapping[str, str] | None = None
    ) -> Path:
        save_tensors(tensors, tmp_path / name, metadata)
        return tmp_path / name

    return write_it


@pytest.fixture
def randomise() -> Callable[[torch.nn.Module], torch.nn.Module]:
    """Every parameter and buffer random, running statistics and counters too (variances positive)."""

    def randomise_it(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if not tensor.is_floating_point():
                    if name.endswith("num_batches_tracked"):
                        tensor.fill_(int(torch.randint(1, 1000, (), generator=generator)))
                    continue
                values = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(values + 0.5 if name.endswith("var") else (values - 0.5) * 0.2)
        return model

    return randomise_it
