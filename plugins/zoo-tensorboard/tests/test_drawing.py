"""Tensors as pictures: what becomes a tile, what a heat map, and which grey a value has."""

from __future__ import annotations

import torch
from zoo_tensorboard.drawing import feature_maps, photographs, scaled

from zoo.api import Preprocessing


def test_windows_and_heads_are_tiles():
    assert [picture.shape for picture in feature_maps(torch.rand(2, 4, 5, 5), 2)] == [(3, 13, 13)] * 2
    assert [picture.shape for picture in feature_maps(torch.rand(8, 5, 5), 2)] == [(3, 13, 13)] * 2
    assert [picture.shape for picture in feature_maps(torch.rand(2, 2, 2, 5, 5), 2)] == [(3, 13, 13)] * 2
    assert feature_maps(torch.rand(5, 3), 2) == feature_maps(torch.tensor(1.0), 2) == []


def test_a_map_runs_from_black_to_white():
    maps = torch.tensor([[[-1.0, 0.0], [1.0, 3.0]], [[2.0, 2.0], [2.0, 2.0]], [[0.0, float("nan")], [1.0, 0.5]]])
    assert scaled(maps).tolist() == [[[0, 64], [128, 255]], [[0, 0], [0, 0]], [[0, 0], [255, 128]]]
    assert scaled(torch.tensor([[[True, False]]])).tolist() == [[[255, 0]]]


def test_grey_images_with_one_mean():
    images = torch.tensor([[[[0, 255], [128, 7]]]], dtype=torch.uint8)
    to = Preprocessing(size=(2, 2), mean=(0.3,), std=(0.2,), channels=1)
    picture = photographs((images / 255 - 0.3) / 0.2, to)
    assert torch.equal(picture, images[0].expand(3, 2, 2))
