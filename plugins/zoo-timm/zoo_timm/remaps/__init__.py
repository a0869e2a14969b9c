"""Rules that bring other libraries' layouts to timm's; each is general over the sizes of its family.

A remap is a function that returns the rules as they would stand under `remap:` in a recipe (see docs/remap.md). Lines
of one rename are alternatives, so lines about a particular stage stand in front of those about any stage, on both
sides: that is what lets `zoo convert --invert` run a remap backwards.
"""

from typing import Any

Rules = list[dict[str, Any]]
