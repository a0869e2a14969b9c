"""`zoo recipes`: the list, and a copy that overwrites nothing."""

from pathlib import Path

import pytest

RECIPES = Path(__file__).parents[2] / "recipes"


def test_the_list_has_all_of_them(zoo):
    rows = zoo("recipes", "--json").json["recipes"]
    assert {row["name"] for row in rows} == {
        path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.rglob("*.yaml")
    }
    assert "tutorials/mlp" in zoo("recipes").out
    assert all(row["title"] for row in rows)


def test_a_copy_and_never_over_another_file(zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert zoo("recipes", "copy", "quickstart").out == "quickstart.yaml\n  zoo check quickstart.yaml\n"
    assert (tmp_path / "quickstart.yaml").read_bytes() == (RECIPES / "quickstart.yaml").read_bytes()
    (tmp_path / "quickstart.yaml").write_text("mine")
    refused = zoo("recipes", "copy", "quickstart")
    assert (refused.code, refused.out) == (2, "")
    assert "quickstart.yaml is there already, and nothing is overwritten" in refused.err
    assert (tmp_path / "quickstart.yaml").read_text() == "mine"
    assert zoo("recipes", "copy", "mlp", "into/").code == 0
    assert (tmp_path / "into" / "mlp.yaml").exists()
    assert zoo("recipes", "copy", "recipes/quickstart.yaml", "one.yaml", "--json").json == {"file": "one.yaml"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["copy"], "needs a recipe's name"),
        (["copy", "quikstart"], "did you mean quickstart?"),
        (["cpoy", "quickstart"], "did you mean copy?"),
    ],
)
def test_mistakes(zoo, words, said):
    outcome = zoo("recipes", *words)
    assert outcome.code == 2
    assert said in outcome.err
