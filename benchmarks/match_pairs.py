"""Which torchvision files `--remap auto` brings to timm, as a Markdown table: by evidence alone, and run.

    python benchmarks/match_pairs.py                    all pairs; ten minutes and 4 GB on two cores
    python benchmarks/match_pairs.py mobilenet_v2       some
    python benchmarks/match_pairs.py --evidence-only    without running networks; half a minute

`evidence` is the verdict on the two key sets alone, `run` that with both networks at hand: "proved" means that their
outputs agree with every parameter random, `error` is the largest difference relative to the outputs. `lines` counts
the rules found, `named` whether the shipped remap makes the same of the names.
"""

from __future__ import annotations

import sys
import time

from zoo import registry
from zoo.checkpoint.filling import target_of
from zoo.checkpoint.match import MatchResult, match
from zoo.checkpoint.rules import parse_rules, run
from zoo.model.build import build
from zoo.model.equivalence import Prover
from zoo.model.execution import execution_order

PAIRS = {
    "resnet50": ("resnet50", None),
    "resnext50_32x4d": ("resnext50_32x4d", None),
    "wide_resnet50_2": ("wide_resnet50_2", None),
    "densenet121": ("densenet121", None),
    "inception_v3": ("inception_v3", None),
    "vgg16": ("vgg16", "vgg"),
    "vgg16_bn": ("vgg16_bn", "vgg"),
    "mobilenet_v2": ("mobilenetv2_100", "mobilenet_v2"),
    "mobilenet_v3_large": ("mobilenetv3_large_100", "mobilenet_v3_large"),
    "efficientnet_b0": ("efficientnet_b0", "efficientnet"),
    "efficientnet_v2_s": ("efficientnetv2_s", "efficientnet_v2_s"),
    "mnasnet1_0": ("mnasnet_100", "mnasnet"),
    "convnext_tiny": ("convnext_tiny", "convnext"),
    "regnet_y_400mf": ("regnety_004", "regnet"),
    "vit_b_16": ("vit_base_patch16_224", "vit"),
    "vit_b_32": ("vit_base_patch32_224", "vit"),
    "swin_t": ("swin_tiny_patch4_window7_224", "swin"),
    "swin_v2_t": ("swinv2_tiny_window8_256", "swin_v2"),
    "maxvit_t": ("maxvit_tiny_tf_224", "maxvit"),
}
"""torchvision's name -> timm's, and the remap that zoo-timm ships for it (None: the names are the same)."""


def main(names: list[str], evidence_only: bool) -> None:
    print("| torchvision | timm | keys | evidence | run | error | lines | named | seconds |")
    print("| --- | --- | ---: | --- | --- | ---: | ---: | --- | ---: |")
    for name in names:
        print(row(name, evidence_only), flush=True)


def row(name: str, evidence_only: bool) -> str:
    other, remap = PAIRS[name]
    start = time.perf_counter()
    device = "meta" if evidence_only else "cpu"
    arguments = {"init_weights": False, "aux_logits": True} if name == "inception_v3" else {}
    source, target = build(f"torchvision/{name}", arguments, device=device), build(f"timm/{other}", device=device)
    entries, wanted = target_of(source.model).entries, target_of(target.model).entries
    alone = match(entries, wanted)
    proved = None
    if not evidence_only:
        proved = match(
            entries,
            wanted,
            source_execution=execution_order(source.model),
            target_execution=execution_order(target.model),
            prove=Prover(source, target, {key: key for key in entries}),
        )
    proof = proved.proof if proved else None
    cells = [
        name, other, f"{len(entries)} → {len(wanted)}", alone.status, proved.status if proved else "–",
        f"{proof.error:.1e}" if proof else "–", str(lines(alone)), same(alone, remap, entries),
        f"{time.perf_counter() - start:.1f}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def lines(result: MatchResult) -> int:
    return sum(len(rule["rename"]) if "rename" in rule else 1 for rule in result.rules)


def same(result: MatchResult, remap: str | None, entries: dict) -> str:
    """Whether the shipped remap puts the same tensors in the same places."""
    rules = registry.load(f"timm/from_torchvision_{remap}", "remaps")() if remap else []
    values = run(parse_rules(rules), entries).values
    named = {name: values[name].sources for name in result.mapping if name in values}
    return "same" if named == result.mapping else "differs"


if __name__ == "__main__":
    chosen = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    main(chosen or list(PAIRS), "--evidence-only" in sys.argv)
