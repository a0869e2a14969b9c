"""The page of predictions: every image with its answers, one file, names as text, written a batch at a time."""

import re
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from zoo.contracts import Preprocessing
from zoo.errors import InputError
from zoo.model.assembly import Assembly
from zoo.reporting import gallery
from zoo.reporting.gallery import BATCH, NO_MAPS, gallery_writer
from zoo.training.predict import Predictor

EVIL = "<script>alert(1)</script>"


def predictor(model, task="classification", classes=("a", EVIL)):
    prepared = Preprocessing(size=(16, 16), mean=(0.5,), std=(0.5,), channels=3)
    assembly = Assembly(model.eval(), "acme/net", preprocessing=prepared, classes=classes, task=task)
    return Predictor(assembly, torch.device("cpu"), 2, 0.5)


def network(outputs=2):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, outputs))


@pytest.fixture
def images(tmp_path):
    """Paths of a few images with names that are no HTML, and one that is no image."""
    paths = [tmp_path / f"&{place}<b>.png" for place in range(BATCH + 2)]
    generator = np.random.default_rng(0)
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(path)
    (tmp_path / "broken.png").write_text("no image")
    return [*paths, tmp_path / "broken.png"]


def written(tmp_path, predictor, images):
    rows = list(predictor.rows((str(path), path) for path in images))
    with gallery_writer(tmp_path / "page.html", predictor, "x < y") as put:
        for row in rows:
            put(row)
    return (tmp_path / "page.html").read_text(), rows


def test_every_image_is_there_with_its_answers_and_where_the_network_looked(tmp_path, images):
    text, rows = written(tmp_path, predictor(network()), images)
    figures = re.findall(r'<figure class="thumb">.*?</figure>', text, re.S)
    assert len(figures) == len(images)
    for row, figure in zip(rows[:-1], figures, strict=False):
        assert figure.count('src="data:image/jpeg;base64,') == 2
        for answer in row["predictions"]:
            assert f"{answer['probability'] * 100:.1f} %" in figure
    assert figures[-1].count("<img") == 0
    assert "broken.png" in figures[-1]
    assert text.rstrip().endswith("</html>")
    assert "<title>x &lt; y – zoo</title>" in text


def test_names_are_text_and_nothing_is_fetched(tmp_path, images):
    text, _ = written(tmp_path, predictor(network()), images)
    assert EVIL not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "&amp;0&lt;b&gt;.png" in text
    assert "default-src 'none'" in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)


def test_other_tasks(tmp_path, images):
    text, rows = written(tmp_path, predictor(network(), "multilabel"), images[:1])
    labels = "(no label)" if not rows[0]["labels"] else rows[0]["labels"][0].replace("<", "&lt;").replace(">", "&gt;")
    assert f"<b>{labels}" in text
    (tmp_path / "page.html").unlink()
    text, rows = written(tmp_path, predictor(network(1), "regression", ("weight",)), images[:1])
    assert f"weight</b> {rows[0]['predictions'][0]['value']:.6g}" in text
    assert "where the network looked" in text


def test_a_network_without_places_has_no_maps(tmp_path, images):
    text, _ = written(tmp_path, predictor(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2))), images)
    assert "where the network looked" not in text
    assert NO_MAPS in text


def test_images_of_one_colour_first_do_not_take_the_maps_of_others(tmp_path, images):
    Image.new("RGB", (20, 20)).save(tmp_path / "black.png")
    black = [tmp_path / "black.png"] * BATCH
    text, _ = written(tmp_path, predictor(network()), [*black, images[0]])
    assert text.count("where the network looked") == 1
    assert NO_MAPS not in text


def test_images_behind_the_most_are_counted(tmp_path, images, monkeypatch):
    monkeypatch.setattr(gallery, "MOST", 3)
    text, _ = written(tmp_path, predictor(network()), images)
    assert text.count("<figure") == 3
    assert f"The first 3 of {len(images)} images." in text


def test_a_batch_is_in_memory(tmp_path, images):
    ready = predictor(nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 2)))
    (row,) = ready.rows([(str(images[0]), images[0])])
    peaks, sizes = [], []
    for count in (BATCH * 2, BATCH * 20):
        with gallery_writer(tmp_path / f"{count}.html", ready, "x") as put:
            put(dict(row))
            tracemalloc.start()
            for _ in range(count):
                put(dict(row))
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        sizes.append((tmp_path / f"{count}.html").stat().st_size)
    assert sizes[1] - sizes[0] > 300_000
    assert peaks[1] - peaks[0] < (sizes[1] - sizes[0]) / 3


def test_nothing_is_replaced_and_nothing_half_written_stays(tmp_path):
    (tmp_path / "page.html").write_text("mine")
    with (
        pytest.raises(InputError, match="is there already"),
        gallery_writer(tmp_path / "page.html", predictor(network()), "x"),
    ):
        pass
    with (
        pytest.raises(ZeroDivisionError),
        gallery_writer(tmp_path / "page.html", predictor(network()), "x", overwrite=True),
    ):
        raise ZeroDivisionError
    assert (tmp_path / "page.html").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
