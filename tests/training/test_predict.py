"""Class names and probabilities for images, the likeliest first, past those that cannot be read."""

import weakref

import pytest
import torch
from PIL import Image

from zoo.checkpoint.save import save_checkpoint
from zoo.data.decode import image_for, to_image
from zoo.data.transforms import fit, normalise
from zoo.errors import InputError
from zoo.model.build import build
from zoo.training import predict as module
from zoo.training.labels import output_names
from zoo.training.predict import predict


@pytest.fixture(scope="module")
def assembly():
    torch.manual_seed(0)
    return build("timm/test_resnet", {"num_classes": 4})


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "deeper").mkdir(parents=True)
    for number, name in enumerate(("a.png", "b.jpg", "deeper/c.png")):
        Image.new("RGB", (40, 30), (80 * number, 255 - 80 * number, 40)).save(folder / name)
    return folder


def saved(assembly, path, **values):
    before = {name: getattr(assembly, name) for name in values}
    for name, value in values.items():
        setattr(assembly, name, value)
    save_checkpoint(assembly, path)
    for name, value in before.items():
        setattr(assembly, name, value)
    return path


def scores(assembly, path) -> torch.Tensor:
    preprocessing = assembly.preprocessing
    image = normalise(fit(to_image(path, 3), preprocessing)[None], preprocessing)
    with torch.inference_mode():
        return assembly.model.eval()(image)[0]


def test_labels_and_probabilities_are_the_models(assembly, images, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BATCH", 2)  # more than one batch
    classes = ("ant", "bee", "cat", "dog")
    checkpoint = saved(assembly, tmp_path / "model.safetensors", classes=classes)
    rows = predict(checkpoint, [images], 3, device="cpu")
    assert [row["image"] for row in rows] == [str(images / name) for name in ("a.png", "b.jpg", "deeper/c.png")]
    for row in rows:
        expected = scores(assembly, row["image"]).softmax(0).topk(3)
        assert [entry["label"] for entry in row["predictions"]] == [classes[index] for index in expected.indices]
        found = [entry["probability"] for entry in row["predictions"]]
        assert found == pytest.approx(expected.values.tolist(), abs=1e-6)


def test_without_class_names_they_are_numbers_and_multilabel_is_by_sigmoid(assembly, images, tmp_path):
    checkpoint = saved(assembly, tmp_path / "model.safetensors", task="multilabel")
    (row,) = predict(checkpoint, [images / "a.png"], 99, device="cpu")
    found = {entry["label"]: entry["probability"] for entry in row["predictions"]}
    expected = scores(assembly, images / "a.png").sigmoid()
    assert found == pytest.approx({str(index): value for index, value in enumerate(expected.tolist())}, abs=1e-6)


def test_a_regression_has_values(assembly, images, tmp_path):
    checkpoint = saved(assembly, tmp_path / "model.safetensors", task="regression")
    (row,) = predict(checkpoint, [images / "a.png"], device="cpu")
    assert [entry["value"] for entry in row["predictions"]] == pytest.approx(
        scores(assembly, images / "a.png").tolist(), abs=1e-5
    )
    assert [entry["label"] for entry in row["predictions"]] == [f"value {place}" for place in (1, 2, 3, 4)]
    names = ("width", "height", "depth", "weight")
    checkpoint = saved(assembly, tmp_path / "named.safetensors", task="regression", classes=names)
    (row,) = predict(checkpoint, [images / "a.png"], device="cpu")
    assert tuple(entry["label"] for entry in row["predictions"]) == names


def test_one_value_without_a_name_is_a_value():
    assert [output_names((), 1, task) for task in ("regression", "classification")] == [("value",), ("0",)]
    assert output_names(("a", "b"), 1, "regression") == ("value",)


def test_an_image_that_cannot_be_read_does_not_stop_the_others(assembly, images, tmp_path):
    checkpoint = saved(assembly, tmp_path / "model.safetensors")
    (images / "a.png").write_bytes(b"nothing")
    rows = predict(checkpoint, [images / "a.png", images / "b.jpg"], device="cpu")
    assert "cannot decode image" in rows[0]["error"]
    assert "predictions" not in rows[0]
    assert len(rows[1]["predictions"]) == 4


def test_paths_without_images_are_errors(tmp_path):
    with pytest.raises(InputError, match="contains no images"):
        predict("none.safetensors", [tmp_path])
    with pytest.raises(InputError, match="there is no image"):
        predict("none.safetensors", [tmp_path / "none.png"])
    with pytest.raises(InputError, match="name image files or folders"):
        predict("none.safetensors", [])


def test_labels_of_a_multilabel_network_are_those_above_the_threshold(assembly, images, tmp_path):
    checkpoint = saved(assembly, tmp_path / "model.safetensors", task="multilabel", classes=("a", "b", "c", "d"))
    likely = scores(assembly, images / "a.png").sigmoid()
    edge = float(likely.sort().values[1:3].mean())
    (row,) = predict(checkpoint, [images / "a.png"], 1, threshold=edge, device="cpu")
    assert row["labels"] == ["abcd"[place] for place in likely.argsort(descending=True)[:2]]
    assert len(row["predictions"]) == 1
    (usual,) = predict(checkpoint, [images / "a.png"], device="cpu")
    assert set(usual["labels"]) == {"abcd"[place] for place in range(4) if likely[place] >= 0.5}


def test_one_batch_of_images_is_in_memory(assembly, images, tmp_path, monkeypatch):
    alive, most = weakref.WeakSet(), []

    def counted(*arguments):
        image = image_for(*arguments)
        alive.add(image)
        most.append(len(alive))
        return image

    monkeypatch.setattr(module, "BATCH", 4)
    monkeypatch.setattr(module, "image_for", counted)
    checkpoint = saved(assembly, tmp_path / "model.safetensors")
    asked = iter([bytes(images / "a.png")] * 30)
    rows = module.open_predictor(checkpoint, device="cpu").rows(module.listed_images(asked))
    next(rows)
    assert len(most) == 4  # nothing is read before it is needed
    assert len(list(rows)) == 29
    assert max(most) <= 4


def test_every_path_that_leads_nowhere_is_named(tmp_path):
    with pytest.raises(InputError, match=r"one.png\n.*two.png"):
        module.find_images([tmp_path / "one.png", tmp_path / "two.png"])
