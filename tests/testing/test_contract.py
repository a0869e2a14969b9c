"""What every contract checks: that a component is listed, documented and annotated."""

import pytest

from zoo.testing.contract import Contract


def checked(component, kind="surgeries"):
    return type("Checked", (Contract,), {"component": component, "kind": kind})()


def test_a_component_is_found_with_its_docstring_and_annotations():
    contract = checked("zoo/wrap")
    contract._positional = lambda: 1
    contract.test_its_entry_point_resolves()
    contract.test_it_is_documented()
    contract.test_its_parameters_are_annotated()


def test_a_component_that_is_not_installed_fails():
    with pytest.raises(AssertionError):
        checked("zoo/no_such_surgery").test_its_entry_point_resolves()


def test_a_bare_parameter_is_named(plugins):
    plugins.write("zoo-acme", "[zoo.modules]\nx = acme_bare:x", acme_bare="def x(width: int, depth=3): 'A layer.'")
    with pytest.raises(AssertionError, match="annotate depth"):
        checked("acme/x", "modules").test_its_parameters_are_annotated()
