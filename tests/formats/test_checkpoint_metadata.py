"""What a checkpoint says about itself: written plainly, read strictly."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from zoo.errors import InputError
from zoo.formats.checkpoint_metadata import (
    FORMAT,
    PARTS,
    RECORDS,
    CheckpointMetadata,
    check_unedited,
    edited_parts,
    encode,
    read_metadata,
)
from zoo.formats.entry import Entry

FULL = {
    "format": FORMAT,
    "architecture": "timm/resnet18",
    "arguments": {"in_chans": 1},
    "operations": [{"surgery": "zoo/swap_head", "arguments": {"num_classes": 2}}],
    "classes": ["cat", "dog"],
    "task": "classification",
    "preprocessing": {
        "size": [96, 96],
        "mean": [0.5],
        "std": [0.25],
        "interpolation": "bicubic",
        "crop_fraction": 0.9,
        "channels": 1,
    },
    "base_weights": {"name": "a1_in1k", "sha256": "0" * 64, "location": "hf://timm/resnet18.a1_in1k"},
    "tied": {"head.weight": "embed.weight"},
    "frozen": ["conv1.weight"],
    "only": "trainable",
    "metrics": {"accuracy": 0.98},
    "versions": {"zoo-kit": "0.1.0"},
}

TENSORS = [Entry("conv.weight", "F32", (8, 3)), Entry("fc.bias", "F32", (2,))]


def header(**changes: object) -> dict[str, str]:
    return {"zoo": json.dumps(FULL | changes)}


def test_there_and_back() -> None:
    metadata = read_metadata(header(), "m.safetensors")
    assert metadata.base_weights is not None
    written = encode(metadata, TENSORS)
    again = read_metadata(written, "m.safetensors")
    assert again.model_copy(update={"digests": {}}) == metadata
    assert written["format"] == "pt"
    assert not edited_parts(again, reversed(TENSORS))


def test_defaults_are_left_out() -> None:
    table = json.loads(encode(CheckpointMetadata(architecture="timm/resnet18"), TENSORS)["zoo"])
    assert set(table) == {"format", "architecture", "digests"}
    assert set(table["digests"]) == {*PARTS, *RECORDS, "tensors"}


@pytest.mark.parametrize(
    ("part", "changes"),
    [
        ("architecture", {"architecture": "timm/resnet34"}),
        ("architecture", {"arguments": {"in_chans": 3}}),
        ("operations", {"operations": []}),
        ("operations", {"operations": [{"surgery": "zoo/swap_head", "arguments": {"num_classes": 3}}]}),
        ("classes", {"classes": ["dog", "cat"]}),
        ("classes", {"task": "multilabel"}),
        ("preprocessing", {"preprocessing": None}),
        ("tensors", {"tied": {}}),
    ],
)
def test_a_part_that_was_edited_is_named(part: str, changes: dict) -> None:
    table = json.loads(encode(read_metadata(header(), "m"), TENSORS)["zoo"])
    edited = read_metadata({"zoo": json.dumps(table | changes)}, "m")
    assert edited_parts(edited, TENSORS) == [part]
    with pytest.raises(InputError, match=rf"m was edited after zoo wrote it: .* its {part} \("):
        check_unedited([part], "m")


@pytest.mark.parametrize("changes", [{"name": "conv.bias"}, {"dtype": "F16"}, {"shape": (24,)}])
def test_tensors_that_were_exchanged_are_noticed(changes: dict) -> None:
    written = read_metadata(encode(read_metadata(header(), "m"), TENSORS), "m")
    assert edited_parts(written, [replace(TENSORS[0], **changes), TENSORS[1]]) == ["tensors"]


def test_a_description_without_digests_was_edited() -> None:
    everything = ["architecture", "operations", "classes", "preprocessing", "tensors"]
    assert edited_parts(read_metadata(header(), "m"), TENSORS) == everything


def test_arguments_of_python_are_as_they_are_once_read() -> None:
    metadata = CheckpointMetadata(architecture="x/y", arguments={"img_size": (96, 64), "of": {10: 1, 9: 2}})
    assert not edited_parts(read_metadata(encode(metadata, TENSORS), "m"), TENSORS)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": FORMAT + 1}, "newer zoo .*pip install --upgrade"),
        ({"format": "1"}, "no format version"),
        ({"format": True}, "no format version"),
        ({"architecture": None}, "architecture: Input should be a valid string"),
        ({"architecture": 3}, "architecture"),
        ({"operations": [{"surgery": "x"}]}, r"operations\[0\].arguments: Field required"),
        ({"operations": [{"surgery": "x", "arguments": {}, "code": "import os"}]}, r"operations\[0\].code"),
        ({"operations": "os.system"}, "operations"),
        ({"run": "echo"}, "run: Extra inputs"),
        ({"base_weights": {"name": "x", "sha256": "123"}}, "base_weights.sha256"),
        ({"only": "some"}, "only"),
        ({"classes": [1, 2]}, r"classes\[0\]"),
        ({"preprocessing": {"size": [1]}}, "preprocessing.size"),
        ({"tied": ["a"]}, "tied"),
    ],
)
def test_what_is_not_as_written_is_refused(changes: dict, why: str) -> None:
    with pytest.raises(InputError, match=why):
        read_metadata(header(**changes), "m.safetensors")


def test_all_that_is_wrong_is_told() -> None:
    with pytest.raises(InputError) as caught:
        read_metadata(header(architecture=1, only=2, extra=3), "m.safetensors")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("text", ["{", "[]", "3", '"x"', "[" * 100_000, "{}"])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"m\.safetensors"):
        read_metadata({"zoo": text}, "m.safetensors")


def test_files_of_other_tools_are_told_apart() -> None:
    with pytest.raises(InputError, match=r"is no zoo checkpoint.*zoo convert FILE NEW --to"):
        read_metadata({"format": "pt"}, "m.safetensors")


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, object()])
def test_values_that_json_lacks_are_refused(value: object) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        encode(CheckpointMetadata(architecture="x", metrics={"m": value}), TENSORS)
