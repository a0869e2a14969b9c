"""`zoo.embed`: one row an image in each format, and no more than a batch in memory."""

import json
import weakref

import numpy as np
import pytest
import torch
from safetensors import safe_open

import zoo
from zoo.data import samples
from zoo.errors import InputError


def read(path):
    """(features, targets, images) of a file."""
    if path.suffix == ".npz":
        with np.load(path) as file:
            return file["features"], file["targets"], file["images"].tolist()
    if path.suffix == ".safetensors":
        with safe_open(path, "np") as file:
            told = json.loads(file.metadata()["images"])
            return file.get_tensor("features"), file.get_tensor("targets"), told
    from pyarrow import parquet

    table = parquet.read_table(path)
    shape = json.loads(table.schema.metadata[b"shape"])
    features = np.stack(table["features"].to_numpy()).reshape(-1, *shape)
    assert table["label"].to_pylist() == [path.split("/")[-2] for path in table["image"].to_pylist()]
    return features, table["target"].to_numpy(), table["image"].to_pylist()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".parquet"])
def test_every_format_has_features_paths_and_labels(checkpoint, photos, tmp_path, suffix):
    made = zoo.embed(checkpoint, photos, tmp_path / f"e{suffix}", module="layer2", batch_size=5)
    features, targets, images = read(tmp_path / f"e{suffix}")
    assert features.shape == (12, *made.shape)
    assert images == sorted(map(str, photos.rglob("*.png")))
    assert targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    model, seen = zoo.load(checkpoint), []
    model.layer2.register_forward_hook(lambda module, given, output: seen.append(output))
    zoo.predict(model, [images[7]])
    assert np.allclose(features[7], seen[0][0].numpy(), rtol=1e-3, atol=1e-4)


def test_images_without_classes_have_the_label_minus_one(checkpoint, photos, tmp_path):
    made = zoo.embed(checkpoint, photos / "ant", tmp_path / "e.npz")
    features, targets, images = read(tmp_path / "e.npz")
    assert (made.images, made.module, len(features), len(images)) == (4, "the input of fc", 4, 4)
    assert targets.tolist() == [-1] * 4


def test_one_batch_is_in_memory(checkpoint, photos, tmp_path, monkeypatch):
    alive, most = weakref.WeakSet(), []
    original = samples.image_for

    def counted(*given):
        image = original(*given)
        alive.add(image)
        most.append(len(alive))
        return image

    monkeypatch.setattr(samples, "image_for", counted)
    zoo.embed(checkpoint, photos, tmp_path / "e.npz", batch_size=2)
    assert len(most) == 12
    assert max(most) <= 3


@pytest.mark.parametrize(
    ("named", "file", "options", "said"),
    [
        ("timm/test_resnet", "e.npz", {}, "--weights TAG"),
        (None, "e.csv", {}, "written as safetensors, npz or parquet"),
        (None, "e.npz", {"module": "layer9"}, "did you mean layer"),
        (None, "e.npz", {"part": "test"}, "there is train"),
        (None, "e.npz", {"weights": "x"}, "leave out --weights"),
    ],
)
def test_requests_that_cannot_be_met(checkpoint, photos, tmp_path, named, file, options, said):
    with pytest.raises(InputError, match=said):
        zoo.embed(named or checkpoint, photos, tmp_path / file, **options)
    assert not (tmp_path / file).exists()


def test_a_model_in_memory_and_data_in_memory(network, tmp_path):
    data = [(torch.randint(0, 256, (3, 50, 50), dtype=torch.uint8), place % 2) for place in range(4)]
    made = zoo.embed(network, data, tmp_path / "e.safetensors")
    features, targets, images = read(tmp_path / "e.safetensors")
    assert (made.images, features.shape[0], targets.tolist(), images) == (4, 4, [0, 1, 0, 1], ["0", "1", "2", "3"])
    with pytest.raises(InputError, match="there already"):
        zoo.embed(network, data, tmp_path / "e.safetensors")
