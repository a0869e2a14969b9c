"""The recipes that come with zoo are found in a checkout and in a wheel."""

import importlib.metadata
from pathlib import Path

from zoo.recipe import shipped

ROOT = Path(__file__).parents[2]


def test_in_a_checkout():
    found = shipped.shipped()
    assert found["quickstart"] == ROOT / "recipes/quickstart.yaml"
    assert len(found) == len(list((ROOT / "recipes").rglob("*.yaml")))


def test_in_a_wheel(monkeypatch, tmp_path):
    """As pip leaves a wheel's data files: outside the package, named in RECORD."""
    info = tmp_path / "site" / "zoo_kit-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: zoo-kit\nVersion: 0.1.0\n")
    place = tmp_path / "share/zoo/recipes/tutorials"
    place.mkdir(parents=True)
    (place / "mlp.yaml").write_text("name: mlp\n")
    (info / "RECORD").write_text("../share/zoo/recipes/tutorials/mlp.yaml,,\nzoo/recipe/shipped.py,,\n")
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "site/zoo/recipe/shipped.py"))
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: importlib.metadata.PathDistribution(info))
    assert shipped.shipped() == {"tutorials/mlp": place / "mlp.yaml"}


def test_titles(tmp_path):
    file = tmp_path / "x.yaml"
    for text, title in (
        ("# zoo finetune x.yaml    a minute\nname: x\n# later\n", "a minute"),
        (
            "# yaml-language-server: $schema=x\n# zoo finetune x.yaml    seconds\n# What it is.\nname: x\n",
            "What it is.",
        ),
        ("name: x\n", ""),
    ):
        file.write_text(text)
        assert shipped.title(file) == title
