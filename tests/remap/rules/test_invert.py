"""Programs run backwards: same names, shapes and bytes; and what cannot be, says why."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.errors import InputError
from zoo.formats.entry import Entry
from zoo.remap.expression import evaluate
from zoo.remap.rules import check_inverse, dump_rules, invert, load_rules, parse_rules, run

VIT = """
- strip_prefix: vit.
- rename:
    embeddings.cls_token: cls_token
    'embeddings.patch_embeddings.projection.{leaf=weight|bias}': 'patch_embed.proj.{leaf}'
    'encoder.layer.{i}.layernorm_before.{leaf=weight|bias}': 'blocks.{i}.norm1.{leaf}'
- concat:
    into: 'blocks.{i}.attn.qkv.{leaf=weight|bias}'
    from: ['encoder.layer.{i}.q.{leaf}', 'encoder.layer.{i}.k.{leaf}', 'encoder.layer.{i}.v.{leaf}']
- transpose: ^patch_embed.proj.weight$
- permute: {match: cls_token, axes: [2, 0, 1]}
- reshape: {match: norm1, from: [0], to: [0, 1, 1]}
- split: {from: head.weight, into: [head.a, head.b], axis: 1, sizes: [1, 3]}
- stack: {into: 'blocks.{i}.scales', from: ['encoder.layer.{i}.s1', 'encoder.layer.{i}.s2'], axis: 1}
- cast: {to: float32, from: bfloat16, match: half}
- tie: {decoder.weight: embed.weight}
- drop: {match: index$, derived: true}
"""


def shapes() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {
        "vit.embeddings.cls_token": (1, 1, 4),
        "vit.embeddings.patch_embeddings.projection.weight": (4, 6),
        "vit.embeddings.patch_embeddings.projection.bias": (4,),
        "vit.head.weight": (2, 4),
        "vit.embed.weight": (5, 4),
    }
    for i in range(2):
        layer = f"vit.encoder.layer.{i}"
        found |= {f"{layer}.layernorm_before.{leaf}": (4,) for leaf in ("weight", "bias")}
        found |= {f"{layer}.{part}.{leaf}": s for part in "qkv" for leaf, s in (("weight", (4, 4)), ("bias", (4,)))}
        found |= {f"{layer}.s1": (3,), f"{layer}.s2": (3,)}
    return found


def carry(rules: list, arrays: dict[str, tuple[str, np.ndarray]], aliases: dict[str, str] | None = None) -> tuple:
    """A file's tensors (dtype and bits by name) through rules, and its ties."""
    entries = {name: Entry(name, dtype, array.shape) for name, (dtype, array) in arrays.items()}
    outcome = run(rules, entries, aliases)
    made = {
        name: (value.dtype, evaluate(value, lambda source: arrays[source][1])) for name, value in outcome.values.items()
    }
    return made, outcome.ties


def test_there_and_back_gives_the_same_bytes() -> None:
    generator = np.random.default_rng(0)
    original = {name: ("F32", generator.normal(size=shape).astype("f4")) for name, shape in shapes().items()}
    original["vit.half"] = "BF16", generator.integers(0, 2**16, 7, dtype="u2") & 0x7F7F
    rules = parse_rules(yaml.safe_load(VIT))
    there, ties = carry(rules, original)
    assert ties == {"decoder.weight": "embed.weight"}
    inverse = invert(rules)
    entries = {name: Entry(name, dtype, array.shape) for name, (dtype, array) in there.items()}
    check_inverse(rules, entries, ties)
    back, _ = carry(inverse, there, ties)
    extra = {"vit.decoder.weight"} - original.keys()
    assert back.keys() - extra == original.keys()
    for name, (dtype, array) in original.items():
        assert back[name][0] == dtype, name
        assert back[name][1].tobytes() == array.tobytes(), name
        assert back[name][1].shape == array.shape, name


def test_the_inverse_is_a_program_like_any_other(tmp_path) -> None:
    inverse = invert(parse_rules(yaml.safe_load(VIT)))
    (tmp_path / "back.yaml").write_text(dump_rules(inverse))
    assert load_rules(tmp_path / "back.yaml") == inverse


def test_every_rule_that_cannot_run_backwards_is_named_with_its_reason() -> None:
    rules = parse_rules(
        yaml.safe_load(
            """
            - drop: a
            - keep: b
            - slice: {match: c, stop: 1}
            - cast: float16
            - cast: {to: float16, from: float32}
            - reshape: {match: d, to: [-1]}
            - resample_pos_embed: e
            - adapt_input: f
            - rename: {'g\\d': h}
            - rename: {^i\\.: j.}
            """
        )
    )
    with pytest.raises(InputError) as caught:
        invert(rules)
    told = [problem.message for problem in caught.value.problems]
    assert len(told) == 9
    reasons = [
        "brought back",
        "brought back",
        "cut off",
        "say `from",
        "cannot represent",
        "say `from",
        "values",
        "values",
    ]
    for message, reason in zip(told, [*reasons, "more than one text"], strict=True):
        assert reason in message


def test_two_ways_back_are_an_error(entries: Callable) -> None:
    rules = parse_rules([{"rename": {"a.{i}": "c.{i}", "b.{i}": "c.{i}"}}])
    with pytest.raises(InputError, match=r"'c.0' has 2 ways back, 'a.0' and 'b.0'"):
        check_inverse(rules, entries({"c.0": (1,)}))


def test_an_exception_in_front_of_a_wider_line_is_the_way_back(entries: Callable) -> None:
    """As in MobileNet v2, whose first block lacks a layer: its names are the wider line's of the next one."""
    lines = {"b.0.0.{leaf=weight|bias}": "b.0.dw.{leaf}", "b.{i}.1.{leaf=weight|bias}": "b.{i}.dw.{leaf}"}
    rules = parse_rules([{"rename": lines}])
    names = ["b.0.0.weight", "b.0.0.bias", "b.1.1.weight", "b.1.1.bias"]
    there = entries(dict.fromkeys(run(rules, entries(dict.fromkeys(names, (1,)))).values, (1,)))
    check_inverse(rules, there)
    assert list(run(invert(rules), there).values) == names
    with pytest.raises(InputError, match="has 2 ways back"):  # of the first block alone nothing says which it was
        check_inverse(rules, entries({"b.0.dw.weight": (1,)}))


def test_a_file_of_another_layout_is_noticed(entries: Callable) -> None:
    rules = parse_rules([{"rename": {r"^a\.": "b."}}, {"rename": {r"^c\.": "d."}}])
    with pytest.raises(InputError, match="do not lead back"):
        check_inverse(rules, entries({"b.x": (1,), "c.x": (1,)}))


def test_overlapping_lines_of_two_rules_are_noticed(entries: Callable) -> None:
    """As in a stage of EfficientNet whose names a later, wider rename also leads to."""
    rules = parse_rules(
        [
            {"rename": {r"^(s\.0)\._bn1\.": r"\1.bn1.", r"^(s\.0)\._bn2\.": r"\1.bn2."}},
            {"rename": {r"^(s\.\d)\._bn0\.": r"\1.bn1.", r"^(s\.\d)\._bn1\.": r"\1.bn2."}},
        ]
    )
    with pytest.raises(InputError, match=r"cannot be run backwards|do not lead back"):
        check_inverse(rules, entries({"s.0.bn1.w": (1,), "s.0.bn2.w": (1,), "s.1.bn1.w": (1,)}))


@st.composite
def programs(draw: st.DrawFn) -> list[dict]:
    """Invertible rules over tensors x.0 … x.3 of shape (4, 6)."""
    step = st.sampled_from(
        [
            {"rename": {"x.{i}": "x.{i+2}"}},
            {"add_prefix": "p."},
            {"transpose": "x"},
            {"permute": {"match": "x", "axes": [1, 0]}},
            {"reshape": {"match": "x", "from": [4, 6], "to": [24]}},
            {"rename": {r"^(.*)x\.(\d+)$": r"\1y.\2"}},
        ]
    )
    return draw(st.lists(step, max_size=5))


@settings(max_examples=60, deadline=None)
@given(programs())
def test_any_invertible_program_comes_back(program: list[dict]) -> None:
    generator = np.random.default_rng(0)
    original = {f"x.{i}": ("F32", generator.normal(size=(4, 6)).astype("f4")) for i in range(4)}
    rules = parse_rules(program)
    try:
        there, _ = carry(rules, original)
        check_inverse(rules, {name: Entry(name, dtype, array.shape) for name, (dtype, array) in there.items()})
    except InputError:
        return  # does not fit these shapes in this order, or cannot be proven
    back, _ = carry(invert(rules), there)
    assert {name: array.tobytes() for name, (_, array) in back.items()} == {
        name: array.tobytes() for name, (_, array) in original.items()
    }
