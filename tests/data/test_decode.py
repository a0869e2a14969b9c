"""Decoding: every format and mode to uint8 [c, h, w], orientation applied, what cannot be decoded named."""

from __future__ import annotations

import io
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
    assert to_image(torch.cat([tensor, tensor[:1]]), 3).shape == (3, 12, 10)  # alpha goes
    assert to_image(Image.fromarray(GRADIENT), 4).shape == (4, 12, 10)


def test_pil_takes_over_where_torchvision_has_no_decoder(tmp_path, monkeypatch):
    path = saved(tmp_path, Image.fromarray(GRADIENT), ".png")
    with_torchvision = to_image(path, 3)
    monkeypatch.setattr(decode, "DECODERS", {})
    assert torch.equal(to_image(path, 3), with_torchvision)


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
    with pytest.raises(InputError, match=r"not a torch.float32 tensor \[3, 4, 4\]"):
        to_image(torch.zeros(3, 4, 4), 3)
    with pytest.raises(InputError, match="5 channels does not fit"):
        to_image(torch.zeros(5, 4, 4, dtype=torch.uint8), 3)
    with pytest.raises(InputError, match="takes 7"):
        to_image(torch.zeros(3, 4, 4, dtype=torch.uint8), 7)
