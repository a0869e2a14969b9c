"""The verbs of `import zoo` that take what Python code has at hand: models in memory, data sets, transforms.

What they do is done in the rooms; `zoo.build`, `load`, `load_into`, `convert`, `inspect`, `diff` and `names` are those
rooms' own functions.
"""
