"""A walk of refusals: what each one advises is taken out of its message and typed, until it works."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file

from zoo.cli import run

State = dict[str, torch.Tensor]
Typed = list[tuple[str, str]]

VIT, RESNET = "test_vit", "test_resnet"


def random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


def without(state: State, *starts: str) -> State:
    return {name: value for name, value in state.items() if not name.startswith(starts)}


def prefixed(state: State, prefix: str) -> State:
    return {prefix + name: value for name, value in state.items()}


def other(state: State) -> State:
    """Another network's tensors under the same names."""
    return {name: value + 1 for name, value in state.items()}


def two_encoders(state: State) -> State:
    return {**prefixed(state, "a.net."), **prefixed(other(state), "b."), "queue": random(9)}


def turned(state: State) -> State:
    """Every matrix stored as (in, out)."""
    return {name: value.t().contiguous() if value.ndim == 2 else value for name, value in state.items()}


def apart(state: State) -> State:
    """Query, key and value as tensors of their own."""
    made = {}
    for name, value in state.items():
        thirds = zip("qkv", value.chunk(3), strict=True) if ".qkv." in name else [("qkv", value)]
        made |= {name.replace(".qkv.", f".{part}."): each.clone() for part, each in thirds}
    return made


@dataclass(frozen=True)
class Refusal:
    """`state` makes the file of the network's own tensors; `typed` is the advice that is followed, in order.

    `keeps` are names whose tensors must be those of the network in the end (all of them, where it is empty)."""

    state: Callable[[State], State]
    typed: Typed
    network: str = VIT
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    to: Mapping[str, Any] = field(default_factory=dict)
    keeps: str = ""


REFUSALS = {
    "a prefix, and more beside it": Refusal(
        lambda state: prefixed(without(state, "head."), "net."),
        [("--remap", r"^net\.="), ("--to-argument", "num_classes=0")],
        keeps="blocks",
    ),
    "a head that is left over": Refusal(
        lambda state: {**state, "old_head.fc.weight": random(5, 64), "old_head.fc.bias": random(5), "queue": random(9)},
        [("--remap", r"drop: ^queue$"), ("--remap", r"drop: ^old_head\.")],
    ),
    "a tensor in a module that is used": Refusal(
        lambda state: {**state, **{f"blocks.{i}.attn.gate": random(64) for i in range(6)}},
        [("--remap", r"drop: ^blocks\.\d+\.attn\.gate$")],
    ),
    "a deeper network": Refusal(
        lambda state: state,
        [("--remap", r"drop: ^(?:blocks\.4\.|blocks\.5\.)")],
        to={"depth": 4},
        keeps=r"blocks\.[0-3]|norm|head",
    ),
    "a shallower network": Refusal(
        lambda state: without(state, "blocks.4.", "blocks.5."), [("--min-coverage", "0.775")], keeps=r"blocks\.[0-3]"
    ),
    "other classes": Refusal(lambda state: state, [("--to-argument", "num_classes=7")], arguments={"num_classes": 7}),
    "no classifier": Refusal(
        lambda state: without(state, "head."), [("--to-argument", "num_classes=0")], keeps="blocks|norm"
    ),
    "something that the file lacks": Refusal(
        lambda state: without(state, "cls_token"), [("--min-coverage", "0.999")], keeps="blocks|norm|head"
    ),
    "another image size": Refusal(
        lambda state: state,
        [("--remap", "resample_pos_embed: ^pos_embed$")],
        arguments={"img_size": 224},
        keeps="blocks|norm|head|cls",
    ),
    "other channels": Refusal(
        lambda state: state,
        [("--remap", r"adapt_input: ^patch_embed\.proj\.weight$")],
        arguments={"in_chans": 5},
        keeps="blocks|norm|head|cls",
    ),
    "matrices the other way round": Refusal(
        turned,
        [("--remap", r"transpose: ^(?:blocks\.\d+\.attn\.qkv\.weight$|blocks\.\d+\.mlp\.fc1\.weight$|"
          r"blocks\.\d+\.mlp\.fc2\.weight$|head\.weight$|blocks\.\d+\.attn\.proj\.weight$)")],
    ),
    "a kernel laid flat": Refusal(
        lambda state: {**state, "patch_embed.proj.weight": state["patch_embed.proj.weight"].flatten(1)},
        [("--remap", r"reshape: {match: '^patch_embed\.proj\.weight$', to: [64, 3, 16, 16]}")],
    ),
    "query, key and value apart": Refusal(
        apart,
        [
            ("--remap", f"concat: {{into: 'blocks.{{i}}.attn.qkv.{leaf}', from: ["
             + ", ".join(f"'blocks.{{i}}.attn.{part}.{leaf}'" for part in "qkv") + "]}")
            for leaf in ("weight", "bias")
        ],
    ),
    "one tensor for several blocks": Refusal(
        lambda state: {
            **{name: value for name, value in state.items() if not name.endswith("norm2.bias")},
            "shared.norm2.bias": state["blocks.0.norm2.bias"],
        },
        [("--remap", "untie: {" + ", ".join(f"blocks.{i}.norm2.bias: shared.norm2.bias" for i in range(6)) + "}")],
        keeps=r"blocks\.\d\.attn|norm1",
    ),
    "two copies of the network": Refusal(
        lambda state: {**prefixed(state, "module.online."), **prefixed(other(state), "module.target.")},
        [("--key", "module.online")],
    ),
    "two copies, by auto": Refusal(
        lambda state: prefixed(two_encoders(state), "module."),
        [("--key", "module.a.net")],
        options=("--remap", "auto"),
    ),
    "averaged weights beside the model": Refusal(
        lambda state: {**other(state), **prefixed(state, "ema.")}, [("--key", "ema")]
    ),
    "a file that is there": Refusal(lambda state: state, [("--overwrite", "")]),
}  # fmt: skip


@pytest.fixture(scope="module")
def states(request: pytest.FixtureRequest) -> Callable[..., State]:
    made: dict[str, State] = {}

    def state_of(network: str, arguments: Mapping[str, Any]) -> State:
        key = f"{network}{arguments}"
        if key not in made:
            generator = torch.Generator().manual_seed(0)
            state = timm.create_model(network, **arguments).state_dict()
            made[key] = {
                name: torch.rand(value.shape, generator=generator) + 0.5 if value.is_floating_point() else value
                for name, value in state.items()
            }
        return made[key]

    return state_of


def advised(text: str) -> Typed:
    """What a message tells to type, in its order."""
    forms = {
        "--remap": r"the rule `([^`]+)`|--remap '([^']+)'",
        "--key": r"--key ([\w.]+)",
        "--to-argument": r"--to-argument (\w+=[\w.]+)",
        "--min-coverage": r"--min-coverage ([\d.]+\d)",
        "--overwrite": r"(--overwrite)",
    }
    found = [
        (match.start(), option, next(filter(None, match.groups())))
        for option, form in forms.items()
        for match in re.finditer(form, text)
    ]
    return [(option, "" if option == value else value) for _, option, value in sorted(found)]


@pytest.mark.parametrize("name", REFUSALS)
def test_what_a_refusal_of_convert_advises_works(
    name: str, states: Callable[..., State], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = REFUSALS[name]
    own = states(case.network, case.arguments)
    torch.save(case.state(own), tmp_path / "in.pth")
    out = tmp_path / "out.safetensors"
    if ("--overwrite", "") in case.typed:
        out.write_text("what stood here before")
    command = ["convert", str(tmp_path / "in.pth"), str(out), "--to", f"timm/{case.network}", *case.options]
    command += [part for key, value in case.to.items() for part in ("--to-argument", f"{key}={value}")]
    typed: Typed = []
    while (code := run([*command, *(part for pair in typed for part in pair if part)])) and len(typed) < 4:
        new = [each for each in advised(capsys.readouterr().err) if each not in typed]
        assert new, "no advice that is new"
        typed.append(new[0])
    assert code == 0, capsys.readouterr().err
    assert typed == case.typed
    got = load_file(out)
    wanted = {key: value for key, value in own.items() if re.match(case.keeps, key)}
    assert wanted
    assert [key for key, value in wanted.items() if not torch.equal(got[key], value)] == []
