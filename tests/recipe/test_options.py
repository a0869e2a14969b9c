"""What all options have in common, and the types that they are made of."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from zoo.recipe.options import (
    NAMES,
    DataOptions,
    Fraction,
    LossName,
    ModelOptions,
    ModuleName,
    Named,
    OptimizerName,
    Positive,
)


def fits(kind, value) -> bool:
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("value", ["AdamW", {"AdamW": {}}, {"AdamW": {"betas": [0.9, 0.95]}}])
def test_a_name_or_one_name_with_its_arguments(value):
    assert fits(Named, value)
    assert fits(OptimizerName, value)


@pytest.mark.parametrize("value", [3, {}, {"AdamW": 3}, {"AdamW": {}, "SGD": {}}, ["AdamW"]])
def test_what_names_nothing(value):
    assert not fits(Named, value)


def test_a_module_s_arguments_may_be_one_value_or_a_list():
    assert fits(ModuleName, {"Dropout": 0.5})
    assert fits(ModuleName, {"Sequential": ["ReLU", {"Linear": {"out_features": 3}}]})
    assert not fits(ModuleName, {"Dropout": 0.5, "ReLU": {}})


def test_the_schema_says_what_is_named():
    assert TypeAdapter(OptimizerName).json_schema()[NAMES] == "optimizers"
    assert TypeAdapter(LossName).json_schema()[NAMES] == "losses"


def test_numbers_have_bounds():
    assert fits(Fraction, 0.0)
    assert fits(Fraction, 1.0)
    assert not fits(Fraction, 1.01)
    assert not fits(Positive, 0)


def test_an_unknown_key_and_a_number_that_is_none_are_mistakes():
    with pytest.raises(ValidationError, match="weihgts"):
        ModelOptions(architecture="a", weihgts="b")
    with pytest.raises(ValidationError, match="finite"):
        ModelOptions(architecture="a", min_coverage=float("nan"))


def test_options_do_not_change_after_validation():
    options = DataOptions(source="sklearn/digits")
    with pytest.raises(ValidationError, match="frozen"):
        options.batch_size = 3
    assert options.model_copy(update={"batch_size": 3}).batch_size == 3


def test_every_option_is_documented():
    for model in (ModelOptions, DataOptions):
        assert all(field.description for field in model.model_fields.values())
