"""What the words in a name mean to a matcher: synonyms, and which of two modules of a block comes first by its name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

_TOKEN = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")
_LEAST = 3  # letters of a word that is in no list here; shorter ones meet by chance

_SYNONYMS = {
    "attn": "attention attentions selfattention msa mha sa",
    "mlp": "ffn ff feed feedforward",
    "norm": "layernorm batchnorm normalization batchnormalization ln bn gn",
    "dist": "distill distilled distillation",
    "cls": "class",
    "pos": "position positional posembed",
    "embed": "embedding embeddings",
    "proj": "projection project",
    "conv": "convolution",
    "depthwise": "dw dwconv",
    "pointwise": "pw pwconv",
    "shortcut": "downsample skip",
    "query": "q queries",
    "key": "k keys",
    "value": "v values",
    "register": "reg registers",
    "gate": "g",
    "final": "last",
}
_MEANING = {word: meaning for meaning, words in _SYNONYMS.items() for word in (meaning, *words.split())}

_BEFORE = (
    ("before", "after"), ("pre", "post"), ("input", "post"), ("input", "output"), ("attn", "mlp"), ("attn", "final"),
    ("attn", "output"), ("first", "second"), ("first", "final"), ("key", "value"), ("query", "key"), ("query", "value"),
    ("gate", "up"), ("gate", "x"),
)  # fmt: skip
"""Words of which the first is of what a block does before what the second is of."""


def tokens(path: str) -> list[str]:
    """The words and numbers of a path in small letters, synonyms as one word."""
    found = (token.lower() for token in _TOKEN.findall(path))
    return [_MEANING.get(token, token) for token in found]


def words(path: str) -> set[str]:
    """The words of a path that say something, synonyms as one word; no numbers."""
    known = set(_MEANING.values())
    return {word for word in tokens(path) if word in known or (len(word) >= _LEAST and not word.isdigit())}


def comes_first(paths: Iterable[str]) -> tuple[int, int] | None:
    """Which of two paths comes first in a block by the words and numbers in which they differ; None if none says so."""
    both = list(paths)
    one, other = (Counter(tokens(path)) for path in both)
    mine, its = one - other, other - one
    if len(mine) == len(its) == 1 and all(word.isdigit() for word in (*mine, *its)) and all("." in p for p in both):
        return (0, 1) if int(*mine) < int(*its) else (1, 0)
    forward = any(a in mine and b in its for a, b in _BEFORE)
    backward = any(a in its and b in mine for a, b in _BEFORE)
    return None if forward == backward else (0, 1) if forward else (1, 0)
