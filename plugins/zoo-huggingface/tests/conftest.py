"""Small random networks as transformers publishes them, on this machine."""

import json

import pytest
import torch
import transformers
from zoo_huggingface import catalogue

SMALL = {
    "vit": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24},
    "deit": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24},
    "dinov2": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    "beit": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24},
    "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
    "convnext": {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]},
    "swin": {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2},
    "segformer": {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 1, 1]},
    "dinov3_vit": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24},
}
PROCESSOR = {
    "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.5, 0.4, 0.3],
    "image_processor_type": "ViTImageProcessor", "image_std": [0.5, 0.6, 0.7], "resample": 3,
    "rescale_factor": 0.00392156862745098, "size": {"height": 32, "width": 32},
}  # fmt: skip
SQUARE = {"vit", "deit", "dinov2", "beit", "swin", "dinov3_vit"}  # whose configuration has image_size and patch_size


@pytest.fixture(autouse=True)
def quiet():
    transformers.logging.disable_progress_bar()


@pytest.fixture
def small():
    """The arguments of a small network of a kind, which takes 32 x 32 pixels."""
    return _small


@pytest.fixture
def processor():
    return dict(PROCESSOR)


def _small(kind, **more):
    square = {"image_size": 32, "patch_size": 4 if kind == "swin" else 8} if kind in SQUARE else {}
    return {**SMALL[kind], **square, **more}


@pytest.fixture
def publish(tmp_path):
    """A folder as `save_pretrained` leaves it, of a small network with every tensor random; and the network."""

    def published(kind, name=None, labels=("cat", "dog", "owl")):
        own = {"id2label": dict(enumerate(labels)), "label2id": {label: row for row, label in enumerate(labels)}}
        configuration = transformers.CONFIG_MAPPING[kind](**_small(kind), **own)
        made = name or (catalogue.classifiers() | catalogue.backbones())[kind]
        torch.manual_seed(5)
        model = getattr(transformers, made)(configuration).eval()
        for tensor in model.state_dict().values():  # what is in none is worked out by the constructor
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) / 2 + 0.1)
        folder = tmp_path / (name or kind)
        model.save_pretrained(folder)
        (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
        return folder, model

    return published


@pytest.fixture
def images():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Puts a folder into the hub's cache as the repository me/NAME, and takes the network away."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    def put(folder, name):
        commit = "0" * 40
        repository = tmp_path / "hub" / f"models--me--{name}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        (repository / "snapshots").mkdir()
        folder.rename(repository / "snapshots" / commit)
        return f"hf://me/{name}"

    return put
