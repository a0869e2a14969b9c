"""`zoo list`: names, filters, the overview, broken plugins, one JSON document."""

import sys

import pytest

from zoo import registry
from zoo.cli.list import matches, overview


class TestNames:
    def test_piped_it_is_one_name_a_line(self, zoo):
        outcome = zoo("list")
        assert outcome.out.splitlines() == [row.name for row in registry.components()]
        assert (outcome.code, outcome.err) == (0, "")

    def test_a_part_of_a_name(self, zoo):
        lines = zoo("list", "resnet50").out.splitlines()
        assert {"timm/resnet50", "torchvision/resnet50", "torchvision/wide_resnet50_2"} <= set(lines)
        assert all("resnet50" in line for line in lines)

    @pytest.mark.parametrize(
        ("name", "pattern", "fits"),
        [
            ("timm/resnet50", "resnet*", True),
            ("timm/resnet50", "timm/*50", True),
            ("timm/resnet50", "resnet", True),
            ("timm/resnet50", "ResNet5?", True),
            ("timm/resnet50", "net*", False),
            ("timm/resnet50", "resnet[0-4]0", False),
            ("torchvision/CIFAR10", "cifar", True),
        ],
    )
    def test_patterns(self, name, pattern, fits):
        assert matches(name, pattern) is fits

    @pytest.mark.parametrize("kind", ["surgeries", "surgery"])
    def test_a_kind_in_plural_or_singular(self, zoo, kind):
        assert zoo("list", "--kind", kind).out.splitlines() == registry.names("surgeries")

    @pytest.mark.parametrize("kind", registry.KINDS)
    def test_every_kind(self, zoo, kind):
        assert zoo("list", "--kind", kind).code == 0

    @pytest.mark.parametrize("plugin", ["sklearn", "zoo-sklearn"])
    def test_a_plugin_by_its_name_or_its_distributions(self, zoo, plugin):
        assert zoo("list", "--plugin", plugin).out == "sklearn/digits\n"

    def test_filters_add_up(self, zoo):
        outcome = zoo("list", "c*", "--plugin", "torchvision", "--kind", "dataset")
        assert outcome.out.splitlines()[:2] == ["torchvision/CIFAR10", "torchvision/CIFAR100"]
        assert "torchvision/convnext_tiny" not in outcome.out

    def test_nothing_found_is_no_error_but_is_said(self, zoo):
        outcome = zoo("list", "resnt50")
        assert (outcome.code, outcome.out) == (0, "")
        assert outcome.err.startswith("nothing matches 'resnt50' (did you mean ")

    def test_an_unknown_kind_or_plugin_is_the_users_mistake(self, zoo):
        kind, plugin = zoo("list", "--kind", "surgerys"), zoo("list", "--plugin", "tim")
        assert (kind.code, plugin.code) == (2, 2)
        assert "did you mean" in kind.err
        assert plugin.err == "error: no plugin is called 'tim' (did you mean timm?)\n"


class TestDocument:
    def test_holds_every_component(self, zoo):
        rows = zoo("list", "--json").json["components"]
        assert len(rows) == len(registry.components())
        (digits,) = (row for row in rows if row["name"] == "sklearn/digits")
        assert digits == {
            "name": "sklearn/digits",
            "kind": "datasets",
            "plugin": "sklearn",
            "version": "0.1.0",
            "status": "ok",
            "distribution": "zoo-sklearn",
            "target": "zoo_sklearn:digits",
            "cause": None,
            "parameters": None,
            "input_size": None,
            "weights_here": None,
        }

    def test_of_nothing_is_a_document_too(self, zoo):
        assert zoo("list", "no_such_thing_at_all", "--json").json == {"components": []}


class TestBroken:
    @pytest.fixture(autouse=True)
    def broken(self, plugins):
        entry_points = "[zoo.architectures]\nacme = acme_b:source\n[zoo.surgeries]\nfine = acme_b:fine"
        plugins.write("zoo-acme", entry_points, acme_b="print('noise')\nimport not_there_at_all")

    def test_a_broken_plugin_is_a_row_with_package_version_import_string_and_cause(self, zoo):
        outcome = zoo("list", "acme")
        assert outcome.code == 0
        assert outcome.out.splitlines() == [
            "acme\tbroken: zoo-acme 1.0 (acme_b:source): ModuleNotFoundError: No module named 'not_there_at_all'",
            "acme/fine",
        ]

    def test_its_noise_does_not_spoil_the_document(self, zoo):
        rows = zoo("list", "acme", "--json").json["components"]
        assert [(row["name"], row["status"]) for row in rows] == [("acme", "broken"), ("acme/fine", "ok")]
        assert rows[0]["cause"] == "ModuleNotFoundError: No module named 'not_there_at_all'"
        assert (rows[0]["distribution"], rows[0]["version"], rows[0]["target"]) == ("zoo-acme", "1.0", "acme_b:source")

    def test_the_overview_ends_with_it(self):
        text = overview(registry.components(), small=60, width=100)
        assert text.partition("\n\nbroken")[2].splitlines()[1].startswith("  acme: zoo-acme 1.0 (acme_b:source)")


class TestOverview:
    def test_a_terminal_gets_it(self, zoo, monkeypatch):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        assert zoo("list").out.startswith("plugins (")
        assert zoo("list", "digits").out == "sklearn/digits\n"

    def test_every_plugin_every_kind_with_counts_and_small_kinds_in_full(self):
        rows = registry.components()
        text = overview(rows, small=60, width=100)
        assert all(f"\n  {plugin} " in text for plugin in {row.plugin for row in rows})
        for kind in registry.KINDS:
            names = registry.names(kind)
            assert (f"\n{kind} ({len(names):,}" in text) == bool(names)
            if len(names) <= 60:
                assert all(name in text for name in names)
        assert "timm/* (1," in text
        assert "timm/resnet50" not in text
        assert max(map(len, text.splitlines())) <= 100
        assert "1 dataset\n" in text
