"""The loop: what it computes, what it keeps, and that it goes on bit for bit from any step."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from listeners import Killing
from zoo.errors import InputError, TerminatedError, WorkError
from zoo.model.freezing import freeze, hashes
from zoo.training import trainer as trainer_module


def net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in model.state_dict().values()]


def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(mine, theirs) for mine, theirs in zip(first, second, strict=True))


def run(trainer) -> nn.Module:
    torch.manual_seed(7)
    trainer.begin(0, {})
    trainer.run()
    return trainer.job.model


def test_it_computes_what_a_plain_loop_computes(make_trainer):
    trainer = make_trainer(optimizer={"SGD": {"momentum": 0.9}}, weight_decay=0.01)
    plain = copy.deepcopy(trainer.job.model)
    run(trainer)
    torch.manual_seed(7)
    groups = [
        {"params": [p for p in plain.parameters() if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in plain.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.05, momentum=0.9, fused=True)
    losses = []
    for epoch in range(2):
        plain.train()
        total = 0.0
        for batch in trainer.job.train.epoch(epoch):
            loss = F.cross_entropy(plain(batch.inputs), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch.targets)
        losses.append(total / 60)
    assert equal(weights(trainer.job.model), weights(plain))
    history = trainer.progress.history
    assert [record["loss"] for record in history] == pytest.approx(losses, rel=1e-6)
    plain.eval()
    inputs, targets = trainer.job.validation.inputs, trainer.job.validation.targets
    assert history[-1]["validation"] == {
        "loss": pytest.approx(F.cross_entropy(plain(inputs), targets).item(), rel=1e-5),
        "accuracy": pytest.approx((plain(inputs).argmax(1) == targets).float().mean().item()),
    }


def test_accumulated_batches_are_one_large_batch(make_trainer):
    def smooth() -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))

    small = make_trainer(smooth(), batch_size=8, accumulate=3, epochs=2)  # 60 samples: 8 8 8 | 8 8 8 | 8 4
    large = make_trainer(smooth(), batch_size=24, epochs=2)
    assert (small.steps, large.steps) == (6, 6)
    for mine, theirs in zip(weights(run(small)), weights(run(large)), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


class WithAuxiliary(nn.Module):
    """A classifier, and one beside it that only training sees."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body, self.head, self.aside = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 3)

    def forward(self, inputs):
        features = self.body(inputs).tanh()
        return (self.head(features), self.aside(features)) if self.training else self.head(features)


@pytest.mark.parametrize("weight", [0.3, 0.0])
def test_auxiliary_classifiers_are_in_the_loss_by_their_weight(make_trainer, weight):
    trainer = make_trainer(WithAuxiliary(), optimizer="SGD", weight_decay=0.0, epochs=1, auxiliary_loss=weight)
    plain = WithAuxiliary()
    run(trainer)
    optimizer, total = torch.optim.SGD(plain.parameters(), lr=0.05, fused=True), 0.0
    for batch in trainer.job.train.epoch(0):
        main, aside = plain(batch.inputs)
        loss = F.cross_entropy(main, batch.targets)
        optimizer.zero_grad()
        (loss + weight * F.cross_entropy(aside, batch.targets)).backward()
        optimizer.step()
        total += loss.item() * len(batch.targets)
    assert equal(weights(trainer.job.model), weights(plain))
    assert torch.equal(trainer.job.model.aside.weight, WithAuxiliary().aside.weight) is not bool(weight)
    assert trainer.progress.history[0]["loss"] == pytest.approx(total / 60, rel=1e-6)  # the main loss alone is shown


def test_gradients_are_clipped(make_trainer):
    trainer = make_trainer(clip_grad_norm=1e-3, max_steps=1, epochs=None, lr=1.0)
    before = weights(trainer.job.model)
    run(trainer)
    moved = [new - old for new, old in zip(weights(trainer.job.model), before, strict=True)]
    parameters = dict(trainer.job.model.named_parameters())
    changes = zip(trainer.job.model.state_dict(), moved, strict=True)
    whole = torch.cat([change.flatten() for name, change in changes if name in parameters])
    assert whole.norm() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("options", "epochs", "steps"),
    [
        ({"epochs": 3}, 3, 12),
        ({"epochs": None, "max_steps": 6}, 2, 6),
        ({"epochs": 2, "max_steps": 100}, 2, 8),
        ({"epochs": 5, "max_steps": 5}, 2, 5),
        ({"epochs": 2, "accumulate": 3}, 2, 4),
    ],
)
def test_epochs_and_steps(make_trainer, options, epochs, steps):
    trainer = make_trainer(**options)
    run(trainer)
    assert (trainer.progress.epoch, trainer.progress.steps) == (epochs, steps)
    assert len(trainer.progress.history) == epochs


def test_averages_are_measured_and_left_in_the_model(make_trainer):
    trainer = make_trainer(ema=0.9)
    steps: list[dict[str, torch.Tensor]] = []
    optimizer_step = trainer.optimizer.step

    def recorded():
        optimizer_step()
        steps.append({name: p.detach().clone() for name, p in trainer.job.model.named_parameters()})

    trainer.optimizer.step = recorded
    expected = {name: p.detach().clone() for name, p in trainer.job.model.named_parameters()}
    model = run(trainer)
    for index, values in enumerate(steps):
        rate = 1 - min(0.9, (1 + index) / (10 + index))
        expected = {name: expected[name].lerp(value, rate) for name, value in values.items()}
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter, expected[name], atol=1e-6), name
    model.eval()
    found = model(trainer.job.validation.inputs).argmax(1) == trainer.job.validation.targets
    assert trainer.progress.history[-1]["validation"]["accuracy"] == pytest.approx(found.float().mean().item())


def test_the_best_epoch_is_kept(make_trainer):
    trainer = make_trainer(keep="best", epochs=4, scheduler={"ExponentialLR": {"gamma": 60.0}}, lr=0.02)  # runs wild
    model = run(trainer)
    values = [record["validation"]["accuracy"] for record in trainer.progress.history]
    best = trainer.progress.best
    assert best == {"epoch": values.index(max(values)) + 1, "metric": "accuracy", "value": max(values)}
    assert best["epoch"] < 4
    model.eval()
    found = model(trainer.job.validation.inputs).argmax(1) == trainer.job.validation.targets
    assert found.float().mean().item() == pytest.approx(max(values))


def test_frozen_tensors_stand_still_under_everything_at_once(make_trainer):
    model = net()
    part = freeze(model, ["0", "1"])
    before = hashes(model, part)
    trainer = make_trainer(model, ema=0.5, keep="best", weight_decay=0.5, clip_grad_norm=1.0, values={"frozen": part})
    assert set(trainer.unfrozen) == {"4.weight", "4.bias"}
    run(trainer)
    assert hashes(model, part) == before


HARD = {
    "sgd": {"optimizer": {"SGD": {"momentum": 0.9}}, "scheduler": "cosine", "warmup": 3},
    "adamw": {"optimizer": "AdamW", "scheduler": "one_cycle", "ema": 0.8, "accumulate": 2},
    "best": {"optimizer": "AdamW", "scheduler": {"plateau": {"patience": 0}}, "keep": "best", "label_smoothing": 0.1},
}


@pytest.mark.parametrize("step", [1, 4, 6, 9])
@pytest.mark.parametrize("options", HARD.values(), ids=HARD)
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(make_trainer, monkeypatch, options, step):
    monkeypatch.setattr(
        trainer_module, "SAVE_SECONDS", 0.0
    )  # after every step, so that resuming begins within an epoch
    options = {**options, "epochs": 5, "batch_size": 12}
    uninterrupted = make_trainer(**options)
    expected = weights(run(uninterrupted))
    stopped = make_trainer(**options, listener=Killing(step, error=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(stopped)
    torch.manual_seed(99)  # whatever the generators do meanwhile
    resumed = make_trainer(**options)
    resumed.restore(resumed.state.load())
    assert resumed.progress.steps == step
    resumed.run()
    assert equal(weights(resumed.job.model), expected)
    varying = {"seconds": 0, "images_per_second": 0, "peak_memory": 0}
    ours = [record | varying for record in resumed.progress.history]
    theirs = [record | varying for record in uninterrupted.progress.history]
    assert ours == theirs


@pytest.mark.parametrize("length", [{"epochs": 2}, {"epochs": None, "max_steps": 6}], ids=str)
def test_interrupted_behind_its_last_step_it_ends_the_epoch(make_trainer, length):
    """Training has no step left then, but the last epoch is to be measured, and may be the best."""
    options = {"keep": {"best": "loss"}, "optimizer": "AdamW", "lr": 1e-2} | length
    uninterrupted = make_trainer(**options)
    expected = weights(run(uninterrupted))
    cut = make_trainer(**options)
    measure = cut._measure
    cut._measure = lambda: measure() if cut.progress.epoch == 0 else (_ for _ in ()).throw(TerminatedError)
    with pytest.raises(TerminatedError):
        run(cut)
    resumed = make_trainer(**options)
    resumed.restore(resumed.state.load())
    assert (resumed.progress.steps, len(resumed.progress.history)) == (resumed.steps, 1)
    resumed.run()
    assert resumed.progress.best == uninterrupted.progress.best
    assert resumed.progress.best["epoch"] == len(resumed.progress.history) == 2
    assert equal(weights(resumed.job.model), expected)


@pytest.mark.parametrize("options", [{}, {"ema": 0.9}, {"keep": "best"}], ids=str)
def test_an_interrupted_epoch_leaves_the_last_complete_one(make_trainer, options):
    one = make_trainer(epochs=1, **options)
    expected = weights(run(one))
    trainer = make_trainer(epochs=3, **options, listener=Killing(7, error=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run(trainer)
    assert not equal(weights(trainer.job.model), expected)
    assert trainer.rewind()
    assert equal(weights(trainer.job.model), expected)
    early = make_trainer(epochs=3, listener=Killing(2, error=KeyboardInterrupt()))
    start = weights(early.job.model)
    with pytest.raises(KeyboardInterrupt):
        run(early)
    assert not early.rewind()
    assert equal(weights(early.job.model), start)


def test_a_loss_that_is_not_finite_names_its_step(make_trainer):
    trainer = make_trainer(epochs=2, lr=0.1)
    inputs = trainer.job.train.inputs
    inputs[:] = 1.0
    poisoned = trainer.job.train.order.epoch(1)[2][0]  # second epoch, third batch: step 7 of 4 an epoch
    epoch = trainer.job.train.epoch

    def poisoning(number, start=0):
        if number == 1:
            inputs[poisoned] = float("nan")
        return epoch(number, start)

    trainer.job.train.epoch = poisoning
    with pytest.raises(WorkError, match=r"the loss is not finite at step 7 \(lower lr"):
        run(trainer)
    assert trainer.rewind()
    assert all(tensor.isfinite().all() for tensor in weights(trainer.job.model))


def test_what_fails_in_torch_is_explained(make_trainer):
    with pytest.raises(WorkError, match=r"train, step 1, on inputs \[16, 6\] failed: RuntimeError: .*mat1 and mat2"):
        run(make_trainer(nn.Linear(5, 3)))
    with pytest.raises(InputError, match=r"too few outputs for the data.*swap_head: auto"):
        run(make_trainer(nn.Linear(6, 2)))


def test_training_in_bfloat16_keeps_float32_parameters(make_trainer):
    trainer = make_trainer(values={"precision": "bfloat16"})
    seen = []
    trainer.job.model[0].register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    model = run(trainer)
    assert set(seen) == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model(torch.randn(4, 6)).dtype == torch.float32
    assert seen[-1] == torch.float32  # the wrapping was taken off again
    assert trainer.progress.history[-1]["validation"]["accuracy"] > 0.5


@pytest.mark.slow
def test_compiled_it_trains_the_same(make_trainer):
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    plain, compiled = make_trainer(copy.deepcopy(model)), make_trainer(model, compile=True)
    for mine, theirs in zip(weights(run(compiled)), weights(run(plain)), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    assert not any("_orig_mod" in name for name in compiled.job.model.state_dict())


def test_an_optimizer_over_frozen_parameters_is_refused(make_trainer, monkeypatch):
    def careless(model, options, phases):
        next(model.parameters()).requires_grad_(False)
        return torch.optim.SGD(model.parameters(), lr=0.1)

    monkeypatch.setattr(trainer_module, "make_optimizer", careless)
    with pytest.raises(WorkError, match="the optimizer contains frozen parameters"):
        make_trainer()


def test_the_best_epoch_is_chosen_in_float32(make_trainer):
    """Validation in bfloat16 could prefer an epoch whose file, which is float32, is not the best."""
    measured = {}
    for keep in ("last", "best"):
        trainer = make_trainer(values={"precision": "bfloat16"}, keep=keep, epochs=1, label_smoothing=0.1)
        run(trainer)
        measured[keep] = trainer.progress.history[-1]["validation"]["loss"]
        plain = make_trainer(trainer.job.model, keep=keep)
        assert (measured[keep] == pytest.approx(plain._measure()["loss"], rel=1e-6)) == (keep == "best")
