"""A network: build it, load into it, operate on it, freeze it, look at it."""
