"""What the tests of all contracts share."""

import pytest


@pytest.fixture
def fails(plugins):
    """Asserts that a test of a contract fails for the component `x` that a module's text defines."""

    def check(contract, kind, module, test):
        plugins.write("zoo-acme", f"[zoo.{kind}]\nx = acme_contract:x", acme_contract=module)
        checked = type("Checked", (contract,), {"component": "acme/x"})()
        with pytest.raises(AssertionError):
            getattr(checked, test)()

    return check
