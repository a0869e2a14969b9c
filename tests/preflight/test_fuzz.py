"""Any chain of steps gives a verdict: mistakes with places, never a traceback. `ZOO_FUZZ_EXAMPLES=500` looks longer."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoo.errors import InputError
from zoo.preflight import check
from zoo.recipe import load_recipe

PATHS = st.sampled_from(["", "conv1", "pool", "fc1", "fc3", "fc3.weight", "extra", "conv1.0", "-1", "nothing", "inner"])
COUNTS = st.sampled_from(["auto", 0, 1, 7, 10, 84, -1])
MODULES = st.sampled_from(
    [
        "ReLU",
        "Linear",
        "Identity",
        "LSTM",
        "MultiheadAttention",
        "Bilinear",
        "CrossEntropyLoss",
        "MyLinearDetached",
        {"Linear": {"out_features": 10}},
        {"Linear": {"in_features": 3, "out_features": "auto"}},
        {"Conv2d": {"out_channels": 6, "kernel_size": 1}},
        {"Sequential": ["Flatten", {"Linear": {"out_features": 10}}]},
        {"Sequential": []},
        {"TransformerEncoderLayer": {"nhead": 2}},
        {"Dropout": 7},
        {"BatchNorm1d": 84},
    ]
)
POLICIES = st.sampled_from(["all", "none", "all_but_head", "batchnorm", "bias_only", "norm_only"])
INITIALIZERS = st.sampled_from(["ones", "eye", "dirac", "xavier_normal"])
LOSSES = st.sampled_from(["auto", "mse", "bce", "NLLLoss", "KLDivLoss"])
METRICS = st.lists(st.sampled_from(["accuracy", "mae", "top5"]), max_size=1)


def step(action: str, **options: object) -> st.SearchStrategy[dict[str, object]]:
    kinds = {key: value if isinstance(value, st.SearchStrategy) else st.just(value) for key, value in options.items()}
    return st.fixed_dictionaries({action: st.fixed_dictionaries(kinds)})


STEPS = st.one_of(
    step("swap_head", num_classes=COUNTS, module=st.none() | MODULES),
    step("replace_module", path=PATHS, module=MODULES),
    step("add_module", name="extra", path=PATHS, module=MODULES, wire=st.booleans()),
    step("append", path=PATHS, module=MODULES),
    step("wrap", path=PATHS, module=st.none() | MODULES),
    step("remove_module", path=PATHS),
    step("tie", path=PATHS, to=PATHS),
    step("freeze", policy="below", module=PATHS),
    step("freeze", policy="pattern", patterns=PATHS),
    step("freeze", policy="first_stages", count=st.integers(-1, 9)),
    step("freeze", policy=POLICIES),
    step("init", match=PATHS, weight=INITIALIZERS),
    step("init", parameter=PATHS, index=st.lists(st.integers(-20, 20), min_size=1, max_size=1), value=1),
    step("train", epochs=1, loss=LOSSES, metrics=METRICS, layer_decay=0.5),
    st.sampled_from([{"probe": {}}, {"evaluate": {}}, {"evaluate": "tutorial/rows"}, {"load": "lite0"}, {"save": {}}]),
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@settings(
    max_examples=int(os.environ.get("ZOO_FUZZ_EXAMPLES", "25")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.sampled_from(["net_a", "fashion_mlp", "my_linear_detached"]), st.lists(STEPS, min_size=1, max_size=4))
def test_any_chain_gives_a_verdict(net: str, steps: list[object]) -> None:
    Path("recipe.yaml").write_text(
        yaml.safe_dump({"model": f"tutorial/{net}", "data": "sklearn/digits", "steps": steps})
    )
    try:
        recipe = load_recipe("recipe.yaml")
    except InputError:
        return
    verdict = check(recipe)
    for problem in (*verdict.errors, *verdict.warnings):
        assert problem.location is not None, problem
    assert verdict.as_dict()["ok"] is not bool(verdict.errors)
