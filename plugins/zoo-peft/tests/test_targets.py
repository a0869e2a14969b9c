"""Which layers are adapted: by the network's structure, by name, and which cannot be."""

import pytest
import timm
import torch
import torchvision
from torch import nn
from zoo_peft.targets import Targets

from zoo.errors import InputError


class Shared(nn.Module):
    """One plain layer, one whose weight two places share, one read by forward, one that standardises, and a head."""

    def __init__(self):
        super().__init__()
        self.plain, self.twice, self.again = (nn.Linear(8, 8) for _ in range(3))
        self.again.weight = self.twice.weight
        self.read = nn.Linear(8, 8)
        self.own = Standardised(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = self.own(self.again(self.twice(self.plain(x))))
        return self.head(nn.functional.linear(x, self.read.weight))


class Standardised(nn.Linear):
    def forward(self, x):
        return nn.functional.linear(x, self.weight - self.weight.mean())


def built(make, *arguments, **more):
    with torch.device("meta"):
        return make(*arguments, **more)


def leaves(paths):
    return {path.rpartition(".")[2] for path in paths}


def test_a_transformer_is_adapted_in_the_linear_layers_of_its_attention():
    chosen = Targets(built(timm.create_model, "test_vit")).default()
    assert len(chosen) == 12
    assert leaves(chosen) == {"qkv", "proj"}


def test_a_cnn_is_adapted_in_its_convolutions():
    chosen = Targets(built(torchvision.models.resnet18)).default()
    assert len(chosen) == 20
    assert not any("fc" in path or "bn" in path for path in chosen)


def test_padding_of_its_own_and_depthwise_convolutions_are_left_as_they_are():
    chosen = Targets(built(timm.create_model, "tf_efficientnet_lite0")).default()
    assert leaves(chosen) == {"conv_pw", "conv_pwl", "conv_head"}


def test_attention_that_reads_its_weights_itself_is_left_and_said():
    targets = Targets(built(torchvision.models.swin_t))
    assert not any("attn" in path for path in targets.default())
    assert targets.notes == ["its attention reads the weights of its layers itself: no adapter there would run"]


def test_a_name_is_the_end_of_a_path_and_paths_are_exact():
    targets = Targets(built(torchvision.models.resnet18))
    assert len(targets.choose(["conv1"], None)) == 9
    assert targets.choose(None, ["conv1"]) == ["conv1"]
    assert targets.choose(["1.conv1", "conv2"], None)[0] == "layer1.0.conv2"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("plan", "no module is called 'plan' (did you mean plain?)"),
        ("head", "'head': head is the classifier, which trains as it is: leave it out"),
        ("twice", "'twice': twice shares its weight with another place"),
        ("read", "'read': read is never called: forward reads its weight itself, or not at all"),
        ("own", "'own': own is a Standardised, which computes in a way of its own that no adapter merges with"),
    ],
)
def test_what_cannot_be_adapted_is_said(target, why):
    with pytest.raises(InputError) as caught:
        Targets(Shared()).choose([target], None)
    assert str(caught.value).startswith(why)


def test_all_mistakes_are_said_at_once():
    with pytest.raises(InputError) as caught:
        Targets(Shared()).choose(["plain", "head", "nowhere"], None)
    assert len(caught.value.problems) == 2


def test_a_network_without_a_layer_for_it_is_refused():
    with pytest.raises(InputError, match="has no layer that could be adapted"):
        Targets(nn.Sequential(nn.Linear(4, 2))).default()
