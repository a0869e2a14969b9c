"""What zoo does not read is called by its name, with what to do about it."""

import zipfile

import pytest
import torch
from torch import nn

from zoo.errors import InputError
from zoo.formats import open_source


def archive(path, *names):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "{}")
    return path


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("m.keras", ("metadata.json", "config.json", "model.weights.h5"), r"a Keras model .*np\.savez"),
        ("m.pt", ("m/data.pkl", "m/constants.pkl", "m/code/m.py"), r"TorchScript archive.*torch\.jit\.load"),
        ("m.zip", ("model.pth", "README"), r"a zip archive with weights in it: model\.pth \(unpack it first: unzip"),
        ("m.zip", ("a.txt",), r"a zip archive of something else: a\.txt"),
    ],
)
def test_archives(name, entries, message, tmp_path):
    with pytest.raises(InputError, match=message):
        open_source(archive(tmp_path / name, *entries))


@pytest.mark.slow  # torch.export takes its time
def test_exported_programs_and_that_the_advice_works(tmp_path, same):
    model = nn.Linear(3, 2)
    torch.export.save(torch.export.export(model, (torch.ones(1, 3),)), tmp_path / "m.pt2")
    with pytest.raises(InputError, match=r"a torch\.export archive") as caught:
        open_source(tmp_path / "m.pt2")
    advice = caught.value.problems[0].suggestion
    assert advice == "torch.save(dict(torch.export.load(FILE).state_dict), 'weights.pth')"
    torch.save(dict(torch.export.load(tmp_path / "m.pt2").state_dict), tmp_path / "weights.pth")
    same(open_source(tmp_path / "weights.pth"), dict(model.state_dict()))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("m.onnx", b"\x08\x07\x12\x07pytorch", r"an ONNX model.*np\.savez"),
        ("m.mat", b"MATLAB 5.0 MAT-file", "MATLAB"),
        ("m.tflite", b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
        ("flax_model.msgpack", b"\x82\xa6params", "Flax"),
        ("model.ckpt.data-00000-of-00001", b"\1\2\3", "a part of a TensorFlow checkpoint"),
        ("model.7z", b"7z\xbc\xaf\x27\x1c", "unpack it first"),
        ("m.xyz", b"anything", "of no kind that zoo reads"),
    ],
)
def test_files(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / name)


def test_deepspeed_folders_name_the_file_to_take(tmp_path, same):
    state = {"fc.weight": torch.randn(2, 3)}
    (tmp_path / "run" / "global_step1").mkdir(parents=True)
    (tmp_path / "run" / "latest").write_text("global_step1")
    torch.save({"module": state, "ds_version": "0.16"}, tmp_path / "run/global_step1/mp_rank_00_model_states.pt")
    with pytest.raises(InputError, match=r"DeepSpeed checkpoint.*global_step1.*zero_to_fp32\.py") as caught:
        open_source(tmp_path / "run")
    named = caught.value.problems[0].suggestion.rpartition("without ZeRO-3 ")[2].removesuffix(" has all of them")
    same(open_source(named), state)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("saved_model.pb", "keras_metadata.pb"), "SavedModel"),
        (("checkpoint", "model.ckpt.index", "model.ckpt.data-00000-of-00001"), "TensorFlow checkpoint"),
        (("_CHECKPOINT_METADATA", "manifest.ocdbt"), "Orbax"),
        (("flax_model.msgpack", "config.json"), r"it has flax_model\.msgpack"),
        (("pytorch_model_fsdp_0/.metadata",), r"checkpoints of torch\.distributed: pytorch_model_fsdp_0 \(name one"),
        (("README.md",), r"contains no model\.safetensors"),
    ],
)
def test_folders(files, message, tmp_path):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=message):
        open_source(tmp_path)
