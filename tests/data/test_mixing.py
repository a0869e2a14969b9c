"""Mixup and cutmix: torchvision's, in pairs half a batch apart; the same whatever ran before, in any process."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from zoo.data.batches import Batch, Order
from zoo.data.mixing import MixedBatches, Mixing
from zoo.errors import InputError

TARGETS = torch.tensor([0, 1, 2, 0, 1, 2, 1, 0])
IMAGES = torch.rand(8, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Given:
    """One batch of samples in each epoch, of which a process has its share."""

    def __init__(self, inputs, targets, rank=0, world=1, batch_size=8):
        self.inputs, self.targets = inputs, targets
        self.order = Order(len(targets), batch_size, seed=0, shuffle=False, rank=rank, world=world)

    def __len__(self):
        return len(self.order)

    def size(self, index):
        return self.order.size(index)

    def epoch(self, epoch, start=0):
        for positions in self.order.epoch(epoch, start):
            chosen = torch.as_tensor(positions)
            alone = isinstance(self.inputs, torch.Tensor)
            inputs = self.inputs[chosen] if alone else tuple(tensor[chosen] for tensor in self.inputs)
            yield Batch(inputs, self.targets[chosen], chosen)

    def close(self):
        self.closed = True


def mixed(mixing, inputs=IMAGES, targets=TARGETS, *, task="classification", seed=0, **given):
    return MixedBatches(Given(inputs, targets, **given), mixing, task=task, outputs=3, seed=seed)


def only(batches, epoch=0, start=0):
    (batch,) = batches.epoch(epoch, start)
    return batch


def test_mixup_adds_inputs_and_targets_by_one_share():
    batch, rows = only(mixed(Mixing(mixup=0.8))), F.one_hot(TARGETS, 3).float()
    share = batch.targets[0, 0]  # samples 0 and 4 are of classes 0 and 1
    assert 0 < share < 1
    assert torch.allclose(batch.inputs, share * IMAGES + (1 - share) * IMAGES.roll(4, 0))
    assert torch.allclose(batch.targets, share * rows + (1 - share) * rows.roll(4, 0))
    assert torch.equal(batch.positions, torch.arange(8))


def test_cutmix_puts_a_box_of_the_other_image_in_and_counts_its_area():
    batches, seen = mixed(Mixing(cutmix=1.0)), []
    for epoch in range(8):
        batch, other = only(batches, epoch), IMAGES.roll(4, 0)
        replaced = (batch.inputs != IMAGES).all(1)
        assert torch.equal(batch.inputs, torch.where(replaced[:, None], other, IMAGES))
        assert torch.equal(replaced, replaced[:1].expand_as(replaced))  # one box for all
        seen.append(replaced[0].float().mean().item())
        assert batch.targets[0].tolist() == pytest.approx([1 - seen[-1], seen[-1], 0])
    assert len(set(seen)) > 2


def test_with_both_each_batch_has_one_of_them():
    batches = mixed(Mixing(mixup=0.8, cutmix=1.0))
    boxes = [bool((only(batches, epoch).inputs[0] == IMAGES[0]).any()) for epoch in range(20)]
    assert 4 < sum(boxes) < 16


def test_draws_depend_on_seed_epoch_and_batch_alone():
    batches = [list(mixed(Mixing(0.8, 1.0), batch_size=4).epoch(2)) for _ in range(2)]
    torch.manual_seed(5)
    (resumed,) = mixed(Mixing(0.8, 1.0), batch_size=4).epoch(2, start=1)
    assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(5)))
    for other in (batches[1][1], resumed):
        assert torch.equal(other.inputs, batches[0][1].inputs)
        assert torch.equal(other.targets, batches[0][1].targets)
    shares = {
        tuple(only(mixed(Mixing(0.8), seed=seed), epoch).targets[0].tolist()) for seed in (0, 1) for epoch in (0, 1)
    }
    assert len(shares) == 4
    first, second = mixed(Mixing(0.8), batch_size=4).epoch(0)
    assert first.targets.max() != second.targets.max()


@pytest.mark.parametrize("world", [2, 4])
def test_processes_mix_what_one_does(world):
    alone = only(mixed(Mixing(0.8, 1.0)))
    for rank in range(world):
        share = only(mixed(Mixing(0.8, 1.0), rank=rank, world=world))
        assert torch.equal(share.inputs, alone.inputs[rank::world])
        assert torch.equal(share.targets, alone.targets[rank::world])


def test_the_last_of_an_odd_batch_stays_and_one_sample_has_no_other():
    batch = only(mixed(Mixing(0.8), IMAGES[:7], TARGETS[:7]))
    assert torch.equal(batch.inputs[6], IMAGES[6])
    assert batch.targets[6].tolist() == [0, 1, 0]
    lone = only(mixed(Mixing(0.8), IMAGES[:1], TARGETS[:1]))
    assert torch.equal(lone.inputs, IMAGES[:1])
    assert lone.targets.tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("task", ["regression", "multilabel"])
def test_values_and_labels_are_mixed_as_they_are(task):
    values = torch.rand(8, 3, generator=torch.Generator().manual_seed(1))
    batch = only(mixed(Mixing(0.8), targets=values, task=task))
    share = (batch.targets[0, 0] - values[4, 0]) / (values[0, 0] - values[4, 0])
    assert torch.allclose(batch.targets, share * values + (1 - share) * values.roll(4, 0), atol=1e-5)


def test_features_of_any_shape_are_mixed_alike():
    features = (IMAGES[:, :, 0, 0], IMAGES[:, :, 0], IMAGES)
    batch = only(mixed(Mixing(0.8), features))
    share = batch.targets[0, 0]
    for made, given in zip(batch.inputs, features, strict=True):
        assert torch.allclose(made, share * given + (1 - share) * given.roll(4, 0))
    with pytest.raises(InputError, match=r"the frozen backbone gives torch.int64 beside its features"):
        only(mixed(Mixing(0.8), (IMAGES, TARGETS)))


def test_it_is_batches_as_others_are():
    batches = mixed(Mixing(0.8), batch_size=3)
    assert (len(batches), batches.size(0), batches.size(2)) == (3, 3, 2)
    batches.close()
    assert batches.batches.closed
    assert not Mixing()
    assert str(Mixing(0.2, 1.0)) == "mixup 0.2 or cutmix 1"
