"""What a train step's parts agree on: inputs in the job's layout, unfrozen tensors, and values copied in place."""

import pytest
import torch
from torch import nn

from zoo.errors import WorkError
from zoo.model.freezing import freeze
from zoo.steps.train import Train
from zoo.training.job import Job, arranged, fill, unfrozen_tensors


def job(**values) -> Job:
    made = {"model": nn.Identity(), "train": None, "validation": None, "options": Train(epochs=1)}
    return Job(**made, task="classification", outputs=2, device=torch.device("cpu"), **values)


def test_inputs_become_arguments_in_the_jobs_layout():
    images, tokens = torch.randn(2, 3, 4, 5), torch.randn(2, 7, 3)
    (alone,) = arranged(images, job())
    assert torch.equal(alone, images)
    one, other = arranged((images, tokens), job(memory_format=torch.channels_last))
    assert one.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(one, images)
    assert other.is_contiguous()


def test_float32_training_takes_bfloat16_features_in_float32():
    features = (torch.randn(2, 3).bfloat16(), torch.tensor([1, 2]))
    assert [tensor.dtype for tensor in arranged(features, job())] == [torch.float32, torch.int64]
    assert arranged(features, job(precision="bfloat16"))[0].dtype == torch.bfloat16


def test_unfrozen_tensors_are_the_models_own():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    part = freeze(model, ["0", "1"])
    unfrozen = unfrozen_tensors(model, part)
    assert set(unfrozen) == {"2.weight", "2.bias"}
    fill(unfrozen, {"2.bias": torch.tensor([7.0])})
    assert model[2].bias.item() == 7.0


@pytest.mark.parametrize("values", [{"other": torch.zeros(2)}, {"weight": torch.zeros(3)}], ids=["name", "shape"])
def test_values_that_do_not_fit_are_an_error(values):
    with pytest.raises(
        WorkError, match=r"the resume state does not fit the model at (other|weight) .*without --resume"
    ):
        fill({"weight": torch.zeros(2)}, values)
