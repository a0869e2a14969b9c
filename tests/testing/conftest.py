"""What the tests of all contracts share."""

import inspect

import pytest

from zoo.errors import ZooError


@pytest.fixture
def fails(plugins, tmp_path):
    """Asserts that a test of a contract fails for the component `x` that a module's text defines, with a message."""

    def check(contract, kind, module, test, said="", **attributes):
        own = {"torch": ""} if "without_torch" in test else {}  # another Python imports it in no time
        plugins.write("zoo-acme", f"[zoo.{kind}]\nx = acme_contract:x", acme_contract=module, **own)
        checked = type("Checked", (contract,), {"component": "acme/x", **attributes})()
        method = getattr(checked, test)
        given = {"tmp_path": tmp_path} if "tmp_path" in inspect.signature(method).parameters else {}
        with pytest.raises((AssertionError, TypeError, ValueError, ZooError), match=said or None):
            method(**given)

    return check
