"""Run the freeze contract over many architectures and print a Markdown table: python benchmarks/freeze_contract.py

Each network is built with dropout and drop path on where it has them, every tensor is randomised, and it is trained for
20 steps twice: all but the head frozen (SGD with momentum and weight decay), then the first half of the stages frozen
(AdamW with weight decay). What is checked: sha256 of every frozen tensor, buffers included; the output of every held
module in training mode against evaluation mode, bit for bit; state-dict keys, parameter objects, gradient flags and
modes across freeze and unfreeze. `by hand` is the same network with `requires_grad = False` alone.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from zoo.model.build import build
from zoo.model.freeze_policies import all_but_head, first_stages
from zoo.model.freezing import FrozenPart, freeze, hashes, prove, trainable_parameters, unfreeze
from zoo.model.stages import find_stages

STEPS = 20


@dataclass(frozen=True)
class Case:
    """One network: its name, what it is made of, what it is built with and its input's side in pixels."""

    name: str
    kind: str
    arguments: dict[str, Any] = field(default_factory=dict)
    side: int = 64


@dataclass(frozen=True)
class Row:
    """What one run of a case showed; `broken` lists every breach of the contract."""

    parameters: int
    buffers: int
    modules: int
    broken: tuple[str, ...]


DROPS = {"drop_rate": 0.2, "drop_path_rate": 0.2}
SWIN = {**DROPS, "img_size": 64, "proj_drop_rate": 0.2, "attn_drop_rate": 0.2}
VIT = {**SWIN, "pos_drop_rate": 0.2}
CASES = [
    Case("timm/resnet18", "CNN, batch norm, drop path", DROPS),
    Case("timm/resnetv2_18", "pre-activation CNN, batch norm", DROPS),
    Case("timm/regnetx_002", "CNN, grouped convolution", DROPS),
    Case("timm/mobilenetv3_small_050", "CNN, squeeze-excite", DROPS),
    Case("timm/tf_efficientnet_lite0", "CNN, inverted residuals", DROPS),
    Case("timm/rexnetr_100", "CNN, linear bottlenecks", DROPS),
    Case("timm/densenet121", "CNN, functional dropout in layers", {"drop_rate": 0.2}),
    Case("timm/dla34", "CNN, tree aggregation", {"drop_rate": 0.2}),
    Case("timm/hrnet_w18_small", "CNN, parallel resolutions", {"drop_rate": 0.2}),
    Case("timm/ghostnet_050", "CNN, ghost modules", {"drop_rate": 0.2}),
    Case("timm/repvgg_a0", "CNN, re-parameterised branches", DROPS),
    Case("timm/mobileone_s0", "CNN, re-parameterised branches", DROPS),
    Case("timm/nf_regnet_b0", "CNN, no norm, standardised weights", DROPS),
    Case("timm/inception_next_atto", "CNN, large kernels", DROPS),
    Case("timm/convnext_atto", "CNN, layer norm", DROPS),
    Case("timm/convnextv2_atto", "CNN, layer norm, response norm", DROPS),
    Case("timm/edgenext_xx_small", "CNN with attention", DROPS),
    Case("timm/mobilevit_xxs", "CNN with transformer blocks", DROPS),
    Case("timm/fastvit_t8", "CNN and mixer, re-parameterised", DROPS),
    Case("timm/efficientvit_b0", "linear attention", {"drop_rate": 0.2}),
    Case("timm/tiny_vit_5m_224", "window attention, batch norm", DROPS, 224),
    Case("timm/levit_128s", "attention, BatchNorm1d", DROPS, 224),
    Case("timm/vit_tiny_patch16_224", "transformer, layer norm", VIT),
    Case("timm/deit_tiny_distilled_patch16_224", "transformer, two heads", VIT),
    Case("timm/eva02_tiny_patch14_224", "transformer, rotary embedding", {**VIT, "img_size": 56}, 56),
    Case("timm/cait_xxs24_224", "transformer, class attention", VIT),
    Case("timm/xcit_nano_12_p16_224", "transformer, cross-covariance, BatchNorm2d", VIT),
    Case("timm/swin_tiny_patch4_window7_224", "window transformer", {**SWIN, "window_size": 2}),
    Case("timm/pvt_v2_b0", "pyramid transformer", {**DROPS, "proj_drop_rate": 0.2, "attn_drop_rate": 0.2}),
    Case("timm/poolformer_s12", "pooling for attention, group norm", DROPS),
    Case("timm/mixer_s32_224", "MLP mixer", {**DROPS, "img_size": 64, "proj_drop_rate": 0.2}),
    Case("timm/resmlp_12_224", "MLP, affine layers", {**DROPS, "img_size": 64, "proj_drop_rate": 0.2}),
    Case("timm/mambaout_femto", "gated convolution", DROPS),
    Case("torchvision/resnet18", "CNN, batch norm"),
    Case("torchvision/mobilenet_v2", "CNN, dropout in front of the head", {"dropout": 0.2}),
    Case("torchvision/mnasnet0_5", "CNN, batch norm", {"dropout": 0.2}),
    Case("torchvision/shufflenet_v2_x0_5", "CNN, channel shuffle"),
    Case("torchvision/squeezenet1_1", "CNN, convolution as head", {"dropout": 0.2}),
    Case("torchvision/efficientnet_b0", "CNN, stochastic depth", {"dropout": 0.2, "stochastic_depth_prob": 0.2}),
    Case("torchvision/densenet121", "CNN, functional dropout", {"drop_rate": 0.2}),
    Case("torchvision/googlenet", "CNN, auxiliary heads", {"init_weights": False}),
    Case("torchvision/swin_t", "window transformer, stochastic depth", {"dropout": 0.2, "attention_dropout": 0.2}),
]


def run(case: Case, policy: Callable[[nn.Module], list[str]], optimizer: str) -> Row:
    """Freeze, train 20 steps, unfreeze; every breach of the contract is told."""
    torch.manual_seed(0)
    model = build(case.name, {"num_classes": 5, **case.arguments}).model
    randomise(model)
    before = Identity.of(model)
    part = freeze(model, policy(model))
    digests = hashes(model, part)
    trained = {name: value.detach().clone() for name, value in trainable_parameters(model).items()}
    train(model, case, optimizer)
    broken = differences(model, part, case)
    broken += [f"{name} moved" for name in prove(digests, hashes(model, part)).moved]
    if any(torch.equal(value, model.get_parameter(name)) for name, value in trained.items() if "aux" not in name):
        broken.append("a trainable parameter did not move")
    if Identity.of(model)[:2] != before[:2]:
        broken.append("keys or objects changed by freeze")
    unfreeze(model)
    if Identity.of(model) != before:
        broken.append("keys, objects, flags or modes not restored by unfreeze")
    return Row(len(part.parameters), len(part.buffers), len(part.modules), tuple(broken))


class Identity(tuple):
    """State-dict keys, parameter objects, gradient flags and modes of a model."""

    @classmethod
    def of(cls, model: nn.Module) -> Identity:
        parameters = list(model.parameters())
        return cls(
            (
                tuple(model.state_dict()),
                tuple(map(id, parameters)),
                tuple(parameter.requires_grad for parameter in parameters),
                tuple(module.training for module in model.modules()),
            )
        )


def by_hand(case: Case, policy: Callable[[nn.Module], list[str]]) -> Row:
    """The same with `requires_grad = False` alone, as everyone writes it."""
    torch.manual_seed(0)
    model = build(case.name, {"num_classes": 5, **case.arguments}).model
    randomise(model)
    part = freeze(copy.deepcopy(model), policy(model))
    for name in part.parameters:
        model.get_parameter(name).requires_grad_(False)
    digests = hashes(model, part)
    broken = differences(model, part, case)
    broken += [f"{name} moved" for name in prove(digests, hashes(model, part)).moved]
    return Row(len(part.parameters), len(part.buffers), len(part.modules), tuple(broken))


def randomise(model: nn.Module) -> None:
    """Give every tensor values of its own: fresh networks hold many zeros and ones that hide a change."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0, 0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)


def train(model: nn.Module, case: Case, optimizer: str) -> None:
    parameters = trainable_parameters(model).values()
    if optimizer == "SGD":
        stepper: torch.optim.Optimizer = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=0.1)
    else:
        stepper = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.1)
    targets = torch.tensor([0, 1])
    for _ in range(STEPS):
        model.train()
        for child in model.children():
            child.train()  # what some training loops do
        stepper.zero_grad()
        outputs = tensors_of(model(torch.randn(2, 3, case.side, case.side)))
        sum(nn.functional.cross_entropy(output, targets) for output in outputs).backward()
        stepper.step()


def tensors_of(output: Any) -> list[Tensor]:
    if isinstance(output, Tensor):
        return [output]
    return [value for value in output if isinstance(value, Tensor)]


def differences(model: nn.Module, part: FrozenPart, case: Case) -> list[str]:
    """Held modules whose output in training mode is not bit for bit the one in evaluation mode."""
    images = torch.randn(2, 3, case.side, case.side)
    seen = []
    for mode in (False, True):
        model.train(mode)
        with torch.no_grad(), recording(model, part) as outputs:
            model(images)
        seen.append(outputs)
    asleep, awake = seen
    # an auxiliary head runs in training mode alone: there is nothing to compare it with
    return [
        f"{path}: output differs"
        for path in asleep.keys() & awake.keys()
        if not all(map(torch.equal, asleep[path], awake[path]))
    ]


@contextmanager
def recording(model: nn.Module, part: FrozenPart) -> Iterator[dict[str, list[Tensor]]]:
    outputs: dict[str, list[Tensor]] = {}

    def keep(path: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            # cloned, as a later layer may work in place
            outputs.setdefault(path, []).extend(value.detach().clone() for value in tensors_of(output))

        return hook

    handles = [model.get_submodule(path).register_forward_hook(keep(path)) for path in part.modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def half_of_the_stages(model: nn.Module) -> list[str]:
    return first_stages(model, count=len(find_stages(model)) // 2)


RUNS: list[tuple[Callable[[nn.Module], list[str]], str]] = [(all_but_head, "SGD"), (half_of_the_stages, "AdamW")]


HEADER = """\
| architecture | made of | all but the head: tensors | breaches | half of the stages: tensors | breaches | by hand: tensors that changed, outputs that differ |
| --- | --- | --- | --- | --- | --- | --- |"""  # noqa: E501


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="architectures to run; all by default")
    chosen = parser.parse_args().names
    print(HEADER)
    failed = 0
    for case in CASES:
        if chosen and case.name not in chosen:
            continue
        rows = [run(case, policy, optimizer) for policy, optimizer in RUNS]
        cells = " | ".join(f"{row.parameters} + {row.buffers} | {len(row.broken)}" for row in rows)
        hand = by_hand(case, all_but_head).broken
        moved = sum(line.endswith("moved") for line in hand)
        print(f"| {case.name} | {case.kind} | {cells} | {moved}, {len(hand) - moved} |", flush=True)
        for row in rows:
            failed += len(row.broken)
            if row.broken:
                print(case.name, *row.broken[:20], sep="\n  ", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
