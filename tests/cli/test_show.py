"""`zoo show`: what there is to know about one component of each kind."""

import pytest

from zoo import registry

PLAIN = [row.name for row in registry.components() if row.kind not in ("architectures", "weights")]


class TestText:
    def test_an_architecture_has_tags_and_preprocessing(self, zoo):
        out = zoo("show", "torchvision/resnet18").out
        assert out.startswith("torchvision/resnet18\n  resnet18(**arguments: Any)\n")
        assert "  tags          IMAGENET1K_V1 (default)\n" in out
        assert "  input         3 x 224 x 224\n" in out
        assert "torchvision 0.1.0 (distribution zoo-torchvision, zoo_torchvision:source)" in out

    def test_an_architecture_names_the_weights_that_other_plugins_have_for_it(self, zoo):
        assert "  weights       efficientnet-lite/lite0\n" in zoo("show", "timm/tf_efficientnet_lite0").out

    def test_a_surgery_by_its_bare_name_shows_what_a_step_may_say(self, zoo):
        out = zoo("show", "swap_head").out
        assert out.startswith("zoo/swap_head\n  swap_head(model")
        assert "num_classes: int" in out
        assert "(model, *, …) -> nn.Module" in out

    def test_weights_say_where_and_for_what(self, zoo):
        out = zoo("show", "efficientnet-lite/lite0").out
        assert "architecture  timm/tf_efficientnet_lite0" in out
        assert "classes       1,000: tench" in out

    def test_a_remap_shows_its_rules(self, zoo):
        assert '- {"rename"' in zoo("show", "lukemelas_lite0").out


class TestDocument:
    @pytest.mark.parametrize("name", PLAIN)
    def test_every_component_can_be_shown(self, zoo, name):
        outcome = zoo("show", name, "--json")
        assert outcome.code == 0, outcome.err
        document = outcome.json
        assert document["name"] == name
        assert document["signature"].startswith(f"{name.rpartition('/')[2]}(")
        assert document["documentation"]
        assert document["contract"]

    def test_an_architectures(self, zoo):
        document = zoo("show", "torchvision/vit_b_16", "--json").json
        assert document["tags"][0] == "IMAGENET1K_V1"
        assert document["preprocessing"]["size"] == [224, 224]
        assert document["kind"] == "architectures"


class TestMistakes:
    def test_an_unknown_name(self, zoo):
        outcome = zoo("show", "timm/resnet5O")
        assert (outcome.code, outcome.out) == (2, "")
        assert "did you mean timm/resnet50" in outcome.err

    def test_an_ambiguous_name(self, zoo):
        outcome = zoo("show", "resnet50")
        assert outcome.code == 2
        assert "timm/resnet50 (architectures, zoo-timm" in outcome.err
        assert "torchvision/resnet50 (architectures, zoo-torchvision" in outcome.err

    def test_a_name_in_two_kinds(self, zoo, plugins):
        module = 'def f():\n    """Do it."""'
        plugins.write("zoo-acme", "[zoo.modules]\nx = acme_k:f\n[zoo.datasets]\nx = acme_k:f", acme_k=module)
        assert "say which kind" in zoo("show", "acme/x").err
        assert zoo("show", "acme/x", "--kind", "module").out.startswith("acme/x\n  x()\n  Do it.\n")

    def test_a_broken_component(self, zoo, plugins):
        plugins.write("zoo-acme", "[zoo.modules]\nx = acme_k:f", acme_k="f = 1 / 0")
        outcome = zoo("show", "acme/x")
        assert outcome.code == 2
        assert "acme/x is broken: zoo-acme 1.0 (acme_k:f): ZeroDivisionError" in outcome.err

    def test_another_plugins_broken_weights_do_not_matter(self, zoo, plugins):
        plugins.write("zoo-acme", "[zoo.weights]\nx = acme_w:f", acme_w="f = 1 / 0")
        assert "efficientnet-lite/lite0" in zoo("show", "timm/tf_efficientnet_lite0").out
