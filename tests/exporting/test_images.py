"""Where the images of a comparison come from: held out, never those of the calibration; or random, and said so."""

import pytest
import torch

import zoo
from zoo.checkpoint.load import load
from zoo.errors import InputError
from zoo.exporting.images import batches_of, file_input, find_source, input_shape, network_input

COUNTS = {"images": 500, "calibration": 128}


def test_a_folder_is_shared_between_comparison_and_calibration(checkpoint, photos):
    source = find_source("x", load(checkpoint), str(photos), **COUNTS)
    assert (len(source.held_out), len(source.training)) == (6, 6)
    used = [{one.raw.numpy().tobytes() for one in part} for part in (source.held_out, source.training)]
    assert not used[0] & used[1]
    assert source.shape == (3, 48, 40)


def test_classes_of_a_folder_do_not_matter(checkpoint, photos):
    (photos / "ant").rename(photos / "zebra")
    source = find_source("x", load(checkpoint), str(photos), images=4, calibration=3)
    assert (len(source.held_out), len(source.training), source.notes) == (4, 3, [])


def test_without_data_images_are_random_and_that_is_said(checkpoint):
    source = find_source("x", load(checkpoint), None, **COUNTS)
    (note,) = source.notes
    assert "random inputs, not on images: x does not say which data" in note
    assert len({tuple(one.raw.shape) for one in source.held_out}) == 4
    assert all(one.raw.min() == 0 or one.raw.max() > 200 for one in source.held_out)
    assert not source.training


def test_data_that_is_named_has_to_be_there(checkpoint, tmp_path):
    with pytest.raises(InputError):
        find_source("x", load(checkpoint), str(tmp_path / "nowhere"), **COUNTS)


def test_batches_hold_one_size_where_images_are_raw(checkpoint, photos):
    assembly = load(checkpoint)
    source = find_source("x", assembly, str(photos), **COUNTS)
    for raw in (False, True):
        sizes = [len(batch) for batch in batches_of(source.held_out, raw=raw, size=4)]
        assert sum(sizes) == 6
        assert max(sizes) <= 4
    (batch, *_) = batches_of(source.held_out, raw=False)
    assert network_input(batch, assembly.preprocessing).dtype == torch.float32
    assert file_input(batch[:1], assembly.preprocessing, raw=True).shape == (1, *batch[0].raw.shape)


def test_features_are_known_by_the_first_layer():
    model = zoo.build("tutorial/mlp")
    from zoo.model.info import assembly_of, info_of

    assert input_shape(assembly_of(model, info_of(model))) == (20,)
