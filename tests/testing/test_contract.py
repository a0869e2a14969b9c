"""What every contract checks: that a component is listed, documented and annotated."""

import pytest

from zoo.testing import SurgeryContract
from zoo.testing.contract import Contract

BROKEN = {
    "undocumented": (SurgeryContract, "surgeries", "def x(model): return model", "test_it_is_documented"),
    "unannotated": (
        SurgeryContract,
        "surgeries",
        "def x(model, *, width=3): 'Cut.'",
        "test_its_parameters_are_annotated",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_contract_fails_where_it_is_broken(fails, case):
    fails(*BROKEN[case])


def checked(component, kind="surgeries"):
    return type("Checked", (Contract,), {"component": component, "kind": kind})()


def test_a_component_is_found_with_its_docstring_and_annotations():
    contract = checked("zoo/wrap")
    contract._positional = lambda: 1
    contract.test_it_is_listed()
    contract.test_it_is_documented()
    contract.test_its_parameters_are_annotated()


def test_a_component_that_is_not_installed_fails():
    with pytest.raises(AssertionError):
        checked("zoo/no_such_surgery").test_it_is_listed()


def test_a_bare_parameter_is_named(plugins):
    plugins.write("zoo-acme", "[zoo.modules]\nx = acme_bare:x", acme_bare="def x(width: int, depth=3): 'A layer.'")
    with pytest.raises(AssertionError, match="annotate depth"):
        checked("acme/x", "modules").test_its_parameters_are_annotated()
