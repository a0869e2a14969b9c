"""Images that cannot be read are named before anything starts: some of each part are looked at, or all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.preflight import readable

COUNT = 80  # images of a class: of 128 training images 16 are looked at
RECIPE = {
    "model": "timm/test_resnet",
    "data": {"source": "zoo/image_folder", "path": "photos", "batch_size": 4, "cache": "off"},
    "steps": [{"swap_head": "auto"}, {"train": 1}],
}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(readable, "SECONDS", 1e9)  # on a busy machine, too
    monkeypatch.setattr(readable, "SEARCH", 1e9)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for place in range(COUNT):
            pixels = np.full((4, 4, 3), place, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{place:02}.png")
    return tmp_path / "photos"


def looked_at(images=False):
    """What the check says, and the names of the images that it read."""
    verdict = zoo.check(RECIPE, images=images)
    return [problem.message for problem in verdict.errors], verdict


def names(verdict):
    part = verdict.data.parts["train"]
    chosen = np.unique(np.linspace(0, len(part) - 1, readable.SPREAD).astype(int))
    return [part.raw(int(position))[0] for position in chosen]


def test_one_among_those_that_are_looked_at_has_all_named(photos):
    errors, verdict = looked_at()
    assert errors == []
    chosen = names(verdict)[5]
    other = next(name for name in map(str, sorted(photos.rglob("*.png"))) if name.endswith("cat/33.png"))
    for path in (chosen, other):
        Path(path).write_bytes(b"none")
    errors, verdict = looked_at()
    assert not verdict.ok
    assert sorted(error.split(": ")[0] for error in errors) == sorted(
        f"cannot decode image {path}" for path in {chosen.removeprefix(f"{photos.parent}/"), "photos/cat/33.png"}
    )


def test_every_image_on_request(photos):
    _, verdict = looked_at()
    passed_by = sorted({str(path.relative_to(photos.parent)) for path in photos.rglob("*.png")} - set(names(verdict)))
    held_out = {verdict.data.parts["validation"].raw(place)[0] for place in range(32)}
    broken = next(path for path in passed_by if path not in held_out)
    (photos.parent / broken).write_bytes(b"none")
    assert looked_at()[0] == []
    (error,) = looked_at(images=True)[0]
    assert error.startswith(f"cannot decode image {broken}")


def test_where_time_is_short_it_says_so(photos, monkeypatch):
    _, verdict = looked_at()
    (photos.parent / names(verdict)[5]).write_bytes(b"none")
    monkeypatch.setattr(readable, "SEARCH", -1.0)
    problems = zoo.check(RECIPE).errors
    assert [problem.message for problem in problems][1:] == ["0 of 160 images were looked at"]
    assert problems[1].suggestion == "look at all: zoo check RECIPE --images"
    monkeypatch.setattr(readable, "SECONDS", -1.0)
    assert zoo.check(RECIPE).ok


def test_where_all_are_wrong_one_stands_for_them(photos):
    for path in photos.rglob("*.png"):
        path.write_bytes(b"none")
    (problem,) = zoo.check(RECIPE).errors
    assert problem.message.startswith("all 32 samples that were read are wrong: cannot decode image photos/")
