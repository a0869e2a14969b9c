"""What all components owe: a docstring and a typed signature."""

import pytest

from zoo.testing import SurgeryContract

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
def test_a_contract_fails_where_it_is_broken(plugins, case):
    contract, kind, module, test = BROKEN[case]
    plugins.write("zoo-acme", f"[zoo.{kind}]\nx = acme_contract:x", acme_contract=module)
    checked = type("Checked", (contract,), {"component": "acme/x"})()
    with pytest.raises(AssertionError):
        getattr(checked, test)()
