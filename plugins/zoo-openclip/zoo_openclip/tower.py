"""The image tower as a classifier: features of length one, and a linear head on them. Imports torch."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


class ImageTower(nn.Module):
    """An image tower of open_clip's, its embedding scaled to length one, and a head: images [b, 3, h, w] to [b, n].

    Without `num_classes` the head is an Identity and the embedding comes out, as of `encode_image(…, normalize=True)`.
    """

    def __init__(self, visual: nn.Module, width: int, num_classes: int = 0, side: int | list[int] = 224) -> None:
        super().__init__()
        self.visual = visual
        self.head = nn.Linear(width, num_classes) if num_classes else nn.Identity()
        height, across = (side, side) if isinstance(side, int) else side
        # what zoo asks of timm's models: where the head is, and what goes in
        self.default_cfg: dict[str, Any] = {"classifier": "head", "input_size": (3, height, across)}

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(F.normalize(self.visual(images), dim=-1))
        return scores


def build_tower(config: dict[str, Any], num_classes: int) -> ImageTower:
    """The tower of a configuration, its parameters fresh."""
    from open_clip.model import CLIPVisionCfg, _build_vision_tower

    vision = CLIPVisionCfg(**config["vision_cfg"])
    visual = _build_vision_tower(config["embed_dim"], vision, config.get("quick_gelu", False))
    return ImageTower(visual, config["embed_dim"], num_classes, config["vision_cfg"].get("image_size", 224))
