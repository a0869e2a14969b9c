"""Decoding: every format and mode to uint8 [c, h, w], orientation applied, what cannot be decoded named."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.data import decode
from zoo.data.decode import to_image
from zoo.errors import InputError

GRADIENT = np.linspace(0, 255, 12 * 10 * 3).reshape(12, 10, 3).astype(np.uint8)


def saved(folder: Path, image: Image.Image, suffix: str, **options) -> Path:
    image.save(folder / f"image{suffix}", **options)
    return folder / f"image{suffix}"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".tif", ".webp", ".ppm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_gives_the_channels_asked_for(tmp_path, suffix, channels):
    options = {"quality": 100} if suffix in (".jpg", ".webp") else {}
    image = to_image(saved(tmp_path, Image.fromarray(GRADIENT), suffix, **options), channels)
    assert (image.dtype, image.shape) == (torch.uint8, (channels, 12, 10))
    truth = np.asarray(Image.fromarray(GRADIENT).convert("L" if channels == 1 else "RGB"), dtype=int)
    assert np.abs(image.permute(1, 2, 0).squeeze(-1).numpy() - truth).mean() < 5


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_png_modes_agree_with_pil(tmp_path, mode):
    picture = Image.fromarray(GRADIENT).convert(mode)
    image = to_image(saved(tmp_path, picture, ".png"), 3)
    assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_images_keep_their_high_byte(tmp_path, suffix):
    deep = GRADIENT[:, :, 0].astype(np.uint16) * 256 + 77
    image = to_image(saved(tmp_path, Image.fromarray(deep), suffix), 1)
    assert np.array_equal(image[0].numpy(), GRADIENT[:, :, 0])


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    for suffix in (".jpg", ".png", ".tif"):
        assert to_image(saved(tmp_path, Image.fromarray(GRADIENT), suffix, exif=exif), 3).shape == (3, 10, 12)


def test_images_in_memory():
    tensor = torch.from_numpy(GRADIENT).permute(2, 0, 1)
    for value in (tensor, GRADIENT, Image.fromarray(GRADIENT)):
        assert torch.equal(to_image(value, 3), tensor)
    grey = to_image(GRADIENT[:, :, 0], 3)
    assert torch.equal(grey[0], grey[2])
    assert to_image(torch.cat([tensor, tensor[:1]]), 3).shape == (3, 12, 10)  # laid over white
    assert to_image(Image.fromarray(GRADIENT), 4).shape == (4, 12, 10)


def test_a_hidden_colour_under_alpha_is_not_seen(tmp_path):
    """Files of one picture: where it is transparent one is red, the other blue."""
    seen = []
    for hidden in ((255, 0, 0), (0, 0, 255)):
        picture = Image.new("RGBA", (6, 6), (*hidden, 0))
        picture.paste((10, 200, 30, 255), (0, 0, 3, 6))
        palette = Image.new("P", (6, 6), 1)
        palette.putpalette([10, 200, 30, *hidden])
        palette.paste(0, (0, 0, 3, 6))
        seen += [to_image(saved(tmp_path, picture, ".png"), 3), to_image(np.asarray(picture), 3)]
        seen.append(to_image(saved(tmp_path, palette, ".png", transparency=1), 3))
        assert to_image(picture, 4)[:, 0, 5].tolist() == [*hidden, 0]
    assert all(torch.equal(image, seen[0]) for image in seen)
    assert seen[0][:, 0, 0].tolist() == [10, 200, 30]
    assert seen[0][:, 0, 5].tolist() == [255, 255, 255]
    assert to_image(Image.new("LA", (2, 2), (0, 128)), 1).tolist() == [[[127, 127], [127, 127]]]


def tiff(values: np.ndarray, bits: int, content: bytes, sample_format: int = 1) -> bytes:
    """A little-endian grey TIFF whose pixels are `content`."""
    height, width = values.shape
    tags = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 3, height), (279, 4, len(content)), (339, 3, sample_format)]
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(content))
    return head + content + struct.pack("<H", len(tags)) + directory + bytes(4)


def packed_12(values: np.ndarray) -> bytes:
    first, second = values.reshape(-1, 2).T.astype(int)
    return np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], 1).astype(np.uint8).tobytes()


EIGHT = GRADIENT[:, :, 0]
DEEP = EIGHT.astype(np.uint16) * 257


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("16.pgm", b"P5 10 12 65535\n" + DEEP.astype(">u2").tobytes()),
        ("12.pgm", b"P5 10 12 4095\n" + (DEEP >> 4).astype(">u2").tobytes()),
        ("16.tif", tiff(DEEP, 16, DEEP.tobytes())),
        ("12.tif", tiff(DEEP, 12, packed_12(DEEP >> 4))),
        ("float.tif", tiff(DEEP, 32, (EIGHT / 255).astype("<f4").tobytes(), 3)),
    ],
)
def test_deep_images_keep_their_picture(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    difference = to_image(tmp_path / name, 1)[0].numpy().astype(int) - EIGHT
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("int32.tif", tiff(DEEP, 32, DEEP.astype("<i4").tobytes(), 2), "32-bit or signed values of 0 to 65021"),
        ("uint32.tif", tiff(DEEP, 32, (DEEP * 2**15).astype("<u4").tobytes()), "32-bit or signed values"),
        ("signed.tif", tiff(DEEP, 16, (DEEP >> 1).astype("<i2").tobytes(), 2), "32-bit or signed values of 0 to 32510"),
        ("float.tif", tiff(DEEP, 32, DEEP.astype("<f4").tobytes(), 3), "floating-point values of 0 to 65021"),
    ],
)
def test_deep_images_of_an_unknown_white_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} has {message}.*8- or 16-bit PNG"):
        to_image(tmp_path / name, 3)


def test_broken_exif_does_not_cost_the_image(tmp_path):
    path = saved(tmp_path, Image.fromarray(GRADIENT), ".png", exif=b"Exif\0\0not what it says")
    assert to_image(path, 3).shape == (3, 12, 10)


BOMBS = {
    "bomb.bmp": b"BM"
    + struct.pack("<IHHI", 100, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 60000, 60000, 1, 24, *[0] * 6),
    "bomb.ppm": b"P6 90000 90000 255\n" + bytes(50),
    "bomb.tif": tiff(np.empty((15000, 13000)), 1, bytes(50)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_an_image_that_claims_billions_of_pixels_is_refused(tmp_path, name):
    (tmp_path / name).write_bytes(BOMBS[name] + bytes(50))
    with pytest.raises(InputError, match=rf"{name} is too large: at most 178,956,970 pixels"):
        to_image(tmp_path / name, 3)


def test_the_limit_of_size_holds_where_somebody_has_lifted_pillows(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "bomb.ppm").write_bytes(BOMBS["bomb.ppm"])
    with pytest.raises(InputError, match="too large"):
        to_image(tmp_path / "bomb.ppm", 3)


def test_a_png_with_a_flipped_bit_is_damaged(tmp_path):
    """Without a look at its checksums some of these end the process, in torchvision, or show noise, in Pillow."""
    good = saved(tmp_path, Image.fromarray(GRADIENT), ".png").read_bytes()
    for place in range(8, len(good)):
        (tmp_path / "flipped.png").write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        with pytest.raises(InputError, match=r"flipped\.png.*damaged"):
            to_image(tmp_path / "flipped.png", 3)


@pytest.mark.parametrize("error", [struct.error("requires 2 bytes"), TypeError("required argument is not an integer")])
def test_whatever_a_decoder_raises_is_one_unreadable_image(tmp_path, monkeypatch, error):
    path = saved(tmp_path, Image.fromarray(GRADIENT), ".bmp")

    def fail(*_):
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with Image.open(path) as opened:
        for value in (path, opened):
            with pytest.raises(InputError, match=r"cannot decode .*image.*damaged"):
                to_image(value, 3)


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello", "damaged or of an unknown type"),
        (b"\x89PNG\r\n\x1a\nxxx", "it is damaged "),
        (b"\xff\xd8\xff\xe0 nothing", "it is damaged "),
        (jpeg()[:700], "it is damaged "),
    ],
)
def test_broken_files_are_named(tmp_path, content, message):
    (tmp_path / "broken.jpg").write_bytes(content)
    with pytest.raises(InputError, match=rf"broken\.jpg.*{message}"):
        to_image(tmp_path / "broken.jpg", 3)


def test_what_is_no_image():
    with pytest.raises(InputError, match="cannot read image /no/such"):
        to_image("/no/such.png", 3)
    with pytest.raises(InputError, match=r"not a Tensor of torch.float32 \[3, 4, 4\]"):
        to_image(torch.zeros(3, 4, 4), 3)
    with pytest.raises(InputError, match=r"not a ndarray of uint16 \[4, 4\]"):
        to_image(np.zeros((4, 4), np.uint16), 3)
    with pytest.raises(InputError, match="5 channels does not fit"):
        to_image(torch.zeros(5, 4, 4, dtype=torch.uint8), 3)
    with pytest.raises(InputError, match="takes 7"):
        to_image(torch.zeros(3, 4, 4, dtype=torch.uint8), 7)


def test_what_is_no_regular_file_is_named_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "folder.png").mkdir()
    for name, kind in (("pipe", "a pipe"), ("device", "a device"), ("folder", "a folder")):
        with pytest.raises(InputError, match=rf"{name}\.png is {kind}, no file \(remove it\)"):
            to_image(tmp_path / f"{name}.png", 3)


def test_a_file_that_is_too_long_is_not_read(tmp_path):
    with open(tmp_path / "long.png", "wb") as file:
        file.truncate(decode.MOST_BYTES + 1)
    with pytest.raises(InputError, match=r"has 1,073,741,825 bytes: at most 1,073,741,824 are read"):
        to_image(tmp_path / "long.png", 3)


def test_no_decoder_that_starts_a_program(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(InputError, match="damaged or of an unknown type"):
        to_image(tmp_path / "a.jpg", 3)


def test_numbers_that_are_none_are_said_to_be(tmp_path):
    np.save(tmp_path / "a.npy", np.full((4, 4), np.nan))
    with pytest.raises(InputError, match="values that are no numbers"):
        to_image(tmp_path / "a.npy", 3)
    np.save(tmp_path / "b.npy", np.arange(16).reshape(4, 4))
    with pytest.raises(InputError, match="has 64-bit values of 0 to 15"):
        to_image(tmp_path / "b.npy", 3)


@pytest.mark.parametrize("range", [None, "dtype"])
def test_strips_make_no_difference(tmp_path, monkeypatch, range):
    values = np.random.default_rng(0).integers(0, 256, (37, 11, 4), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(values), ".png")
    whole = to_image(path, 3, range=range)
    monkeypatch.setattr(decode, "STRIP", 25)
    assert torch.equal(to_image(path, 3, range=range), whole)
