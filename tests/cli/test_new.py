"""`zoo new plugin`."""

import pytest


def test_it_says_what_it_wrote_and_what_to_type(zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = zoo("new", "plugin", "acme", "--with", "surgery,datasets")
    assert outcome.code == 0, outcome.err
    assert "zoo-acme/zoo_acme/datasets.py\n" in outcome.out
    assert outcome.out.endswith("\nnext: pip install -e 'zoo-acme[test]', zoo list --plugin acme, pytest zoo-acme\n")
    assert sorted(path.name for path in (tmp_path / "zoo-acme/tests").iterdir()) == [
        "test_datasets.py",
        "test_surgeries.py",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plugin", "acme", "--with", "surgry"], "there is no kind 'surgry' (did you mean surger"),
        (["plugin", "acme", "--with", ","], "--with names no kind"),
        (["model", "acme"], "zoo new writes a plugin, no 'model' (zoo new plugin acme)"),
        (["plugin", "timm"], "a plugin timm is installed already: zoo-timm"),
    ],
)
def test_mistakes(zoo, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    outcome = zoo("new", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert said in outcome.err
    assert not list(tmp_path.iterdir())
