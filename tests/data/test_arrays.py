"""Arrays, TIFF of many bands and deep PNG: every value as it is in the file, the channels first."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data import arrays
from zoo.data.decode import natural_type, to_image
from zoo.errors import InputError

BANDS = np.random.default_rng(0).integers(0, 4000, (6, 12, 10), dtype=np.uint16)


def npy(values) -> bytes:
    content = io.BytesIO()
    np.save(content, values)
    return content.getvalue()


@pytest.mark.parametrize("values", [BANDS, np.moveaxis(BANDS, 0, -1), np.asfortranarray(BANDS)])
@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "<f4", "<f8"])
def test_the_channels_of_an_array_are_found_by_its_shape(tmp_path, values, dtype):
    (tmp_path / "a.npy").write_bytes(npy((values % 200).astype(dtype)))
    image = to_image(tmp_path / "a.npy", 6, range=(0, 100))
    assert torch.equal(image, torch.from_numpy((BANDS % 200).astype(np.float64) / 100).float())
    assert natural_type(tmp_path / "a.npy", 6, "auto") == np.dtype(dtype).newbyteorder("=")


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((3, 20, 3), 3, r"may be the first or the last dimension \(say which: data.layout: channels_last"),
        ((6, 20, 6), 6, "may be the first or the last"),
        ((20, 20, 8), 3, r"the network takes 3 channels \(build the network for it: data.channels: 8"),
        ((2, 3, 4, 5), 3, r"an image is \[h, w\], \[h, w, c\] or \[c, h, w\]"),
    ],
)
def test_a_shape_that_says_nothing_is_refused_by_the_name_of_the_file(tmp_path, shape, channels, message):
    (tmp_path / "a.npy").write_bytes(npy(np.zeros(shape, np.uint8)))
    with pytest.raises(InputError, match=rf"a\.npy has the shape \[.*{message}"):
        to_image(tmp_path / "a.npy", channels)


def test_a_layout_decides(tmp_path):
    values = np.arange(3 * 20 * 3, dtype=np.uint8).reshape(3, 20, 3)
    (tmp_path / "a.npy").write_bytes(npy(values))
    assert torch.equal(to_image(tmp_path / "a.npy", 3, layout="channels_first"), torch.from_numpy(values))
    assert to_image(tmp_path / "a.npy", 3, layout="channels_last").shape == (3, 3, 20)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(np.array([{"no": "code"}])), "contains object"),
        (npy(np.zeros((4, 4), np.complex64)), "contains complex64"),
        (npy(np.zeros((40, 40, 3), np.uint8))[:-1], "it is damaged"),
        (npy(np.zeros((4, 4), np.uint8)).replace(b"(4, 4)", b"(40000, 40000)"), "it is damaged"),
        (npy(np.full((4, 4), np.nan, np.float32)), "values that are no numbers"),
    ],
)
def test_what_is_no_picture(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.npy.*{message}"):
        to_image(tmp_path / "a.npy", 1, range=(0, 1))


def deep_png(values) -> bytes:
    import struct
    import zlib

    from torchvision.io import decode_image

    height, width, channels = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in parts]
    content = b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
    assert decode_image(torch.frombuffer(bytearray(content), dtype=torch.uint8)).numel()
    return content


def test_a_colour_png_of_16_bits_keeps_all_of_them(tmp_path):
    values = np.random.default_rng(1).integers(0, 65536, (6, 5, 3), dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(deep_png(values))
    exact = torch.from_numpy(values.astype(np.float64) / 65535).float().permute(2, 0, 1)
    assert torch.equal(to_image(tmp_path / "a.png", 3, range="dtype"), exact)
    assert np.array_equal(to_image(tmp_path / "a.png", 3).permute(1, 2, 0).numpy(), values >> 8)  # as bytes


def test_grey_of_16_bits_is_scaled_by_the_depth_that_its_file_states(tmp_path):
    values = np.arange(60, dtype=np.uint16).reshape(6, 10) * 1000
    Image.fromarray(values).save(tmp_path / "a.png")
    exact = torch.from_numpy(values.astype(np.float64) / 65535).float()
    assert torch.equal(to_image(tmp_path / "a.png", 1, range="dtype")[0], exact)
    colour = to_image(tmp_path / "a.png", 3, range="dtype")
    assert torch.equal(colour[0], exact)
    assert torch.equal(colour[2], exact)
    (tmp_path / "a.pgm").write_bytes(b"P5 10 6 4095\n" + (values // 16).astype(">u2").tobytes())
    assert torch.allclose(to_image(tmp_path / "a.pgm", 1, range="dtype")[0], exact, atol=1e-3)


def test_what_is_transparent_lies_over_white_in_floats_too():
    picture = Image.new("RGBA", (2, 2), (0, 0, 0, 51))
    assert to_image(picture, 3, range="dtype")[:, 0, 0].tolist() == pytest.approx([0.8] * 3)
    assert to_image(picture, 1, range="dtype")[:, 0, 0].tolist() == pytest.approx([0.8], abs=1e-3)
    assert to_image(picture, 4, range="dtype")[:, 0, 0].tolist() == pytest.approx([0, 0, 0, 0.2])


def test_values_beyond_a_range_are_kept_and_unknown_whites_refused():
    values = np.array([[-1.0, 0.5], [2.0, 5.0]], np.float32)
    assert to_image(values, 1, range=(0.0, 2.0)).tolist() == [[[-0.5, 0.25], [1.0, 2.5]]]
    with pytest.raises(InputError, match=r"an image has floating-point values of -1 to 5.*data.range: measure"):
        to_image(values, 1, range="dtype")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_bands_that_do_not_fit_are_refused(channels):
    with pytest.raises(InputError, match=rf"5 channels does not fit .* takes {channels} \(.*data.channels: 5"):
        to_image(torch.zeros(5, 4, 4, dtype=torch.uint8), channels)


def tiff(values, **options) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    content = io.BytesIO()
    tifffile.imwrite(content, values, **options)
    return content.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {"planarconfig": "separate", "photometric": "minisblack"},
        {"planarconfig": "separate", "photometric": "minisblack", "bigtiff": True},
        {"planarconfig": "separate", "photometric": "minisblack", "compression": "zlib"},
    ],
    ids=str,
)
def test_every_band_of_a_tiff(tmp_path, options):
    (tmp_path / "a.tif").write_bytes(tiff(BANDS, **options))
    assert torch.equal(to_image(tmp_path / "a.tif", 6, range=(0, 1)), torch.from_numpy(BANDS.astype(np.float32)))
    interleaved = options | {"planarconfig": "contig"}
    (tmp_path / "b.tif").write_bytes(tiff(np.moveaxis(BANDS, 0, -1), **interleaved))
    assert torch.equal(to_image(tmp_path / "b.tif", 6, range=(0, 1)), torch.from_numpy(BANDS.astype(np.float32)))


def test_a_fourth_band_is_transparency_only_where_the_file_says_so(tmp_path):
    values = np.random.default_rng(2).integers(0, 255, (8, 8, 4), dtype=np.uint8)
    (tmp_path / "near-infrared.tif").write_bytes(tiff(values, photometric="rgb", extrasamples=[0]))
    assert np.array_equal(to_image(tmp_path / "near-infrared.tif", 4).permute(1, 2, 0).numpy(), values)
    with pytest.raises(InputError, match=r"near-infrared\.tif with 4 channels does not fit"):
        to_image(tmp_path / "near-infrared.tif", 3)
    (tmp_path / "alpha.tif").write_bytes(tiff(values, photometric="rgb", extrasamples=[2]))
    assert to_image(tmp_path / "alpha.tif", 3).shape == (3, 8, 8)


def test_bands_without_tifffile_say_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.tif").write_bytes(tiff(BANDS, planarconfig="separate", photometric="minisblack"))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(InputError, match=r'a\.tif has 6 bands of 16 bits.*pip install "zoo-kit\[tiff\]"'):
        to_image(tmp_path / "a.tif", 6)


def test_white_is_known_of_small_unsigned_integers_alone():
    known = {name: arrays.white_of(np.dtype(name)) for name in ("u1", "u2", "u4", "i2", "f4")}
    assert known == {"u1": 255.0, "u2": 65535.0, "u4": None, "i2": None, "f4": None}
