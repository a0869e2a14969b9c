"""What each freezing policy chooses, on networks whose parts are known."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from zoo import registry
from zoo.errors import InputError
from zoo.model import freeze_policies
from zoo.model.freeze_policies import role
from zoo.model.freezing import freeze, trainable_parameters


def timm_model(name: str, **arguments) -> nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, **arguments)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    return timm_model("resnet18")


@pytest.fixture(scope="module")
def vit() -> nn.Module:
    return timm_model("vit_tiny_patch16_224", drop_rate=0.1, pos_drop_rate=0.1)


def trains(model: nn.Module, names) -> set[str]:
    """First parts of the parameters that still train once `names` are frozen."""
    freeze(model, names)
    return set(trainable_parameters(model))


def tops(names) -> set[str]:
    return {name.split(".")[0] for name in names}


def test_every_policy_is_a_component_and_keyword_only():
    for name in registry.names("freezing"):
        loaded = registry.load(name, "freezing")
        assert getattr(freeze_policies, name.rpartition("/")[2], loaded) is loaded
    assert {"zoo/none", "zoo/norm_only"} <= set(registry.names("freezing"))


def test_none_and_all(resnet):
    assert trains(resnet, freeze_policies.all(resnet)) == set()
    assert len(trains(resnet, freeze_policies.none(resnet))) == len(list(resnet.parameters()))


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet18", {"fc"}),
        ("deit_tiny_distilled_patch16_224", {"head", "head_dist"}),
        ("levit_128s", {"head.linear", "head_dist.linear"}),
        ("convnext_atto", {"head.fc"}),
        ("mobilenetv3_small_050", {"classifier"}),
    ],
)
def test_all_but_head_leaves_the_classifiers(name, head):
    model = timm_model(name)
    left = trains(model, freeze_policies.all_but_head(model))
    assert {parameter.rpartition(".")[0] for parameter in left} == head


def test_all_but_head_of_a_named_head(resnet):
    left = trains(resnet, freeze_policies.all_but_head(resnet, head="layer4"))
    assert tops(left) == {"layer4"}
    with pytest.raises(InputError, match="did you mean layer4"):
        freeze_policies.all_but_head(resnet, head="layer5")


def test_all_but_head_lets_a_shared_parameter_train():
    tied = nn.Linear(4, 4)
    model = nn.Sequential(tied, nn.Linear(4, 4), tied)
    assert trains(model, freeze_policies.all_but_head(model)) == {"0.weight", "0.bias"}
    with pytest.raises(InputError, match="nothing lies outside"):
        freeze_policies.all_but_head(nn.Sequential(nn.Linear(2, 2)))


def test_all_but_head_keeps_the_dropout_of_the_head_and_no_other(vit):
    freeze(vit, freeze_policies.all_but_head(vit))
    vit.train()
    assert vit.head_drop.training
    assert not vit.pos_drop.training
    with torch.device("meta"):
        vgg = torchvision.models.vgg11()
    freeze(vgg, freeze_policies.all_but_head(vgg))
    vgg.train()
    assert [vgg.classifier[i].training for i in (2, 5)] == [False, True]


def test_below_freezes_what_is_registered_before(resnet):
    assert tops(trains(resnet, freeze_policies.below(resnet, module="layer3"))) == {"layer3", "layer4", "fc"}
    assert tops(trains(resnet, freeze_policies.below(resnet, module="layer3", inclusive=True))) == {"layer4", "fc"}
    left = trains(resnet, freeze_policies.below(resnet, module="layer3.1.conv2"))
    assert {name for name in left if name.startswith("layer3")} == {
        "layer3.1.conv2.weight",
        "layer3.1.bn2.weight",
        "layer3.1.bn2.bias",
    }


def test_below_counts_the_embeddings_of_a_transformer_as_below(vit):
    left = trains(vit, freeze_policies.below(vit, module="blocks.6"))
    assert tops(left) == {"blocks", "norm", "head"}
    assert {name.split(".")[1] for name in left if name.startswith("blocks")} == {"6", "7", "8", "9", "10", "11"}


def test_below_holds_dropout_in_front_of_the_boundary():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Linear(2, 2))
    freeze(model, freeze_policies.below(model, module="-1"))
    assert not model.train()[1].training


def test_below_says_what_it_cannot_find(resnet):
    with pytest.raises(InputError, match=r"did you mean layer3"):
        freeze_policies.below(resnet, module="layer33")
    with pytest.raises(InputError, match="nothing with parameters lies below 'conv1'"):
        freeze_policies.below(resnet, module="conv1")


def test_first_stages(resnet):
    assert tops(trains(resnet, freeze_policies.first_stages(resnet, count=0))) == {
        "layer1",
        "layer2",
        "layer3",
        "layer4",
        "fc",
    }
    assert tops(trains(resnet, freeze_policies.first_stages(resnet, count=3))) == {"layer4", "fc"}
    assert tops(trains(resnet, freeze_policies.first_stages(resnet, count=4))) == {"fc"}
    for count in (5, -1):
        with pytest.raises(InputError, match="the model has 4 stages: layer1, layer2, layer3, layer4"):
            freeze_policies.first_stages(resnet, count=count)


def test_pattern_finds_tensors_and_modules(resnet):
    assert tops(trains(resnet, freeze_policies.pattern(resnet, patterns=[r"^conv1\.", r"^layer[12]$"]))) == {
        "bn1",
        "layer3",
        "layer4",
        "fc",
    }
    left = trains(resnet, freeze_policies.pattern(resnet, patterns=r"bn\d\.weight"))
    assert "bn1.weight" not in left
    assert "bn1.bias" in left


def test_pattern_tells_every_expression_that_finds_nothing(resnet):
    with pytest.raises(InputError) as caught:
        freeze_policies.pattern(resnet, patterns=["^layer1", r"^leyer2\.", "(", "maxpool"])
    told = [str(problem) for problem in caught.value.problems]
    assert len(told) == 3
    assert "did you mean layer2" in told[0]
    assert "not a regular expression" in told[1]
    assert "'maxpool' finds no parameter or buffer" in told[2]
    with pytest.raises(InputError, match="empty"):
        freeze_policies.pattern(resnet, patterns=[])


@pytest.mark.parametrize("name", ["resnet18", "levit_128s", "tf_efficientnet_lite0"])
def test_batchnorm_freezes_batch_norm_of_any_kind_and_nothing_else(name):
    model = timm_model(name)
    left = trains(model, freeze_policies.batchnorm(model))
    model.train()
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert not any(norm.training for norm in norms)
    frozen = {id(p) for norm in norms for p in norm.parameters()}
    assert left == {n for n, p in model.named_parameters() if id(p) not in frozen}


def test_batchnorm_without_batch_norm_names_what_there_is(vit):
    with pytest.raises(InputError, match="LayerNorm: use the policy pattern"):
        freeze_policies.batchnorm(vit)


def test_bias_only_trains_biases_and_keeps_statistics(resnet):
    left = trains(resnet, freeze_policies.bias_only(resnet))
    assert left == {name for name, _ in resnet.named_parameters() if name.endswith("bias")}
    resnet.train()
    assert not resnet.bn1.training
    assert resnet.training
    with_head = trains(resnet, freeze_policies.bias_only(resnet, train_head=True))
    assert with_head - left == {"fc.weight"}


def test_norm_only_trains_norms_and_their_statistics(resnet, vit):
    assert trains(resnet, freeze_policies.norm_only(resnet)) == {
        name for name, _ in resnet.named_parameters() if "bn" in name or "downsample.1" in name
    }
    assert resnet.train().bn1.training
    left = trains(vit, freeze_policies.norm_only(vit, train_head=True))
    assert left == {n for n, _ in vit.named_parameters() if "norm" in n or n.startswith("head.")}


def test_only_policies_without_a_match_are_errors():
    bare = nn.Sequential(nn.Linear(2, 2, bias=False))
    with pytest.raises(InputError, match="no bias"):
        freeze_policies.bias_only(bare)
    with pytest.raises(InputError, match="no normalization layer"):
        freeze_policies.norm_only(bare)


def test_roles():
    names = ["a.weight", "in_proj_bias", "rnn.weight_ih_l0", "x.bias_k", "blocks.0.gamma", "weighted", "table"]
    assert [role(name) for name in names] == ["weight", "bias", "weight", "bias", "", "", ""]
