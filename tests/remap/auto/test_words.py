"""Words in names: synonyms, and which of two modules comes first."""

from __future__ import annotations

import pytest

from zoo.remap.auto.words import comes_first, tokens, words


def test_synonyms_are_one_word():
    assert tokens("encoder.self_attention.layernorm_0") == ["encoder", "self", "attn", "norm", "0"]
    assert words("blocks.3.attention_norm") == {"blocks", "attn", "norm"}
    assert words("x.ab.q") == {"query"}  # short words that are in no list say nothing


@pytest.mark.parametrize(
    ("paths", "first"),
    [
        (("b.0.layernorm_after", "b.0.layernorm_before"), 1),
        (("b.0.attention_norm", "b.0.ffn_norm"), 0),
        (("b.0.final_layer_norm", "b.0.self_attn_layer_norm"), 1),
        (("b.0.input_layernorm", "b.0.post_attention_layernorm"), 0),
        (("b.1.0.norm1", "b.1.0.norm2"), 0),
        (("mlp.fc1_g", "mlp.fc1_x"), 0),
        (("mlp.up_proj", "mlp.gate_proj"), 1),
    ],
)
def test_which_comes_first(paths, first):
    assert comes_first(paths) == ((0, 1) if first == 0 else (1, 0))


@pytest.mark.parametrize(
    "paths",
    [
        ("b.norm_a", "b.norm_b"),
        ("b.post_attention_norm", "b.pre_feedforward_norm"),  # the one word says so, the other the opposite
        ("p13", "p8"),  # a number that is all of a name may be anything
        ("conv3", "downsample.0"),
    ],
)
def test_words_that_do_not_say_it(paths):
    assert comes_first(paths) is None
