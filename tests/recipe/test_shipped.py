"""The recipes that come with zoo are found in a checkout and in a wheel, pass `zoo check`, and train."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import zoo
from zoo.preflight import check
from zoo.recipe import load_recipe, shipped
from zoo.training.callbacks import Listener

ROOT = Path(__file__).parents[2]
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))  # tutorials have tests of their own
TABLE = re.compile(r"(?s)<!-- recipes -->\n(.*?)<!-- end -->\n")


def make_data(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "recipes/make_data.py", folder]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def with_data(tmp_path_factory) -> Path:
    """A folder with what `python recipes/make_data.py data` leaves in it."""
    folder = tmp_path_factory.mktemp("recipes")
    done = make_data(folder / "data")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def test_in_a_checkout():
    found = shipped.shipped()
    assert found["quickstart"] == ROOT / "recipes/quickstart.yaml"
    assert len(found) == len(list((ROOT / "recipes").rglob("*.yaml")))


@pytest.mark.parametrize("name", shipped.shipped())
def test_an_editor_finds_the_schema(name):
    """The line is a comment in front of the first key: elsewhere the YAML language server does not see it."""
    comments = shipped.shipped()[name].read_text().partition("\nname: ")[0].splitlines()
    assert "# yaml-language-server: $schema=recipe.schema.json" in comments
    assert all(line.startswith("#") for line in comments)


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


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_passes_the_check(path, with_data, monkeypatch):
    monkeypatch.chdir(with_data)
    verdict = check(load_recipe(path))
    assert [str(problem) for problem in verdict.errors + verdict.warnings] == []


def test_the_table_of_the_page_has_what_each_says_of_itself():
    """Its name and, of the first line, what it costs and gives."""
    (table,) = TABLE.findall((ROOT / "docs/recipes.md").read_text(encoding="utf-8"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    said = {}
    for path in RECIPES:
        text = path.read_text(encoding="utf-8")
        command, _, result = text.splitlines()[0].partition("    ")
        assert command == f"# zoo finetune recipes/{path.name}"
        assert yaml.safe_load(text)["name"] == path.stem
        said[f"[{path.stem}](../recipes/{path.name})"] = result.strip()
    assert {row[0]: row[2] for row in rows} == said


def test_what_make_data_leaves(with_data):
    data = with_data / "data"
    assert len(list((data / "digits").rglob("*.png"))) == 1797
    assert [len(list((data / "rare/train" / str(digit)).iterdir())) for digit in (0, 5)] == [120, 15]
    for file in ("strips/strips.csv", "angles/angles.csv"):
        assert len((data / file).read_text().splitlines()) == 1201
    refused = make_data(data)
    assert refused.returncode == 1
    assert "nothing is overwritten" in refused.stderr


@pytest.mark.slow
def test_make_data_leaves_the_same_each_time(with_data, tmp_path):
    assert make_data(tmp_path / "data").returncode == 0
    first, again = (
        {file.relative_to(folder): file.read_bytes() for file in folder.rglob("*.*")}
        for folder in (with_data, tmp_path)
    )
    assert first == again


@pytest.mark.slow
@pytest.mark.parametrize("name", ["imbalanced", "multilabel", "regression", "own_folder"])
def test_each_kind_of_data_trains(name, with_data, tmp_path, monkeypatch):
    monkeypatch.chdir(with_data)
    own = ["data.limit=40", "train.epochs=1", "precision=float32"]
    run = zoo.finetune(ROOT / f"recipes/{name}.yaml", overrides=own, output=tmp_path, progress=Listener())
    assert run.report["data"]["train"] == 40
    assert zoo.load(run.report["checkpoint"]) is not None
