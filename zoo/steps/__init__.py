"""One file a step of a recipe."""
