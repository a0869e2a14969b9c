"""Batch norm over the batch of all processes: what one process with that batch computes, gradients included."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import distributed, multiprocessing, nn
from torch.nn import functional as F

from zoo.training import sync_batch_norm
from zoo.training.sync_batch_norm import SyncBatchNorm


@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 6), (4, 3, 5, 2)])
@pytest.mark.parametrize("affine", [True, False])
def test_alone_it_is_torchs_own(monkeypatch, shape, affine):
    monkeypatch.setattr(sync_batch_norm.distributed, "all_reduce", lambda total: None)
    torch.manual_seed(0)
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}[len(shape)]
    mine, its = kind(3, affine=affine, momentum=0.3), kind(3, affine=affine, momentum=0.3)
    inputs = [torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3 + 2 for _ in range(2)]
    for values in inputs:
        values.requires_grad_(True)
    with SyncBatchNorm():
        answer = mine(inputs[0])
        assert torch.equal(mine.eval()(inputs[0]), F.batch_norm(inputs[0], mine.running_mean, mine.running_var,
                                                               mine.weight, mine.bias, False, 0.3, 1e-5))  # fmt: skip
    expected = its(inputs[1])
    for values in (answer, expected):
        (values * torch.arange(values.numel()).reshape(shape)).sum().backward()
    assert torch.allclose(answer, expected, atol=1e-5)
    assert torch.allclose(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-4)
    for name, value in its.state_dict().items():
        assert torch.allclose(mine.state_dict()[name], value, atol=1e-6), name
    half = mine.train()
    with SyncBatchNorm():
        assert half(inputs[0].bfloat16()).dtype == torch.bfloat16


def batch() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=3).train()  # timm's own norms, with their activations
    return model, torch.randn(7, 3, 32, 32), torch.arange(7) % 3


def one_of_two(rank: int, folder: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    model, images, targets = batch()
    parallel = nn.parallel.DistributedDataParallel(model)
    with SyncBatchNorm():
        outputs = parallel(images[rank::2])  # four samples, and three
    own = targets[rank::2]
    (F.cross_entropy(outputs, own) * len(own) * 2 / 7).backward()
    if rank == 0:
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        torch.save((gradients, model.state_dict()), f"{folder}/found")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_gradients_and_statistics_of_one(tmp_path):
    multiprocessing.spawn(one_of_two, (str(tmp_path),), nprocs=2)
    gradients, state = torch.load(tmp_path / "found")
    model, images, targets = batch()
    F.cross_entropy(model(images), targets).backward()
    for name, parameter in model.named_parameters():
        assert (gradients[name] - parameter.grad).abs().max() <= 1e-4 * parameter.grad.abs().max() + 1e-8, name
    for name, value in model.state_dict().items():
        assert torch.allclose(state[name], value, atol=1e-6), name
