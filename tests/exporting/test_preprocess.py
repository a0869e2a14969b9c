"""The preprocessing inside a graph: the very pixels of zoo's own."""

import pytest
import torch

from zoo.contracts import Preprocessing
from zoo.data.transforms import fit, normalise
from zoo.exporting.preprocess import Preprocess

SIZES = [(8, 8), (1, 1), (40, 48), (48, 40), (97, 64), (64, 97), (300, 401), (2000, 3), (47, 41)]


@pytest.mark.skipif(
    "AVX" not in torch.backends.cpu.get_cpu_capability(), reason="torchvision resizes in floating point"
)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize(("size", "crop"), [((48, 40), 0.875), ((32, 32), 1.0), ((224, 224), 0.95)])
def test_pixels_are_equal(interpolation, size, crop):
    preprocessing = Preprocessing(size=size, crop_fraction=crop, interpolation=interpolation)
    inside = Preprocess(preprocessing)
    generator = torch.Generator().manual_seed(0)
    for place, (height, width) in enumerate(SIZES):
        image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
        image = (image > 127).to(torch.uint8) * 255 if place % 2 else image  # edges overshoot
        expected = fit(image, preprocessing)
        assert torch.equal(inside.fitted(image.permute(1, 2, 0)[None])[0], expected.double())
        assert torch.equal(inside(image.permute(1, 2, 0)[None]), normalise(expected[None], preprocessing))


def test_lanczos_is_pillows_where_it_goes_along_rows_first():
    """Where columns are fewer Pillow begins with them, and rounds other sums: the export counts such pixels."""
    inside = Preprocess(preprocessing := Preprocessing(size=(32, 32), interpolation="lanczos", crop_fraction=1.0))
    generator = torch.Generator().manual_seed(0)
    equal = 0
    for side in ((200, 300), (8, 8), (100, 101), (31, 64)):
        image = torch.randint(0, 256, (3, *side), generator=generator, dtype=torch.uint8)
        steps = (inside.fitted(image.permute(1, 2, 0)[None])[0] - fit(image, preprocessing).double()).abs()
        equal += not steps.any()
    assert equal >= 3


def test_any_number_of_channels_in_a_batch():
    for channels in (1, 4, 6):
        mean = (0.5,) * channels
        preprocessing = Preprocessing(size=(16, 16), mean=mean, std=mean, channels=channels)
        images = torch.randint(0, 256, (2, channels, 30, 20), dtype=torch.uint8)
        expected = torch.stack([fit(image, preprocessing) for image in images])
        assert torch.equal(Preprocess(preprocessing).fitted(images.permute(0, 2, 3, 1)), expected.double())
