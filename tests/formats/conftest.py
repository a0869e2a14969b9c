"""What the tests of sources share: a small network's state dict with no two values alike, and a way to save."""

import pytest
import torch
from torch import nn


@pytest.fixture
def state():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    for name, tensor in network.state_dict().items():
        tensor.copy_(torch.rand(tensor.shape) * 5 + len(name))
    return network.state_dict()


@pytest.fixture(params=["zip", "legacy"])
def save(request, tmp_path):
    """Saves an object in both of torch.save's formats; returns the path."""

    def write(content, name="file.pth"):
        path = tmp_path / name
        torch.save(content, path, _use_new_zipfile_serialization=request.param == "zip")
        return path

    return write


@pytest.fixture
def same():
    """Whether a source holds exactly these tensors: names, dtypes, shapes and bits."""

    def check(source, expected):
        assert list(source.entries) == list(expected)
        for name, tensor in expected.items():
            read = source.tensor(name)
            assert (read.dtype, read.shape) == (tensor.dtype, tensor.shape), name
            bits = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            assert torch.equal(read.reshape(-1).view(torch.uint8), bits), name
            span = source.byte_range(name)
            if span is not None:
                with open(span.path, "rb") as file:
                    file.seek(span.offset)
                    assert file.read(span.nbytes) == bits.numpy().tobytes(), name

    return check
