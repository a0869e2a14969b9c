"""Averages of a run's epochs: against means, torch's own averaged model, and a greedy soup, by hand."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from torch.optim.swa_utils import AveragedModel, update_bn

import zoo
from zoo.errors import InputError
from zoo.model.freezing import FrozenPart
from zoo.recipe.options import Average
from zoo.steps.train import Train
from zoo.training.averaging import mean_of
from zoo.training.callbacks import Listener
from zoo.training.job import fill


class Epochs(Listener):
    """Keeps the weights of every epoch."""

    def __init__(self) -> None:
        self.kept: list[dict[str, torch.Tensor]] = []

    def epoch_ended(self, trainer, record) -> None:
        self.kept.append({name: tensor.clone() for name, tensor in trainer.job.model.state_dict().items()})


def trained(make_trainer, **options):
    epochs = Epochs()
    trainer = make_trainer(listener=epochs, **options)
    trainer.begin(0, {})
    trainer.run()
    return trainer, epochs.kept


def statistics(name: str) -> bool:
    return "running" in name or "num_batches" in name


def estimated(trainer, weights) -> dict[str, torch.Tensor]:
    """The same weights with the statistics that torch's update_bn finds, over the batches of the next epoch."""
    model = trainer.job.model
    fill(model.state_dict(), weights)
    dropout = [one for one in model.modules() if isinstance(one, torch.nn.Dropout)]
    for one in dropout:
        one.p = 0.0  # the net's dropout is behind its batch norm
    update_bn([batch.inputs for batch in trainer.job.train.epoch(trainer.progress.epoch)], model)
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def far(mine, theirs) -> list[str]:
    assert mine.keys() == theirs.keys()
    return [name for name in mine if not torch.allclose(mine[name], theirs[name], atol=1e-6)]


def test_the_last_epochs_are_averaged_and_batch_norms_estimated_anew(make_trainer):
    trainer, kept = trained(make_trainer, epochs=4, average={"last": 3})
    found = {name: tensor.clone() for name, tensor in trainer.job.model.state_dict().items()}
    expected = mean_of(kept[1:])
    assert all(torch.equal(found[name], expected[name]) for name in found if not statistics(name))
    assert far(found, estimated(trainer, expected)) == []
    record = trainer.averaged
    assert [(row["epoch"], row["weight"]) for row in record["members"]] == [
        (n, pytest.approx(1 / 3)) for n in (2, 3, 4)
    ]
    assert (record["last"], record["batch_norms"], record["metric"]) == (3, 1, "accuracy")


def test_swa_is_torchs(make_trainer):
    trainer, kept = trained(make_trainer, epochs=4, average={"swa": 0.25})
    found = {name: tensor.clone() for name, tensor in trainer.job.model.state_dict().items()}
    averaged = AveragedModel(trainer.job.model)
    for weights in kept[1:]:
        fill(trainer.job.model.state_dict(), weights)
        averaged.update_parameters(trainer.job.model)
    assert far(found, estimated(trainer, averaged.module.state_dict())) == []
    assert [row["epoch"] for row in trainer.averaged["members"]] == [2, 3, 4]


def test_a_greedy_soup_is_never_below_its_best_epoch(make_trainer):
    trainer, kept = trained(make_trainer, epochs=5, lr=0.5, average={"greedy": 3})
    found = {name: tensor.clone() for name, tensor in trainer.job.model.state_dict().items()}
    values = [record["validation"]["accuracy"] for record in trainer.progress.history]
    order = sorted(range(5), key=lambda place: (-values[place], place))[:3]
    chosen, best = [], 0.0
    for place in order:
        mean = mean_of([kept[one] for one in sorted([*chosen, place])])
        fill(trainer.job.model.state_dict(), mean)
        value = trainer.measure_exactly()["accuracy"]
        if value >= best:
            chosen, best = [*chosen, place], value
    expected = mean_of([kept[one] for one in sorted(chosen)])
    assert all(torch.equal(found[name], expected[name]) for name in found)
    record = trainer.averaged
    assert [row["epoch"] for row in record["members"] if row["weight"]] == sorted(place + 1 for place in chosen)
    assert record["metrics"]["accuracy"] == best >= max(values)
    assert [row["epoch"] for row in record["members"]] == sorted(place + 1 for place in order)


def test_frozen_tensors_are_no_members(make_trainer):
    frozen = FrozenPart(("0.weight", "0.bias"), (), ())
    trainer, _ = trained(make_trainer, epochs=3, average={"last": 2}, values={"frozen": frozen})
    assert all(name not in frozen.parameters for name in trainer.soup.members[0]["tensors"])
    assert len(trainer.soup.members) == 2


def test_epochs_that_swa_counts():
    assert [Average(swa=start).first(10) for start in (0.75, 0.5, 1, 4, 20)] == [8, 6, 1, 4, 10]


@pytest.mark.parametrize("average", [{"last": 2}, "greedy"], ids=str)
def test_what_is_reported_is_what_the_file_is(tmp_path, average):
    recipe = {
        "precision": "float32",
        "model": "tutorial/net_a",
        "data": {"source": "sklearn/digits", "image_size": 32, "batch_size": 16, "limit": 120, "workers": 0},
        "steps": [
            {"freeze": {"policy": "below", "module": "fc1"}},
            {"train": {"epochs": 3, "lr": 0.01, "average": average}},
        ],
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run = zoo.finetune(tmp_path / "recipe.yaml", output=tmp_path / "run", progress=Listener())
    (stage,) = json.loads((tmp_path / "run" / "report.json").read_text())["stages"]
    assert zoo.evaluate(run.checkpoint, device="cpu")["metrics"] == run.metrics
    assert stage["metrics"] == stage["average"]["metrics"] == pytest.approx(run.metrics, rel=1e-5)
    assert stage["freeze_proof"]["moved"] == []
    chosen = ", ".join(str(row["epoch"]) for row in stage["average"]["members"] if row["weight"])
    assert Train.row(stage)["epochs"] == f"3 (average of {chosen})"
    assert sum(row["weight"] for row in stage["average"]["members"]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"average": {"last": 2, "swa": 3}}, "train.average: one of last, greedy and swa"),
        ({"average": {}}, "train.average: one of last, greedy and swa"),
        ({"average": {"swa": 2.5}}, "swa: 2.5 is neither a share below 1 nor the number of an epoch"),
        ({"average": "greedy", "ema": 0.9}, "train.ema: average decides already which weights remain"),
        ({"average": "greedy", "keep": "best"}, "train.keep: average decides already which weights remain"),
    ],
)
def test_what_does_not_go_together_is_said_with_its_place(tmp_path, options, said):
    recipe = {"model": "tutorial/net_a", "data": "sklearn/digits", "steps": [{"train": {"epochs": 3, **options}}]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(InputError) as refused:
        zoo.check(tmp_path / "recipe.yaml").require()
    (problem,) = refused.value.problems
    assert said in problem.message
    assert problem.location.line > 1
