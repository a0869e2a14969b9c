"""All checks together: no finding on sound networks, and the model is as it was."""

import pytest
import torch

from zoo.lint import find_traps
from zoo.model.build import build
from zoo.model.freeze_policies import all_but_head
from zoo.model.freezing import freeze
from zoo.model.shapes import UndecidedError, dry_run


def test_nothing_of_the_model_is_altered():
    assembly = build("timm/resnet18")
    model = assembly.model
    freeze(model, all_but_head(model))
    model.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    find_traps(assembly, (2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m.training for m in model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(m._forward_hooks for m in model.modules())


def test_an_input_that_does_not_fit_is_not_a_trap():
    assert find_traps(build("tutorial/fashion_mlp_relu"), (2, 3, 5, 5)) == []


@pytest.mark.parametrize(
    "name", ["timm/resnet18", "timm/vit_tiny_patch16_224", "timm/levit_128s", "torchvision/googlenet"]
)
def test_sound_networks_raise_no_alarm(name):
    assert find_traps(build(name, device="meta"), (2, 3, 224, 224)) == []


def test_a_network_on_meta_that_looks_at_values_is_undecided_not_wrong():
    for name in ("fixed_hidden_mlp", "chimera"):
        with pytest.raises(UndecidedError, match="looks at values"):
            dry_run(build(f"tutorial/{name}", device="meta").model, (2, 20))
    assert dry_run(build("tutorial/chimera").model, (2, 20)).way == "real"
