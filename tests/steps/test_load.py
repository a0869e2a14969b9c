"""The step `load`: a file beside the recipe, planned by a check, loaded by a run, a row of the summary."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from zoo.model.build import build
from zoo.steps.load import Load

MODEL = "model: tutorial/fashion_mlp\nsteps:\n  - load: "


@pytest.fixture
def weights(tmp_path) -> dict[str, torch.Tensor]:
    """Those of another network of the same architecture, in `other.safetensors`; without the last bias in `short`."""
    torch.manual_seed(7)
    found = {name: value.clone() for name, value in build("tutorial/fashion_mlp").model.state_dict().items()}
    save_file(found, tmp_path / "other.safetensors")
    save_file(dict(list(found.items())[:-1]), tmp_path / "short.safetensors")
    return found


def test_it_loads_and_keeps_how_much(started, weights):
    run = started(MODEL + "{weights: short.safetensors, min_coverage: 0.5}")
    (step,) = run.recipe.steps
    step.run(run)
    (record,) = run.stages
    last = list(weights)[-1]
    coverage = 1 - 10 / sum(value.numel() for value in weights.values())
    assert record.pop("coverage") == pytest.approx(coverage)
    assert record == {"step": 1, "action": "load", "weights": step.weights, "missing": [last], "left": []}
    loaded = run.assembly.model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in weights.items() if name != last)
    assert Load.row(record | {"coverage": 0.875})["metrics"] == "87.5% of the parameters"


def test_a_check_plans_it(mistakes, weights):
    said = mistakes(MODEL + "short.safetensors")
    assert all(line.startswith("recipe.yaml:3:11: ") for line in said)
    assert "linear_relu_stack.4.bias" in "".join(said)


def test_a_file_that_is_not_there(mistakes, weights):
    assert mistakes(MODEL + "othr.safetensors") == [
        "recipe.yaml:3:11: load.weights: there is no file othr.safetensors "
        "(did you mean other.safetensors or short.safetensors?)"
    ]
