"""LoRA on three networks: file sizes, base bits, merged logits. `python benchmarks/adapters.py`, a minute or two."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import nn

import zoo


def vit_of_transformers() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128}
    return ViTForImageClassification(ViTConfig(image_size=32, patch_size=8, num_labels=10, **sizes))


CASES: dict[str, tuple[Callable[[], nn.Module], str | None, int]] = {
    "timm/vit_tiny_patch16_224": (lambda: timm.create_model("vit_tiny_patch16_224"), "timm/vit_tiny_patch16_224", 224),
    "torchvision/resnet18": (torchvision.models.resnet18, "torchvision/resnet18", 64),
    "transformers ViT": (vit_of_transformers, None, 32),
}
STEPS = [
    {"swap_head": {"num_classes": 10}},
    {"lora": {"r": 8, "alpha": 16}},
    {"freeze": "adapters_only"},
    {"train": {"epochs": 1, "lr": 0.01}},
    {"save": {"name": "full"}},
    "save_adapter",
    "merge_adapters",
]


class Quiet:
    """Shows nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


def measure(name: str, folder: Path) -> str:
    """One line on one network, with random weights, trained for an epoch on a few digits."""
    make, architecture, side = CASES[name]
    torch.manual_seed(0)
    model = make()
    recipe = {
        "name": "lora",
        "precision": "float32",
        "data": {"source": "sklearn/digits", "image_size": side, "batch_size": 16, "limit": 48},
        "steps": STEPS,
    }
    if architecture is None:
        run = zoo.finetune(recipe, model=model, output=folder / "run", progress=Quiet())  # type: ignore[arg-type]
    else:
        save_file(model.state_dict(), folder / "base.safetensors")
        steps = [*STEPS[:4], {"save": {"name": "thin", "only": "trainable"}}, *STEPS[4:]]
        named = {"architecture": architecture, "weights": str(folder / "base.safetensors")}
        run = zoo.finetune({**recipe, "model": named, "steps": steps}, output=folder / "run", progress=Quiet())  # type: ignore[arg-type]
    given = {"model": make()} if architecture is None else {}
    images = torch.randn(4, 3, side, side, generator=torch.Generator().manual_seed(1))
    logits = []
    for file in ("full.safetensors", "model.safetensors"):
        with torch.no_grad():
            output = zoo.load(run.folder / file, **given)(images)
        logits.append(getattr(output, "logits", output))
        given = {"model": make()} if architecture is None else {}
    base, full = model.state_dict(), load_file(run.folder / "full.safetensors")
    plain = {key.replace(".base_layer.", "."): tensor for key, tensor in full.items() if "lora_" not in key}
    kept = [key for key, tensor in base.items() if key in plain and torch.equal(plain[key], tensor)]
    proof = next(stage["freeze_proof"] for stage in run.report["stages"] if stage["action"] == "train")
    sizes = {
        path.stem: path.stat().st_size
        for path in sorted(run.folder.glob("**/*.safetensors"))
        if "state" not in path.parts
    }
    return (
        f"{name}: {', '.join(f'{stem} {size:,} B' for stem, size in sizes.items())}; {len(kept)} of {len(base)} "
        f"tensors are the base's, bit for bit; {len(proof['moved'])} of {proof['tensors']} frozen ones moved; "
        f"merged logits within {float((logits[0] - logits[1]).abs().max()):.1e} of {float(logits[0].abs().max()):.1f}"
    )


if __name__ == "__main__":
    for case in CASES:
        with tempfile.TemporaryDirectory() as place:
            print(measure(case, Path(place)), flush=True)
