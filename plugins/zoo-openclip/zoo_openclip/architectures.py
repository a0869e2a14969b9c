"""The architecture source: names from open_clip's files, image towers and tags by asking open_clip."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.api import InputError, Preprocessing, Weights
from zoo.errors import did_you_mean
from zoo_openclip import catalogue

if TYPE_CHECKING:
    from torch import nn

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # OpenAI's, the default
FILE = "open_clip_model.safetensors"  # what repositories of open_clip's call their weights


class OpenClip:
    """`openclip/…` in a recipe: the image tower of a model of open_clip's, to which `zero_shot` gives a head."""

    def names(self) -> list[str]:
        """Every model with an image and a text tower, without importing open_clip."""
        return list(catalogue.configurations())

    def build(self, name: str, *, num_classes: int = 0) -> nn.Module:
        """The image tower; embeddings of length one come out without `num_classes`. Imports open_clip."""
        from zoo_openclip.tower import build_tower

        return build_tower(self._configuration(name), num_classes)

    def tags(self, name: str) -> list[str]:
        """The pretrained tags of a model that are on the Hugging Face hub. Imports open_clip."""
        from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

        self._configuration(name)
        return [tag for tag in list_pretrained_tags_by_model(name) if get_pretrained_cfg(name, tag).get("hf_hub")]

    def preprocessing(self, name: str, tag: str | None = None) -> Preprocessing:
        """What a tag's images look like; OpenAI's mean and deviation without one. Imports open_clip for a tag.

        Where open_clip squashes images, they are resized and cropped instead.
        """
        size = self._configuration(name)["vision_cfg"].get("image_size", 224)
        height, width = (size, size) if isinstance(size, int) else size
        said = self._tag(name, tag) if tag is not None else {}
        return Preprocessing(
            size=(height, width),
            mean=tuple(said.get("mean") or MEAN),
            std=tuple(said.get("std") or STD),
            interpolation=said.get("interpolation") or "bicubic",
            crop_fraction=1.0,
        )

    def weights(self, name: str, tag: str) -> Weights:
        """The file of both towers on the Hugging Face hub, of which the image tower is loaded. Imports open_clip."""
        repository, _, file = str(self._tag(name, tag)["hf_hub"]).rpartition("/")
        return Weights(
            location=f"hf://{repository}/{file or FILE}",
            architecture=f"openclip/{name}",
            remap="openclip/image_tower",
            preprocessing=self.preprocessing(name, tag),
        )

    def _configuration(self, name: str) -> dict[str, Any]:
        known = catalogue.configurations()
        if name not in known:
            raise InputError(f"open_clip has no {name!r}", suggestion=did_you_mean(name, known))
        return known[name]

    def _tag(self, name: str, tag: str) -> dict[str, Any]:
        from open_clip.pretrained import get_pretrained_cfg

        if tag not in (tags := self.tags(name)):
            hint = did_you_mean(tag, tags) or f"its tags: {', '.join(tags) or 'none'}"
            raise InputError(f"openclip/{name} has no weights {tag!r}", suggestion=hint)
        return dict(get_pretrained_cfg(name, tag))
