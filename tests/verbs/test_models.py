"""`zoo.save` and `zoo.freeze`."""

import pytest
import torch
from torch import nn

import zoo


class TestSave:
    def test_a_model_of_zoos_comes_back_from_the_file_alone(self, tmp_path, answers):
        model = zoo.build("timm/test_resnet", num_classes=3)
        saved = zoo.save(model, tmp_path / "m.safetensors", classes="abc", metrics={"accuracy": 0.5})
        again = zoo.load(saved["path"])
        assert torch.equal(answers(again), answers(model))
        assert again.zoo.classes == ("a", "b", "c")
        assert zoo.inspect(saved["path"])["zoo"]["metrics"] == {"accuracy": 0.5}

    def test_one_changed_by_hand_is_refused_and_nothing_written(self, tmp_path):
        model = zoo.build("timm/test_resnet")
        model.fc = nn.Linear(model.fc.in_features, 3)
        with pytest.raises(zoo.InputError, match=r"fc.weight was \[1000, 96\] and is \[3, 96\]"):
            zoo.save(model, tmp_path / "m.safetensors")
        assert not list(tmp_path.iterdir())

    def test_a_class_of_ones_own(self, tmp_path, small_net, answers, digits):
        net = small_net()
        zoo.save(net, tmp_path / "m.safetensors", classes=digits.classes)
        assert torch.equal(answers(zoo.load(tmp_path / "m.safetensors", model=small_net())), answers(net))
        with pytest.raises(zoo.InputError, match="save all of it"):
            zoo.save(net, tmp_path / "n.safetensors", only="trainable")

    def test_what_was_frozen_stands_in_the_file(self, tmp_path):
        model = zoo.build("timm/test_resnet")
        frozen = zoo.freeze(model)
        zoo.save(model, tmp_path / "m.safetensors")
        assert zoo.load(tmp_path / "m.safetensors").zoo.frozen == frozen.parameters


class TestFreeze:
    def test_a_policy_freezes_and_none_unfreezes(self):
        model = zoo.build("timm/test_resnet")
        total = sum(parameter.numel() for parameter in model.parameters())
        frozen = zoo.freeze(model)
        head = sum(parameter.numel() for parameter in model.fc.parameters())
        assert (frozen.trainable, frozen.frozen) == (head, total - head)
        assert str(frozen) == f"{total - head:,} of {total:,} parameters are frozen"
        assert model.zoo.frozen == frozen.parameters
        model.train()
        assert not model.layer1.training
        assert zoo.freeze(model, "none").frozen == 0
        assert model.layer1.training
        assert model.zoo.frozen == ()

    def test_it_stands_still(self, small_net):
        net = small_net()
        part = zoo.freeze(net, ["stem"])
        before = {name: value.clone() for name, value in net.state_dict().items() if name.startswith("stem")}
        optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
        net.train()(torch.rand(4, 3, 8, 8)).sum().backward()
        optimizer.step()
        assert len(part.parameters) + len(part.buffers) == len(before)
        assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())

    def test_names_and_patterns(self, small_net):
        net = small_net()
        assert set(zoo.freeze(net, ["stem.0", r"1\.bias$"]).parameters) == {
            "stem.0.weight",
            "stem.0.bias",
            "stem.1.bias",
        }
        assert zoo.freeze(net, []).frozen == 0

    def test_a_policys_arguments(self):
        model = zoo.build("timm/test_resnet")
        assert zoo.freeze(model, "below", module="layer4").trainable < zoo.freeze(model, "none").trainable

    @pytest.mark.parametrize(
        ("policy", "arguments", "says"),
        [
            ("al_but_head", {}, "did you mean zoo/all_but_head"),
            ("below", {"modul": "head"}, "see: zoo show zoo/below"),
            (["stemm"], {}, "finds no parameter or buffer"),
            (["stem"], {"module": "head"}, "belong to a named policy"),
        ],
    )
    def test_what_it_does_not_understand(self, policy, arguments, says, small_net):
        with pytest.raises(zoo.InputError, match=says):
            zoo.freeze(small_net(), policy, **arguments)
