"""`zoo check`: what it prints, its JSON, its exit codes, and that it is quick and writes nothing."""

import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

QUICKSTART = Path(__file__).parents[2] / "recipes/quickstart.yaml"
SOUND = "model: tutorial/net_a\ndata: sklearn/digits\nsteps:\n  - freeze: {policy: below, module: fc3}\n  - train: 1\n"
BROKEN = "model: tutorial/net_z\ndata: sklearn/digits\nsteps:\n  - train: {epochs: 0}\n"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(text):
        Path("recipe.yaml").write_text(text)
        return "recipe.yaml"

    return write


def test_a_sound_recipe(zoo, recipe, tmp_path):
    outcome = zoo("check", recipe(SOUND))
    assert (outcome.code, outcome.err) == (0, "")
    assert re.findall(r"trains +(\S+) +frozen +(\S+)", outcome.out) == [("850", "61,156")]
    assert "tutorial/net_a  3x32x32 -> 10" in outcome.out
    assert outcome.out.endswith("recipe.yaml: no mistakes\n")
    assert [file.name for file in tmp_path.iterdir()] == ["recipe.yaml"], "nothing is written"


def test_mistakes_in_the_file_come_all_at_once(zoo, recipe):
    outcome = zoo("check", recipe(BROKEN))
    assert (outcome.code, outcome.out) == (2, "")
    assert [line.split(" ")[0] for line in outcome.err.splitlines()] == ["recipe.yaml:1:8:", "recipe.yaml:4:21:"]


def test_mistakes_of_the_dry_run_follow_what_is_known(zoo, recipe):
    outcome = zoo("check", recipe(SOUND.replace("fc3", "fc9")))
    assert outcome.code == 2
    assert outcome.err.startswith("recipe.yaml:4:37: no module at 'fc9'")
    assert "no mistakes" not in outcome.out


def test_warnings_do_not_stop_anything(zoo, recipe):
    outcome = zoo("check", recipe("model: tutorial/fashion_mlp_relu\ndata: sklearn/digits\nsteps: [train: 1]"))
    assert outcome.code == 0
    assert outcome.err.startswith("warning: recipe.yaml:3:")


def test_overrides(zoo, recipe):
    outcome = zoo("check", recipe(SOUND), "--set", "freeze.policy=all", "--set", "train.epochs=0")
    assert outcome.code == 2
    assert outcome.err.splitlines()[-1].startswith("--set train.epochs: train.epochs: expected an integer above 0")


def test_the_tree_shows_what_was_done(zoo, recipe):
    step = "  - add_module: {name: extra, module: {Linear: {out_features: 10}}, wire: false}\n"
    outcome = zoo("check", recipe(SOUND + step), "--tree")
    assert outcome.code == 0, outcome.err
    assert "  + extra  Linear(in_features=10, out_features=10, bias=True)" in outcome.out
    assert re.search(r"conv1 .*frozen", outcome.out)
    assert re.search(r"fc3 .*trains", outcome.out)
    assert re.search(r"extra .*never called", outcome.out)


class TestJson:
    def test_sound(self, zoo, recipe):
        outcome = zoo("check", recipe(SOUND), "--json")
        document = outcome.json
        assert (outcome.code, outcome.err) == (0, "")
        assert document["ok"] is True
        assert document["errors"] == document["warnings"] == []
        assert (document["trainable"], document["frozen"]) == (850, 61156)
        assert document["stages"] == [{"step": "train", "line": 5, "trainable": 850, "frozen": 61156}]
        assert (document["input_shape"], document["output_shape"]) == ([2, 3, 32, 32], [2, 10])

    def test_the_tree_on_demand(self, zoo, recipe):
        assert "tree" not in zoo("check", recipe(SOUND), "--json").json
        assert "SmallConvNet" in zoo("check", recipe(SOUND), "--json", "--tree").json["tree"]

    def test_mistakes_in_the_file(self, zoo, recipe):
        outcome = zoo("check", recipe(BROKEN), "--json")
        assert outcome.code == 2
        assert outcome.json["ok"] is False
        assert outcome.json["errors"][1] == {
            "file": "recipe.yaml",
            "line": 4,
            "column": 21,
            "message": "train.epochs: expected an integer above 0, got 0",
            "suggestion": None,
        }
        assert {"warnings", "trainable", "frozen"} <= outcome.json.keys()

    def test_mistakes_of_the_dry_run(self, zoo, recipe):
        outcome = zoo("check", recipe(SOUND.replace("fc3", "fc9")), "--json")
        assert outcome.code == 2
        (error,) = outcome.json["errors"]
        assert (error["line"], error["column"]) == (4, 37)
        assert error["suggestion"] == "did you mean fc3, fc2 or fc1?"

    def test_a_missing_recipe(self, zoo, tmp_path):
        outcome = zoo("check", tmp_path / "none.yaml", "--json")
        assert outcome.code == 2
        assert outcome.json["errors"][0]["line"] is None


def test_help_shows_examples(zoo):
    outcome = zoo("check", "--help")
    assert outcome.code == 0
    assert "zoo check recipes/quickstart.yaml --set train.epochs=1 --set data.batch_size=16" in outcome.out


@pytest.mark.slow
def test_the_quickstart_is_checked_in_seconds_without_reading_weights():
    """A process of its own, imports and all: 5 s is the aim; crowded cores take up to thrice that."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "zoo", "check", str(QUICKSTART)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 15


def test_what_it_would_take_is_tried_out_where_that_is_asked_for(zoo, recipe):
    short = "model: timm/test_resnet\ndata: {source: sklearn/digits, image_size: 32, batch_size: 8, limit: 100}\n"
    short += "precision: float32\nsteps:\n  - swap_head: auto\n  - train: 1\n"
    outcome = zoo("check", recipe(short), "--estimate")
    assert outcome.code == 0
    assert "estimate on cpu (32 of 100 samples tried for " in outcome.out
    assert "step 2 train: " in outcome.out
    document = zoo("check", recipe(short), "--estimate", "--json").json
    assert document["estimate"]["steps"][0]["action"] == "train"
    assert zoo("check", recipe(short), "--json").json["estimate"] is None
    assert "estimate" not in zoo("check", recipe(BROKEN), "--estimate").out
