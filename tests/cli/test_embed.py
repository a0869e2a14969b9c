"""`zoo embed` on the command line."""

import numpy as np


def test_a_recipes_held_out_images(zoo, trained, checkpoint, tmp_path):
    made = zoo("embed", checkpoint, trained / "recipe.yaml", tmp_path / "e.npz", "--part", "validation", "--json")
    assert (made.code, made.err) == (0, "")
    with np.load(tmp_path / "e.npz") as file:
        assert file["features"].shape == (made.json["images"], *made.json["shape"])
        assert set(file["parts"].tolist()) == {"validation"}
    again = zoo(
        "embed", checkpoint, trained / "recipe.yaml", tmp_path / "e.npz", "--overwrite", "--module", "features.3"
    )
    assert again.out.startswith(f"wrote {tmp_path / 'e.npz'}")
    assert "of features.3" in again.out


def test_an_architecture_needs_weights(zoo, trained, tmp_path):
    refused = zoo("embed", "timm/test_resnet", trained / "recipe.yaml", tmp_path / "e.npz")
    assert (refused.code, refused.out) == (2, "")
    assert "--weights" in refused.err
