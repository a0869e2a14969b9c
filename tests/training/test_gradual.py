"""Gradual unfreezing: the phases of real networks, what a plain loop computes, and a proof that can fail."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from listeners import Notes
from zoo.errors import InputError, WorkError
from zoo.model.freezing import freeze, frozen_part, hashes
from zoo.recipe.options import UnfreezeGradually
from zoo.training.gradual import GradualUnfreezing, find_phases


def block(width: int, out: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, out), nn.BatchNorm1d(out), nn.ReLU(), nn.Dropout(0.2))


class Net(nn.Module):
    """A stem, two stages and a head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.stem, self.layer1, self.layer2 = nn.Linear(6, 8), block(8, 8), block(8, 8)
        self.fc = nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer2(self.layer1(self.stem(inputs))))


def groups(model: nn.Module, **options) -> list[tuple[int, str, int]]:
    phases = find_phases(model, UnfreezeGradually(**options))
    assert len({name for phase in phases for name in phase.names}) == sum(len(phase.names) for phase in phases)
    return [(phase.epoch, phase.group, len(phase.names)) for phase in phases]


def test_stages_thaw_from_the_top_down_and_the_stem_last():
    assert groups(torchvision.models.resnet18(), every=2) == [
        (0, "head", 2),
        (2, "layer4", 15),
        (4, "layer3", 15),
        (6, "layer2", 15),
        (8, "layer1", 12),
        (10, "stem", 3),
    ]


def test_blocks_of_a_transformer_with_what_stands_between_them():
    model = timm.create_model("test_vit")
    found = groups(model, groups="blocks")
    assert [name for _, name, _ in found] == ["head", *(f"blocks.{n}" for n in range(5, -1, -1)), "stem"]
    assert [epoch for epoch, _, _ in found] == list(range(8))
    top = find_phases(model, UnfreezeGradually(groups="blocks"))[1]
    assert {"norm.weight", "norm.bias"} <= set(top.names)  # the last norm belongs to the last block
    assert sum(count for _, _, count in found) == len(list(model.parameters()))


def test_patterns_thaw_in_their_order_and_the_first_that_finds_a_name_has_it():
    assert groups(Net(), groups=["layer2", "layer", "stem"]) == [
        (0, "head", 2),
        (1, "layer2", 4),
        (2, "layer", 4),
        (3, "stem", 2),
    ]
    with pytest.raises(InputError) as caught:
        groups(Net(), groups=["layre2", "layer", "layer1"])
    assert [problem.message for problem in caught.value.problems] == [
        "unfreeze_gradually: 'layre2' finds nothing that trains",
        "unfreeze_gradually: 'layer1' finds nothing that trains",
    ]


def test_what_a_freeze_step_froze_is_in_no_group():
    model = Net()
    freeze(model, ["stem", "layer1"])
    assert groups(model) == [(0, "head", 2), (1, "layer2", 4)]
    freeze(model, ["stem", "layer1", "layer2"])
    with pytest.raises(InputError, match=r"nothing outside the head trains.*leave the freeze step out"):
        groups(model)
    freeze(model, ["fc"])
    with pytest.raises(InputError, match="the head is frozen"):
        groups(model)


def test_a_phase_freezes_as_a_freeze_step_does_and_leaves_as_it_came():
    model = Net()
    freeze(model, ["stem"])
    before = frozen_part(model)
    gradual = GradualUnfreezing(model, UnfreezeGradually(every=2), before)
    for epoch, frozen in ((0, ["stem", "layer1", "layer2"]), (2, ["stem", "layer1"]), (3, ["stem", "layer1"])):
        gradual.enter(epoch)
        model.train()
        other = Net()
        expected = freeze(other, frozen)
        other.train()
        assert gradual.frozen.parameters == expected.parameters
        assert [module.training for module in model.modules()] == [module.training for module in other.modules()]
    gradual.leave()
    model.train()
    assert frozen_part(model) == before
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["stem.weight", "stem.bias"]
    assert model.layer1[1].training


def run(trainer) -> nn.Module:
    trainer.gradual.before = hashes(trainer.job.model, trainer.gradual.frozen)
    torch.manual_seed(7)
    trainer.begin(0, {})
    trainer.run()
    return trainer.job.model


def test_it_computes_what_a_plain_loop_computes(make_trainer):
    """With one optimizer of torch's over everything, whose moments outlive each thaw; equal to the last bit."""
    notes = Notes()
    options = {"optimizer": {"SGD": {"momentum": 0.9}}, "weight_decay": 0.01, "weight_decay_on": "all"}
    trainer = make_trainer(Net(), listener=notes, epochs=6, lr=0.05, unfreeze_gradually=2, **options)
    trainer.gradual.leave()
    plain = copy.deepcopy(trainer.job.model)
    trainer.gradual.enter(0)
    run(trainer)
    torch.manual_seed(7)
    rows = [{"params": list(part.parameters())} for part in (plain.stem, plain.layer1, plain.layer2, plain.fc)]
    optimizer = torch.optim.SGD(rows, lr=0.05, momentum=0.9, weight_decay=0.01, fused=True)
    for epoch in range(6):
        for part, begins in ((plain.stem, 6), (plain.layer1, 4), (plain.layer2, 2)):
            part.requires_grad_(epoch >= begins).train(epoch >= begins)
        for batch in trainer.job.train.epoch(epoch):
            optimizer.zero_grad()
            F.cross_entropy(plain(batch.inputs), batch.targets).backward()
            optimizer.step()
    mine, theirs = trainer.job.model.state_dict(), plain.state_dict()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []
    assert [note for note in notes.notes if "epoch" in note] == [
        "train: epoch 1: the head trains, 27 parameters; 232 are frozen",
        "train: epoch 3: layer2 thaws, 88 parameters; 144 are frozen",
        "train: epoch 5: layer1 thaws, 88 parameters; 56 are frozen",
    ]


def test_batch_norms_count_no_batches_before_they_thaw_and_each_phase_is_proved(make_trainer):
    trainer = make_trainer(Net(), epochs=5, unfreeze_gradually=2, ema=0.9)
    start = copy.deepcopy(trainer.job.model.state_dict())
    model = run(trainer)
    per_epoch = len(trainer.job.train)
    assert (model.layer2[1].num_batches_tracked, model.layer1[1].num_batches_tracked) == (3 * per_epoch, per_epoch)
    assert torch.equal(model.stem.weight, start["stem.weight"])  # five epochs are too few for it
    rows = [(row["epoch"], row["group"], row["frozen_tensors"]) for row in trainer.progress.phases]
    assert rows == [(1, "head", 16), (3, "layer2", 9), (5, "layer1", 2)]
    assert set(trainer.gradual.still_frozen) == {"stem.weight", "stem.bias"}


def test_a_frozen_group_has_no_rate_and_no_moments(make_trainer):
    trainer = make_trainer(Net(), epochs=3, optimizer="AdamW", unfreeze_gradually={"every": 1}, layer_decay=0.5)
    run(trainer)
    assert [row["from_epoch"] for row in trainer.groups] == [4, 4, 3, 3, 2, 2, 1, 1]
    assert [row["lr"] for row in trainer.groups] == pytest.approx(
        [0.00625] * 2 + [0.0125] * 2 + [0.025] * 2 + [0.05] * 2
    )
    assert [row["lr_by_group"][4:] for row in trainer.progress.history] == [
        [0.0, 0.0, 0.05, 0.05],
        [0.025, 0.025, 0.05, 0.05],
        [0.025, 0.025, 0.05, 0.05],
    ]
    steps = {name: trainer.optimizer.state.get(p, {}).get("step") for name, p in trainer.job.model.named_parameters()}
    per_epoch = len(trainer.job.train)
    assert steps["fc.weight"] == 3 * per_epoch
    assert (steps["layer2.0.weight"], steps["layer1.0.weight"], steps["stem.weight"]) == (
        2 * per_epoch,
        per_epoch,
        None,
    )


def test_what_moves_before_it_thaws_ends_the_training(make_trainer):
    """An optimizer that decays what has no gradient, as one of a plugin may."""
    trainer = make_trainer(Net(), epochs=4, unfreeze_gradually=2)
    step = trainer.optimizer.step

    def careless() -> None:
        step()
        with torch.no_grad():
            trainer.job.model.layer1[0].weight.mul_(0.9)

    trainer.optimizer.step = careless
    with pytest.raises(WorkError, match=r"1 tensors moved before they were to thaw: layer1\.0\.weight"):
        run(trainer)
