"""docs/from-tutorial-to-recipe.md: its tables of losses, layers and files hold what is computed, by hand and by zoo."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

import zoo
from zoo.errors import InputError
from zoo.model.surgeries import append
from zoo.training.losses import make_loss
from zoo.training.metrics import make_metrics


@pytest.mark.kind("numbers")
def test_the_table_of_losses_is_right(pair, by_hand, page):
    hand = by_hand(pair)
    table = re.findall(r"^\| `(.+?)` \| `(.+?)` \| ([\d.]+) \|$", page.text, re.MULTILINE)
    assert [round(hand[name].item(), 4) for name in ("l1", "l1_sum", "mse", "cross_entropy")] == [
        float(value) for _, _, value in table
    ]
    for loss, metric, value in table:
        classes = loss == "cross_entropy"
        task = "classification" if classes else "regression"
        answers = torch.tensor([[0.1, 0.2, 0.3]]) if classes else hand["answers"]
        targets = torch.tensor([1]) if classes else hand["targets"]
        assert round(make_loss(yaml.safe_load(loss), task)(answers, targets).item(), 4) == float(value)
        measured = make_metrics([yaml.safe_load(metric)], task, answers.shape[-1])
        measured.update(answers, targets)
        assert [round(number, 4) for number in measured.compute().values()] == [float(value)]


@pytest.mark.kind("modules")
def test_the_table_of_convolution_and_pooling_is_right(pair, by_hand, page):
    hand = by_hand(pair)
    table = dict(re.findall(r"^\| `(.+?)` \| `(\[\[.+\]\])` \|$", page.text, re.MULTILINE))
    assert table.keys() == hand["numbers"].keys()
    for written, numbers in table.items():
        name, arguments = next(iter(yaml.safe_load(written).items()))
        channels = {"in_channels": 1} if name == "Conv2d" else {}
        model = append(nn.Sequential(), path="", module={name: {**arguments, **channels}})
        for parameter in model.parameters():
            parameter.data = hand["kernel"]
        with torch.no_grad():
            assert model(hand["image"]).squeeze(1).tolist() == [yaml.safe_load(numbers)]
        assert hand["numbers"][written].squeeze(1).tolist() == [yaml.safe_load(numbers)]


@pytest.mark.kind("files")
def test_the_table_of_files_is_right(pair, workshop, by_hand, page):
    by_hand(pair)
    table = re.findall(r"^\| `(\S+)` \| (.+?) \| (yes|no) \|$", page.text, re.MULTILINE)
    assert len(table) == 5
    for file, kind, converts in table:
        assert zoo.inspect(file)["kind"] == kind
        destination = f"{file}.safetensors"
        if converts == "yes":
            zoo.convert(file, destination)
            assert zoo.inspect(destination)["totals"] == zoo.inspect(file)["totals"]
            content, written = torch.load(file), load_file(destination)
            kept = dict(enumerate(content)) if isinstance(content, list) else content
            kept = kept if isinstance(kept, dict) else {"tensor": kept}
            assert {str(name) for name in kept} == written.keys()
            assert all(torch.equal(tensor, written[str(name)]) for name, tensor in kept.items())
        else:
            with pytest.raises(InputError, match="pickled model"):
                zoo.convert(file, destination)
            assert not Path(destination).exists()
