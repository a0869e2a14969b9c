"""Names of torch's and other libraries' classes; the tables agree with those of the engine."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from zoo.errors import InputError
from zoo.recipe.catalogue import FILLED, LOSSES, METRICS, SCHEDULERS, SUPPLIED, find, names


@pytest.mark.parametrize("kind", sorted(SUPPLIED))
def test_every_name_stands_for_something_or_says_why_not(kind: str) -> None:
    refused: list[str] = []
    for name in names(kind):
        try:
            found = find(kind, name)
        except InputError as error:
            refused.append(str(error))
        else:
            assert found is None or callable(found)
    assert all("cannot be used here" in said for said in refused)


def test_torch_goes_before_timm() -> None:
    assert find("optimizers", "AdamW") is torch.optim.AdamW
    assert find("optimizers", "lamb").__name__ == "Lamb"
    assert "LBFGS" not in names("optimizers")


def test_short_names() -> None:
    for table, kind in ((SCHEDULERS, "schedulers"), (LOSSES, "losses")):
        for short, full in table.items():
            assert find(kind, short) is find(kind, full)
    assert find("losses", "auto") is None
    assert find("losses", "cross_entropy") is nn.CrossEntropyLoss


def test_losses_take_one_output_and_one_target() -> None:
    assert {"L1Loss", "BCEWithLogitsLoss", "HuberLoss"} <= set(names("losses"))
    assert not {"TripletMarginLoss", "CTCLoss", "GaussianNLLLoss"} & set(names("losses"))


def test_what_torch_has_deprecated_is_not_offered() -> None:
    assert "NLLLoss2d" in vars(nn)
    assert "NLLLoss2d" not in [*names("losses"), *names("modules"), *names("metrics")]


def test_an_optimizer_whose_library_is_missing_says_so() -> None:
    with pytest.raises(InputError, match="bnbadam cannot be used here"):
        find("optimizers", "bnbadam")


@pytest.mark.parametrize(
    ("kind", "name", "hint"),
    [
        ("optimizers", "SGDD", "did you mean SGD, sgdw or sgdp?"),
        ("modules", "torch.nn.ReLU", "write ReLU"),
        ("modules", "os.system", "recipes name what is installed, they import nothing"),
        ("schedulers", "cosin", "did you mean cosine?"),
        ("initializers", "zzzz", "for instance uniform, normal, trunc_normal, constant"),
    ],
)
def test_unknown_names_get_the_nearest(kind: str, name: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        find(kind, name)
    assert caught.value.problems[0].suggestion == hint


def test_only_modules_that_run_by_themselves_have_names() -> None:
    own = {name: find("modules", name) for name in names("modules") if getattr(nn, name, None) is not None}
    assert {"Linear", "Conv2d", "Sequential", "BatchNorm2d", "CrossEntropyLoss"} <= set(own)
    assert all(issubclass(kind, nn.Module) for kind in own.values())
    assert not [name for name in own if name.startswith("Lazy")]
    assert not {"Module", "ModuleList", "ModuleDict", "ParameterList", "DataParallel"} & set(own)


def test_an_initializer_goes_by_two_names() -> None:
    assert find("initializers", "zeros") is find("initializers", "zeros_") is nn.init.zeros_


def test_metrics_are_those_the_engine_knows() -> None:
    from zoo.training.metrics import CLASS_METRICS, VALUE_METRICS

    assert set(METRICS) == {*CLASS_METRICS, *VALUE_METRICS}
    assert {"accuracy", "HuberLoss", "F1Score"} <= set(names("metrics"))
    assert "cross_entropy" in names("metrics"), "a loss is a metric under its short name, too"
    assert "auto" not in names("metrics"), "a word for losses"


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "exponential"])
def test_the_engine_fills_in_what_a_recipe_may_leave_out(name: str) -> None:
    from zoo.steps.train import Train
    from zoo.training.schedulers import Schedule

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    Schedule(optimizer, Train(epochs=3, scheduler=name), steps=9, epochs=3, higher_is_better=True)
    assert set(FILLED) <= {*names("schedulers"), *names("transforms")}


def test_nothing_is_imported_before_it_is_looked_up() -> None:
    code = (
        "import sys; import zoo.recipe; from zoo.recipe.catalogue import find; "
        "assert not {'torch', 'timm', 'torchmetrics'} & set(sys.modules); "
        "find('optimizers', 'SGD'); assert not {'timm', 'torchmetrics'} & set(sys.modules); "
        "find('metrics', 'accuracy'); assert 'torchmetrics' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
