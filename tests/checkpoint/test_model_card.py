"""The card that goes with a checkpoint: whose README.md counts, and what a made one says."""

import yaml

from zoo.checkpoint.model_card import card_beside, minimal_card
from zoo.formats.checkpoint_metadata import CheckpointMetadata

RECORD = {
    "architecture": "timm/resnet18",
    "classes": ["cat", "<script>", "a\nb", "x|y"],
    "metrics": {"accuracy": 0.91, "loss": None},
    "preprocessing": {
        "size": [64, 32], "mean": [0.5], "std": [0.5], "interpolation": "bilinear", "crop_fraction": 1.0, "channels": 1,
    },
    "base_weights": {
        "name": "hf://timm/resnet18.a1_in1k", "location": "hf://timm/resnet18.a1_in1k/model.safetensors@main",
        "sha256": "0" * 64, "license": "apache-2.0",
    },
}  # fmt: skip


def test_a_readme_is_a_card_by_its_front_matter(tmp_path):
    checkpoint = tmp_path / "model.safetensors"
    assert card_beside(checkpoint) is None
    (tmp_path / "README.md").write_text("# what this folder is\n")
    assert card_beside(checkpoint) is None
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\nwords\n")
    assert card_beside(checkpoint) == "---\nlicense: mit\n---\nwords\n"
    (tmp_path / "README.md").write_bytes(b"---\n\xff\n---\n")
    assert card_beside(checkpoint) is None


def test_a_made_card_says_what_the_file_says():
    card = minimal_card("me/cats", CheckpointMetadata.model_validate(RECORD))
    _, front, text = card.split("---\n", 2)
    assert yaml.safe_load(front) == {
        "library_name": "zoo",
        "tags": ["zoo"],
        "pipeline_tag": "image-classification",
        "license": "apache-2.0",
        "base_model": "timm/resnet18.a1_in1k",
    }
    assert "# cats\n" in text
    assert 'zoo.load("hf://me/cats")' in text
    assert "- accuracy: 0.9100\n" in text
    assert "- images: 64 x 32 pixels" in text
    assert r"- 4 classes: cat, \<script\>, a\\nb, x\|y" in text
    assert "loss" not in text
