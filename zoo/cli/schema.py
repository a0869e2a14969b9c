"""`zoo schema`: the JSON Schema of recipes with all that is installed, for editors."""

from __future__ import annotations

import json


def command() -> None:
    """Print the JSON Schema of recipes (draft 2020-12), the installed plugins' components included.

    Editors complete and check recipes with it: write it to a file, and begin a recipe with a line that names it.

    Examples:

        zoo schema > recipe.schema.json
        # yaml-language-server: $schema=recipe.schema.json
    """
    from zoo.recipe.schema import recipe_schema

    print(json.dumps(recipe_schema(), indent=1))
