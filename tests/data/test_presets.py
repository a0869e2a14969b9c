"""The words of `data.augmentation`: docs/augmentation.md says exactly what each stands for.

`ZOO_WRITE_GOLDEN=1` writes the page's table anew.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import get_args

from zoo.data.presets import PRESETS, mixing_of
from zoo.recipe.options import DataOptions

PAGE = Path(__file__).parents[2] / "docs" / "augmentation.md"
TABLE = re.compile(r"(?s)<!-- table: presets -->\n(.*?)<!-- end -->\n")


def written(value) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(inner)}" for key, inner in value.items()) + "}"
    return value if isinstance(value, str) else json.dumps(value)


def test_the_page_says_what_each_word_stands_for():
    rows = ["| word | transforms, in this order | the train step's |", "| --- | --- | --- |"]
    for word in ("light", "strong", "crop_flip", "randaugment", "trivial"):
        preset = PRESETS[word]
        each = "<br>".join(f"`{written(value).removeprefix('{').removesuffix('}')}`" for value in preset.transforms)
        rows.append(f"| `{word}` | {each} | {f'`{written(dict(preset.mixing))[1:-1]}`' if preset.mixing else ''} |")
    made, text = "\n".join(rows) + "\n", PAGE.read_text(encoding="utf-8")
    found = TABLE.search(text)
    if os.environ.get("ZOO_WRITE_GOLDEN"):
        PAGE.write_text(text[: found.start(1)] + made + text[found.end(1) :], encoding="utf-8")
    else:
        assert found[1] == made


def test_every_word_is_a_list_of_transforms_but_two():
    words = get_args(get_args(DataOptions.model_fields["augmentation"].annotation)[0])
    assert set(words) == {"none", "flip", *PRESETS}
    assert [word for word in words if mixing_of(word)] == ["strong"]
