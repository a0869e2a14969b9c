"""Recipes: YAML with positions, a schema from signatures, every mistake at once. Importing this imports no torch."""

from zoo.recipe.load import load_recipe
from zoo.recipe.recipe import Recipe
from zoo.recipe.step import Step

__all__ = ["Recipe", "Step", "load_recipe"]
