"""What is left out unasked, and what is not: a tensor that may act on what is loaded stays, and is named."""

from __future__ import annotations

import pytest

from zoo.remap.auto import match

BODY = {
    "cls_token": (1, 1, 8),
    "blocks.0.fc.weight": (16, 8),
    "blocks.0.fc.bias": (16,),
    "norm.weight": (8,),
    "norm.bias": (8,),
}
HEAD = {"head.weight": (3, 8), "head.bias": (3,)}


def dropped(make, extra, target):
    result = match(make({**BODY, **extra}), make(target))
    assert result.status == "unique"
    return {name for rule in result.rules if "drop" in rule for name in [str(rule["drop"])]}


@pytest.mark.parametrize(
    "extra",
    [
        {"reg_token": (1, 4, 8)},
        {"absolute_pos_embed": (1, 5, 8)},
        {**HEAD, "pre_logits.fc.weight": (8, 8), "pre_logits.fc.bias": (8,)},
        {**HEAD, "neck.weight": (8, 8)},
        {**HEAD, **{f"neck.{k}.weight": (9, k + 2) for k in range(3)}},
        {**HEAD, "head_dist.weight": (3, 8), "head_dist.bias": (3,)},
        {"blocks.0.gamma": (7,)},
    ],
)
def test_what_may_act_on_what_is_loaded_stays(make, extra):
    target = {**BODY, **(HEAD if "head.weight" in extra else {})}
    assert dropped(make, extra, target) == set()


@pytest.mark.parametrize(
    "extra",
    [
        {"mask_token": (1, 1, 8)},
        HEAD,
        {"pooler.dense.weight": (8, 8), "pooler.dense.bias": (8,)},
        {"decoder_embed.weight": (5, 8), "decoder_pos_embed": (1, 5, 5)},
        {"text.positional_embedding": (5, 4), "text.ln.weight": (4,), "logit_scale": ()},
        {**{f"AuxLogits.{k}.weight": (9, k + 2) for k in range(3)}},
        {"blocks.0.relative_position_index": (5, 5)},
    ],
)
def test_what_does_not_act_on_it_is_dropped(make, extra):
    assert dropped(make, extra, BODY)


def test_a_norm_in_front_of_pooling_is_not_one_behind_it(make):
    target = {name.replace("norm.", "fc_norm."): shape for name, shape in BODY.items()}
    result = match(make(BODY), make(target))
    assert not result.found
    assert "fc_norm" in result.render()
