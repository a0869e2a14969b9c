"""The architecture source: names and tags by reading timm's files, everything else by asking timm."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from zoo.api import Preprocessing, Weights
from zoo.errors import InputError, did_you_mean
from zoo_timm import catalogue

if TYPE_CHECKING:
    from timm.models import PretrainedCfg
    from torch import nn

_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.\w+$")  # torch.hub's habit: the file's sha256 begins with it


class Timm:
    """`timm/…` in a recipe: an architecture's arguments are those of `timm.create_model`."""

    def names(self) -> list[str]:
        """Every architecture of the installed timm, without importing it."""
        return sorted(name for names in catalogue.names_by_file().values() for name in names)

    def tags(self, name: str) -> list[str]:
        """The pretrained tags of an architecture, timm's default first. Raises InputError for an unknown name."""
        from zoo_timm.tags import UnreadableError, read_tags

        try:
            return read_tags(name)
        except KeyError:
            raise InputError(f"timm has no {name!r}", suggestion=did_you_mean(name, self.names())) from None
        except UnreadableError:
            return _ask_timm(name)

    def build(self, name: str, **arguments: Any) -> nn.Module:
        """`timm.create_model(name, pretrained=False, **arguments)`."""
        import timm

        return timm.create_model(name, pretrained=False, **arguments)

    def preprocessing(self, name: str, tag: str | None = None) -> Preprocessing:
        """What the weights of `tag` expect (timm's default tag's without one). Imports timm.

        timm's `crop_mode` has no counterpart: a `squash` or `border` model gets a centre crop of the same fraction.
        """
        configuration = self._configuration(name, tag)
        channels, height, width = configuration.input_size
        return Preprocessing(
            size=(height, width),
            mean=tuple(configuration.mean),
            std=tuple(configuration.std),
            interpolation=configuration.interpolation,
            crop_fraction=configuration.crop_pct,
            channels=channels,
        )

    def weights(self, name: str, tag: str) -> Weights:
        """Where the weights of a tag lie: on the Hugging Face hub, else at timm's address. Imports timm.

        Raises InputError for a tag the architecture does not have.
        """
        from zoo_timm.weights import adapt, class_names

        configuration = self._configuration(name, tag)
        location, digest = _location(configuration)
        return Weights(
            location=location,
            architecture=f"timm/{name}",
            preprocessing=self.preprocessing(name, tag),
            sha256=digest,
            classes=class_names(configuration),
            license=configuration.license,
            source=configuration.origin_url,
            convert=functools.partial(adapt, name, tag),
        )

    def _configuration(self, name: str, tag: str | None) -> PretrainedCfg:
        if tag is not None and tag not in (tags := self.tags(name)):
            hint = did_you_mean(tag, tags) or f"its tags: {', '.join(tags) or 'none'}"
            raise InputError(f"timm/{name} has no weights {tag!r}", suggestion=hint)
        from timm.models import PretrainedCfg, get_pretrained_cfg

        found: PretrainedCfg | None = get_pretrained_cfg(f"{name}.{tag}" if tag else name)
        return found or PretrainedCfg()


def _ask_timm(name: str) -> list[str]:
    """The tags as timm itself lists them, its default first."""
    import timm

    default = timm.models.get_pretrained_cfg(name)
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{name}.*")]
    return sorted(tags, key=lambda tag: default is None or tag != default.tag)


def _location(configuration: PretrainedCfg) -> tuple[str, str | None]:
    """The address of a checkpoint and the sha256 prefix its name carries, where it carries one."""
    if configuration.hf_hub_id:
        file = f"/{configuration.hf_hub_filename}" if configuration.hf_hub_filename else ""
        return f"hf://{configuration.hf_hub_id}{file}", None
    url = str(configuration.url)
    found = _HASH_IN_NAME.search(url)
    return url, found.group(1) if found else None
