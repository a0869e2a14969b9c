"""`zoo.export`: files that give what torch gives, and nothing left behind where they do not."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import zoo
from zoo.errors import InputError, WorkError
from zoo.exporting import export as module
from zoo.exporting.formats import DESCRIPTION


def left(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.mark.slow
def test_pt2_takes_any_batch_and_says_what_it_is(checkpoint, photos, tmp_path):
    made = zoo.export(checkpoint, tmp_path / "m.pt2", data=photos)
    assert (made.agreement.changed, made.agreement.images, made.format) == (0, 6, "pt2")
    assert made.agreement.difference < 1e-5
    told = {DESCRIPTION: ""}
    program = torch.export.load(str(tmp_path / "m.pt2"), extra_files=told)
    images = torch.randn(3, 3, 48, 40)
    with torch.no_grad():
        assert torch.allclose(program.module()(images), zoo.load(checkpoint)(images), atol=1e-5)
    assert json.loads(told[DESCRIPTION])["classes"] == ["ant", "bee", "cat"]
    assert made.as_dict()["check"]["changed_by_class"]
    assert "changed labels: 0 of 6" in made.render()


@pytest.mark.slow
def test_a_model_in_memory_stays_as_it_is(network, tmp_path):
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    made = zoo.export(network, tmp_path / "m.pt2")
    assert "random inputs" in made.notes[0]
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_a_network_whose_answers_part_is_not_written(checkpoint, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(
        module, "runner_of", lambda path: lambda values: np.tile(np.float32([9, 0, 1]), (len(values), 1))
    )
    before = left(tmp_path)
    with pytest.raises(WorkError, match=r"does not give what torch gives: on 6 inputs . labels change"):
        zoo.export(checkpoint, tmp_path / "m.pt2", data=photos)
    assert left(tmp_path) == before


def test_what_is_there_is_kept_unless_asked(tmp_path):
    model = zoo.build("tutorial/mlp")
    (tmp_path / "m.pt2").write_text("mine")
    with pytest.raises(InputError, match=r"there already .replace it: --overwrite"):
        zoo.export(model, tmp_path / "m.pt2")
    assert (tmp_path / "m.pt2").read_text() == "mine"
    assert zoo.export(model, tmp_path / "m.pt2", overwrite=True).bytes == (tmp_path / "m.pt2").stat().st_size


def test_int8_may_move_the_values_of_a_regression_so_far():
    of_values = SimpleNamespace(task="regression")
    moved = module.Agreement(images=4, difference=0.2, largest=2.0)
    module._require(moved, of_values, int8=True, limit=0.1)
    with pytest.raises(
        WorkError, match=r"outputs differ by up to 0.2 .10.0% of .* at most 5.0% .*--max-changed 0.1[;)]"
    ):
        module._require(moved, of_values, int8=True, limit=0.05)


def test_a_network_that_gives_no_numbers_is_not_exported():
    with pytest.raises(WorkError, match=r"no number .nan. for 1 of 4 inputs"):
        module._require(
            module.Agreement(images=4, undefined=1), SimpleNamespace(task="classification"), int8=False, limit=0.05
        )


@pytest.mark.parametrize(
    ("file", "options", "said"),
    [
        ("m.pth", {}, "m.onnx or .*m.pt2"),
        ("m.pt2", {"int8": True}, "int8 is onnxruntime's"),
        ("m.onnx", {"max_changed": 0.1}, "belongs to int8"),
        ("no/m.pt2", {}, "mkdir -p"),
        ("m.onnx", {"int8": True}, "int8 needs training images"),
    ],
)
def test_requests_that_cannot_be_met(checkpoint, tmp_path, file, options, said):
    with pytest.raises(InputError, match=said):
        zoo.export(checkpoint, tmp_path / file, **options)
    assert left(tmp_path) == ["model.safetensors"]


def test_features_have_no_preprocessing(tmp_path):
    model = zoo.build("tutorial/mlp")
    with pytest.raises(InputError, match="features, not images"):
        zoo.export(model, tmp_path / "m.pt2", preprocess=True)


def test_a_network_that_looks_at_values_is_refused(tmp_path):
    with pytest.raises(WorkError, match="tutorial/chimera cannot be exported"):
        zoo.export(zoo.build("tutorial/chimera"), tmp_path / "m.pt2")
    assert left(tmp_path) == []


@pytest.mark.slow
def test_onnx_with_preprocessing_and_int8(checkpoint, photos, tmp_path):
    import onnx
    import onnxruntime

    made = zoo.export(checkpoint, tmp_path / "m.onnx", preprocess=True, softmax=True, data=photos)
    assert (made.agreement.changed, made.agreement.pixels) == (0, 0)
    assert made.agreement.pixels_compared == 6 * 3 * 48 * 40
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    told = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert told["classes"] == ["ant", "bee", "cat"]
    assert told["preprocessing"]["size"] == [48, 40]
    assert session.get_inputs()[0].shape == ["batch", "height", "width", 3]
    rows = zoo.predict(checkpoint, photos, top=1)
    from PIL import Image

    for row in rows:
        pixels = np.asarray(Image.open(row["image"]).convert("RGB"))[None]
        (answer,) = session.run(None, {"images": pixels})[0]
        assert told["classes"][answer.argmax()] == row["predictions"][0]["label"]
        assert answer.max() == pytest.approx(row["predictions"][0]["probability"], abs=1e-5)
    small = zoo.export(checkpoint, tmp_path / "m8.onnx", int8=True, max_changed=1.0, data=photos)
    assert small.calibration == 6
    assert small.bytes < 0.7 * made.bytes
    kinds = {node.op_type for node in onnx.load(tmp_path / "m8.onnx").graph.node}
    assert "QuantizeLinear" in kinds
    assert 0 < small.agreement.relative < 0.5
    with pytest.raises(WorkError, match="int8 changes too much"):
        module._require(module.Agreement(images=4, changed=3), module.load(checkpoint), int8=True, limit=0.5)
