"""The architecture source: names and tags by reading torchvision's files, everything else by asking torchvision."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zoo.api import Preprocessing, Weights
from zoo.errors import InputError, did_you_mean
from zoo_torchvision import catalogue

if TYPE_CHECKING:
    from torch import nn
    from torchvision.models import WeightsEnum

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # torch.hub's habit: the file's sha256 begins with it
_INCEPTIONS = ("googlenet", "inception_v3")


class Torchvision:
    """`torchvision/…` in a recipe: an architecture's arguments are those of its function in `torchvision.models`."""

    def names(self) -> list[str]:
        """Every classification architecture of the installed torchvision, without importing it."""
        return sorted(catalogue.builders())

    def tags(self, name: str) -> list[str]:
        """The weight tags of an architecture, torchvision's default first. Raises InputError for an unknown name."""
        try:
            return catalogue.read_tags(name)
        except KeyError:
            raise InputError(f"torchvision has no {name!r}", suggestion=did_you_mean(name, self.names())) from None

    def build(self, name: str, **arguments: Any) -> nn.Module:
        """`torchvision.models.get_model(name, weights=None, **arguments)`.

        GoogLeNet and Inception v3 come without their auxiliary classifiers (`aux_logits: true` brings them back):
        in training mode those return a tuple that no loss takes, and a new head would leave theirs at 1,000 classes.
        They also come with torch's initialisation; theirs takes minutes (`init_weights: true`).
        """
        from torchvision.models import get_model

        if name in _INCEPTIONS:
            arguments = {"aux_logits": False, "init_weights": False, **arguments}
        with _regnet_widths_on_cpu():
            model: nn.Module = get_model(name, weights=None, **arguments)
        return model

    def preprocessing(self, name: str, tag: str | None = None) -> Preprocessing:
        """What the weights of `tag` expect (torchvision's default without one). Imports torchvision.

        The inception networks' own files expect mean and std 0.5. torchvision hides that behind `transform_input`,
        which is off in what `build` returns, so it is said here instead.
        """
        transforms = self._entry(name, tag).transforms()
        crop, resize = transforms.crop_size[0], transforms.resize_size[0]
        half = (0.5, 0.5, 0.5)
        return Preprocessing(
            size=(crop, crop),
            mean=half if name in _INCEPTIONS else tuple(transforms.mean),
            std=half if name in _INCEPTIONS else tuple(transforms.std),
            interpolation=transforms.interpolation.value,
            crop_fraction=crop / resize,
        )

    def weights(self, name: str, tag: str) -> Weights:
        """torchvision's own file for a tag. Imports torchvision. Raises InputError for a tag that does not exist."""
        from zoo_torchvision.weights import adapt

        entry = self._entry(name, tag)
        digest = _HASH_IN_NAME.search(entry.url)
        return Weights(
            location=entry.url,
            architecture=f"torchvision/{name}",
            preprocessing=self.preprocessing(name, tag),
            sha256=digest.group(1) if digest else None,
            classes=entry.meta["categories"],
            license=entry.meta.get("license"),
            source=entry.meta.get("recipe"),
            convert=functools.partial(adapt, name),
        )

    def _entry(self, name: str, tag: str | None) -> WeightsEnum:
        tags = self.tags(name)
        if tag is not None and tag not in tags:
            hint = did_you_mean(tag, tags) or f"its tags: {', '.join(tags)}"
            raise InputError(f"torchvision/{name} has no weights {tag!r}", suggestion=hint)
        from torchvision.models import get_model_weights

        return get_model_weights(name)[tag or tags[0]]


@contextlib.contextmanager
def _regnet_widths_on_cpu() -> Iterator[None]:
    """RegNet's builders compute their widths with tensors, which have no values under `torch.device('meta')`."""
    from unittest import mock

    import torch
    from torchvision.models.regnet import BlockParams

    compute = BlockParams.from_init_params

    def compute_on_cpu(*arguments: Any, **named: Any) -> BlockParams:
        with torch.device("cpu"):
            return compute(*arguments, **named)

    with mock.patch.object(BlockParams, "from_init_params", compute_on_cpu):
        yield
