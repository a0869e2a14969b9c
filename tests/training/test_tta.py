"""Test-time augmentation: which views there are, what their average is, and one number wherever it is read."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.transforms.v2 import functional

import zoo
from zoo.contracts import Data, Preprocessing
from zoo.data.open_data import open_data
from zoo.data.transforms import fit
from zoo.errors import InputError
from zoo.given import given, name_of
from zoo.recipe.options import DataOptions
from zoo.training.callbacks import Listener
from zoo.training.tta import Views, averaged

IMAGES = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def views(*words, images=IMAGES, size=(8, 8)):
    return list(Views.of(words).views(images, size))


def test_without_words_the_image_alone():
    (alone,) = views()
    assert torch.equal(alone, IMAGES)
    assert not Views.of(None)
    assert Views.of("flip") == Views.of(["flip"])


def test_what_each_word_makes():
    for word, expected in {
        "flip": [IMAGES, IMAGES.flip(-1)],
        "vertical_flip": [IMAGES, IMAGES.flip(-2)],
        "rotations": [IMAGES.rot90(turns, (-2, -1)) for turns in range(4)],
    }.items():
        assert all(torch.equal(*pair) for pair in zip(views(word), expected, strict=True)), word
    crops = views("five_crop", size=(6, 6))
    assert all(torch.equal(*pair) for pair in zip(crops, functional.five_crop(IMAGES, [6, 6]), strict=True))
    assert len(views("flip", "rotations")) == 8
    ten = functional.ten_crop(IMAGES, [6, 6])
    made = views("flip", "five_crop", size=(6, 6))  # crops are made first, in whatever order they are written
    assert {tuple(view.flatten().tolist()) for view in made} == {tuple(view.flatten().tolist()) for view in ten}


def test_the_central_crop_is_the_image_as_it_is_prepared_without():
    usual = Preprocessing(size=(224, 224), crop_fraction=0.875)
    image = torch.randint(0, 256, (3, 300, 400), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    prepared = fit(image, Views.of("five_crop").preprocessing(usual))
    assert prepared.shape == (3, 256, 256)
    assert torch.equal(list(Views.of("five_crop").views(prepared, usual.size))[4], fit(image, usual))
    assert Views.of("flip").preprocessing(usual) == usual


def test_probabilities_and_values_are_averaged():
    outputs = [torch.randn(5, 4, generator=torch.Generator().manual_seed(seed)) * 5 for seed in range(3)]
    classes = averaged(outputs, "classification")
    assert torch.allclose(classes.softmax(-1), torch.stack([each.softmax(-1) for each in outputs]).mean(0), atol=1e-6)
    targets = torch.tensor([0, 1, 2, 3, 0])
    mean = torch.stack([each.softmax(-1) for each in outputs]).mean(0)
    assert torch.allclose(F.cross_entropy(classes, targets), F.nll_loss(mean.log(), targets), atol=1e-6)
    labels = averaged(outputs, "multilabel")
    assert torch.allclose(labels.sigmoid(), torch.stack([each.sigmoid() for each in outputs]).mean(0), atol=1e-6)
    assert torch.equal(averaged(outputs, "regression"), torch.stack(outputs).mean(0))
    sure = averaged([torch.tensor([[200.0, -200.0]])] * 2, "multilabel")
    assert sure.isfinite().all()


def test_a_batch_is_answered_by_all_views():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    answers = Views.of("flip").outputs(model, IMAGES, "regression", (8, 8))
    assert torch.allclose(answers, (model(IMAGES) + model(IMAGES.flip(-1))) / 2)
    assert torch.equal(Views().outputs(model, IMAGES, "classification", (8, 8)), model(IMAGES))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("flips", r"test-time augmentation has no 'flips' \(did you mean flip\?\)"),
        (["flip", "crop"], "has no 'crop'"),
        (["flip", "flip"], "flip and flip names the same views twice"),
    ],
)
def test_mistakes_are_explained(words, said):
    with pytest.raises(InputError, match=said):
        Views.of(words)


def test_quarter_turns_are_of_squares():
    with pytest.raises(InputError, match="rotations need square images; the network takes 32 x 48"):
        Views.of("rotations").preprocessing(Preprocessing(size=(32, 48)))


def test_a_number_is_the_same_wherever_it_is_read(tmp_path):
    """The step's record, and the checkpoint measured again; its own numbers are without views."""
    recipe = {
        "model": "tutorial/fashion_mlp",
        "data": {"source": "sklearn/digits", "limit": 40, "image_size": 28, "workers": 0},
        "steps": [{"train": {"epochs": 1}}, {"evaluate": {"tta": ["five_crop", "flip"]}}],
    }
    run = zoo.finetune(recipe, output=tmp_path / "run", progress=Listener(), device="cpu")
    record = run.report["stages"][-1]
    again = zoo.evaluate(run.checkpoint, tta=["five_crop", "flip"], device="cpu")
    assert again["metrics"] == record["metrics"]
    assert again["intervals"] == record["intervals"]
    assert again["tta"] == record["tta"]
    assert zoo.evaluate(run.checkpoint, device="cpu")["metrics"] == run.report["metrics"] != record["metrics"]
    ten = zoo.predict(run.checkpoint, [torch.zeros(3, 30, 30, dtype=torch.uint8)], tta="rotations", device="cpu")
    assert len(ten[0]["predictions"]) == 5


def test_features_have_no_views():
    labelled = [(torch.rand(5), place % 2) for place in range(8)]
    name = name_of(Data([], None))
    with given({"datasets": {name: lambda: Data(labelled, labelled, inputs="features")}}):
        data = open_data(DataOptions(source=name, batch_size=2))
    with pytest.raises(InputError, match=r"test-time augmentation changes images, and .* contains features"):
        Views.of("flip").data(data)
