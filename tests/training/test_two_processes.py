"""Two processes on the CPU: they agree on a learning rate, a batch size, and the parts that memory leaves room for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from launching import torchrun
from safetensors.torch import load_file

NETWORK = """
    import os
    import torch
    from torch import nn

    class Limited(nn.Module):
        def __init__(self, num_classes: int = 10):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, 2)
            self.blocks = nn.Sequential(*(self.block() for _ in range(2)))
            self.fc = nn.Linear(8, num_classes)

        def block(self):
            return nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Tanh())

        def forward(self, images):
            features = self.blocks(self.stem(images)).mean((2, 3))
            rank = os.environ.get("RANK", "0")  # memory differs from one process to the next
            if self.training and rank == os.environ.get("BROKEN") and images.sum() > float(os.environ["FROM"]):
                features = features * float("nan")
            if self.training and len(images) > (int(os.environ.get("MOST", 1000)) if rank != "0" else 1000):
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self.fc(features)
"""


@pytest.fixture
def launched(plugins, tmp_path):
    plugins.write("acme", "[zoo.architectures]\nlimited = acme_net:Limited", acme_net=NETWORK)

    def launch(name: str, *steps, processes: int = 2, code: int = 0, **environment: str) -> dict:
        recipe = {
            "model": "acme/limited",
            "data": {"source": "sklearn/digits", "image_size": 16, "batch_size": 24, "limit": 100},
            "precision": "float32",
            "steps": list(steps),
        }
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        command = [sys.executable, *(torchrun(processes) if processes > 1 else []), "-m", "zoo", "finetune", str(path)]
        command += ["--output", str(tmp_path / name), "--device", "cpu", "--json"]
        paths = os.pathsep.join([str(plugins.folder), os.environ.get("PYTHONPATH", "")])
        known = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, **environment}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=known, timeout=400)
        assert done.returncode == code, done.stderr
        if code:
            return {"said": done.stderr}
        return json.loads(done.stdout) | {"said": done.stderr}

    return launch


def close(one: Path, other: Path) -> bool:
    mine, theirs = load_file(one / "model.safetensors"), load_file(other / "model.safetensors")
    return all(torch.allclose(tensor, theirs[name], atol=1e-5) for name, tensor in mine.items())


@pytest.mark.slow
def test_they_train_what_one_does(launched, tmp_path):
    """The rate found, the size chosen, and the blocks that are run again: with batch norms over all processes."""
    steps = (
        {"lr_finder": {"steps": 40, "start": 1e-3, "end": 10.0}},
        {"train": {"epochs": 1, "lr": "found", "optimizer": "SGD", "gradient_checkpointing": True}},
    )
    both, alone = launched("both", *steps), launched("alone", *steps, processes=1)
    for two, one in zip(both["stages"][0]["points"], alone["stages"][0]["points"], strict=True):
        assert two == pytest.approx(one, rel=1e-3)
    assert both["stages"][0]["suggestions"] == alone["stages"][0]["suggestions"]
    assert both["stages"][1]["checkpointed"] == 2
    assert close(tmp_path / "both", tmp_path / "alone")


@pytest.mark.slow
def test_they_agree_on_parts_and_batch_size(launched, tmp_path):
    """Where one process alone has no memory for its share, all of them train in the parts that it needs."""
    train = {"epochs": 1, "lr": 0.05, "optimizer": "SGD"}
    small = launched("small", {"train": train}, MOST="4")
    row = small["stages"][0]
    assert (row["parts"], row["out_of_memory"]) == (4, [{"step": 1, "parts": 4, "samples": 6}])
    assert "2 batch norms normalise by 6 samples at a time" in small["said"]
    assert row["epochs"][0]["steps"] == 5
    sized = launched("sized", {"train": {**train, "batch_size": "auto"}})
    assert sized["stages"][0]["batch_size"] == 64


@pytest.mark.slow
def test_the_batch_that_broke_training_is_kept_by_its_process(launched, tmp_path):
    """One process alone has a loss that is not finite: its own batch is kept, once, and both end."""
    train = {"epochs": 1, "lr": 0.05, "optimizer": "SGD"}
    said = launched("broken", {"train": train}, code=1, BROKEN="1", FROM="-1e9")["said"]
    folder = tmp_path / "broken" / "not_finite"
    record = json.loads((folder / "batch.json").read_text())
    assert "the loss is not finite at step 1" in said
    assert (record["optimizer_step"], record["process"], record["processes"]) == (1, 1, 2)
    assert len(record["samples"]) == 12
    assert load_file(folder / "batch.safetensors")["inputs"].shape[0] == 12
    assert record["weights"] is None  # the other process may be elsewhere, so nothing is trained again
