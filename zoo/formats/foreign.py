"""Names what zoo does not read: other formats, archives with weights in them, folders of other tools; and says what to
type instead."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from zoo.errors import InputError, listed

WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".pkl", ".npz", ".h5", ".onnx", ".msgpack")
"""Suffixes of files of weights, whether zoo reads them or not."""


@dataclass(frozen=True)
class Foreign:
    """What something is, and what to do about it."""

    what: str
    advice: str | None = None

    def refusal(self, location: str) -> InputError:
        return InputError(f"{location} is {self.what}", suggestion=self.advice)


_UNPACK = "unpack it first"
_KERAS = (
    "in an environment with keras: np.savez('weights.npz', **{v.path: v.numpy() for v in "
    "keras.saving.load_model(FILE).weights})"
)
_ONNX = (
    "in an environment with onnx: np.savez('weights.npz', **{t.name: onnx.numpy_helper.to_array(t) for t in "
    "onnx.load(FILE).graph.initializer})"
)
_TENSORFLOW = (
    "in an environment with tensorflow: r = tf.train.load_checkpoint(FILE); np.savez('weights.npz', **{n: "
    "r.get_tensor(n) for n in r.get_variable_to_shape_map()})"
)
_MSGPACK = (
    "in an environment with flax: np.savez('weights.npz', **flax.traverse_util.flatten_dict("
    "flax.serialization.msgpack_restore(open(FILE, 'rb').read()), sep='/'))"
)
_OLD_TAR = (
    "If torch before 0.1.11 wrote it, only running its pickle can read it: where you trust it, "
    "torch.save(torch.load(FILE, weights_only=False), 'new.pth')"
)

_STARTS = (
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file it points to", "fetch that with `git lfs pull`"),
    (0, b"<!DOCTYPE", "a web page; the download went wrong", None),
    (0, b"<!doctype", "a web page; the download went wrong", None),
    (0, b"<html", "a web page; the download went wrong", None),
    (0, b"\x89HDF", "an HDF5 file (Keras); zoo does not read those", _KERAS),
    (0, b"GGUF", "a GGUF file (llama.cpp); zoo does not read those", None),
    (0, b"MATLAB 5.0", "a MATLAB file (.mat); zoo does not read those", "np.savez what scipy.io.loadmat(FILE) gives"),
    (4, b"TFL3", "a TensorFlow Lite model; zoo does not read those", "convert what it was made from"),
    (
        0,
        b"\x12\x01\0\0\0\0\0\0",
        "a file of MXNet parameters; zoo does not read those",
        "np.savez what mx.nd.load gives",
    ),
    (0, b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (0, b"BZh", "compressed with bzip2", _UNPACK),
    (0, b"\xfd7zXZ", "compressed with xz", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstandard", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (257, b"ustar", "a tar archive", _OLD_TAR),
)

_SUFFIXES = {
    ".onnx": Foreign("an ONNX model; zoo does not read those", _ONNX),
    ".msgpack": Foreign("a file of Flax parameters (msgpack); zoo does not read those", _MSGPACK),
    ".pb": Foreign("a TensorFlow graph (protocol buffer); zoo does not read those", "convert the checkpoint it is of"),
    ".tflite": Foreign("a TensorFlow Lite model; zoo does not read those", "convert what it was made from"),
    ".caffemodel": Foreign("a Caffe model; zoo does not read those", "np.savez its blobs with caffe"),
    ".mlmodel": Foreign("a Core ML model; zoo does not read those", "convert what it was made from"),
    ".t7": Foreign("a file of Lua Torch; zoo does not read those", "np.savez what torchfile.load(FILE) gives"),
    ".index": Foreign("the index of a TensorFlow checkpoint; zoo does not read those", _TENSORFLOW),
    ".engine": Foreign("a TensorRT engine, a program that has no weights to take", "convert what it was made from"),
    ".distcp": Foreign("a part of a torch.distributed.checkpoint folder", "name the folder"),
}


def foreign_start(start: bytes) -> Foreign | None:
    """What the file is that begins so; None where its kind may be one that zoo reads."""
    for place, magic, what, advice in _STARTS:
        if start[place : place + len(magic)] == magic:
            return Foreign(what, advice)
    return None


def foreign_name(path: Path) -> Foreign | None:
    """What a file is by its name, where nothing in it says so."""
    if re.search(r"\.data-\d{5}-of-\d{5}$", path.name):
        return Foreign("a part of a TensorFlow checkpoint; zoo does not read those", _TENSORFLOW)
    return _SUFFIXES.get(path.suffix)


def foreign_zip(entries: Collection[str]) -> Foreign | None:
    """What a zip file with these entries is, where neither NumPy nor torch.save wrote it."""
    last = {name.rpartition("/")[2] for name in entries}
    if "constants.pkl" in last and "data.pkl" in last:
        return Foreign(
            "a TorchScript archive: a program with its weights, which only torch.jit.load reads",
            "torch.save(torch.jit.load(FILE, map_location='cpu').state_dict(), 'weights.pth')",
        )
    if "archive_format" in last or "serialized_exported_program.json" in last:
        return Foreign(
            "a torch.export archive (.pt2): a program with its weights, which only torch.export.load reads",
            "torch.save(dict(torch.export.load(FILE).state_dict), 'weights.pth')",
        )
    if "config.json" in last and any(name.endswith(".weights.h5") for name in last):
        return Foreign("a Keras model (.keras); zoo does not read those", _KERAS)
    if "data.pkl" in last or any(name.endswith(".npy") for name in entries):
        return None
    if inside := [name for name in entries if name.endswith(WEIGHTS)]:
        return Foreign(
            f"a zip archive with weights in it: {listed(inside)}", f"unpack it first: unzip FILE {inside[0]!r}"
        )
    return Foreign(f"a zip archive of something else: {listed(entries)}")


def foreign_folder(folder: Path) -> Foreign | None:
    """What a folder of another tool is; None where it is none that is known."""
    names = sorted(file.name for file in folder.iterdir())
    if states := _deepspeed(folder):
        module = [file for file in states if file.name == "mp_rank_00_model_states.pt"]
        return Foreign(
            "a DeepSpeed checkpoint: its parts lie in " + listed(sorted({file.parent.name for file in states})),
            f"join its parts with the script that DeepSpeed puts there, python zero_to_fp32.py {folder} DST, and name "
            "what that writes" + (f"; without ZeRO-3 {module[-1]} has all of them" if module else ""),
        )
    if "saved_model.pb" in names:
        return Foreign(
            "a TensorFlow SavedModel; zoo does not read those", _TENSORFLOW.replace("FILE", "FILE/variables/variables")
        )
    if {"_CHECKPOINT_METADATA", "manifest.ocdbt", "_METADATA"} & set(names):
        return Foreign(
            "an Orbax checkpoint (JAX); zoo does not read those",
            "in an environment with orbax: restore it, and np.savez its arrays",
        )
    if any(name.endswith(".index") for name in names):
        return Foreign("a folder with a TensorFlow checkpoint; zoo does not read those", _TENSORFLOW)
    if within := [name for name in names if (folder / name / ".metadata").is_file()]:
        return Foreign(
            f"a folder of checkpoints of torch.distributed: {listed(within)}", f"name one: {folder / within[-1]}"
        )
    if others := [name for name in names if Path(name).suffix in (*_SUFFIXES, ".h5", ".gguf", ".keras")]:
        return Foreign(f"a folder without weights that zoo reads; it has {listed(others)}")
    return None


def _deepspeed(folder: Path) -> list[Path]:
    """The files with a model's states in a folder of DeepSpeed's, or of one of its steps."""
    return sorted([*folder.glob("*_model_states.pt"), *folder.glob("global_step*/*_model_states.pt")])
