"""Rules that bring other libraries' layouts to timm's; each is general over the sizes of its family.

A remap is a function that returns the rules as they would stand under `remap:` in a recipe (see docs/remap.md). No two
lines of a rename lead to the same name (`{i+1}` leaves stage 0 to a line of its own), which lets `zoo convert --invert`
run a remap backwards.
"""

from typing import Any

Rules = list[dict[str, Any]]
