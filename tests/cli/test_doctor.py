"""`zoo doctor`: a sound installation, broken plugins with a mend, requirements that are not met."""

import pytest

from zoo import registry


def test_a_sound_installation(zoo):
    outcome = zoo("doctor")
    assert outcome.code == 0, outcome.out
    assert outcome.out.endswith("all is well\n")
    for word in ("python", "cpu", "bfloat16", "zoo's cache", "Hugging Face cache", "torch ", "timm "):
        assert word in outcome.out


def test_the_document(zoo):
    document = zoo("doctor", "--json").json
    assert document["ok"] is True
    assert {plugin["plugin"] for plugin in document["plugins"]} == {row.plugin for row in registry.entries()}
    assert {"package": "torch", "problem": None, "mend": None}.items() <= next(
        row for row in document["packages"] if row["package"] == "torch"
    ).items()
    assert "cpu" in document["machine"]["devices"]


@pytest.mark.parametrize(
    ("module", "cause", "mend"),
    [
        ("import not_there.deep", "No module named 'not_there'", "pip install not_there, or without it:"),
        ("import acme_d.gone", "No module named 'acme_d.gone'", "pip install --force-reinstall zoo-acme"),
        ("raise SystemExit(1)", "SystemExit: 1", "pip install --upgrade zoo-acme, or without it:"),
        ("cut = 3", "acme_d:cut is int", "pip uninstall zoo-acme"),
    ],
)
def test_a_broken_plugin_of_any_kind_is_found_with_cause_and_mend(zoo, plugins, module, cause, mend):
    plugins.write("zoo-acme", "[zoo.surgeries]\ncut = acme_d:cut", acme_d=module)
    outcome = zoo("doctor")
    assert outcome.code == 1
    broken = outcome.out.partition("\nbroken\n")[2]
    assert broken.startswith("  acme/cut: zoo-acme 1.0 (acme_d:cut): ")
    assert cause in broken
    assert f"    mend: {mend}" in broken or mend in broken


def test_a_requirement_that_is_not_met(zoo, plugins):
    plugins.write("zoo-acme", "[zoo.surgeries]\ncut = acme_d:cut", acme_d="def cut(): ...")
    with next(plugins.folder.glob("*.dist-info/METADATA")).open("a") as metadata:
        metadata.write('Requires-Dist: pyyaml>=999\nRequires-Dist: no-such-package; extra == "more"\n')
    outcome = zoo("doctor")
    assert outcome.code == 1
    assert "  zoo-acme needs pyyaml>=999\n    mend: pip install 'pyyaml>=999'" in outcome.out
    assert "no-such-package" not in outcome.out
