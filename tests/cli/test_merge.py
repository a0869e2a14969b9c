"""`zoo merge` as the shell runs it."""

import pytest

import zoo as library


@pytest.fixture
def files(tmp_path):
    model = library.build("tutorial/net_a")
    for name in ("a", "b"):
        library.save(model, tmp_path / f"{name}.safetensors", classes=[str(digit) for digit in range(10)])
    return [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]


def test_a_row_for_each_member_and_what_was_written(zoo, files, tmp_path):
    done = zoo("merge", *files, tmp_path / "mean.safetensors")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line.split() for line in lines[:4]] == [
        ["average", "of", "2"], ["a.safetensors", "0.500"], ["b.safetensors", "0.500"], ["mean.safetensors"],
    ]  # fmt: skip
    assert lines[4].startswith(f"wrote {tmp_path / 'mean.safetensors'}")
    assert "note: of a.safetensors, b.safetensors it is not known whether the base is that of the others" in done.err
    done = zoo("merge", *files, tmp_path / "wise.safetensors", "--method", "wise-ft", "--alpha", "0.25", "--json")
    assert done.json["alpha"] == 0.25
    assert [row["weight"] for row in done.json["members"]] == [0.75, 0.25]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a", "b"], "two checkpoints or more and a destination"),
        (["a", "b", "c.safetensors", "--method", "mean"], "there is no method 'mean'"),
        (["a", "b", "c.safetensors"], "there is no file a"),
        (["a", "b", "c.safetensors", "--to-argument", "x"], "--to-argument x: expected KEY=VALUE"),
    ],
)
def test_wrong_input_is_code_2(zoo, tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    done = zoo("merge", *arguments)
    assert done.code == 2
    assert told in done.err
    assert not list(tmp_path.iterdir())
