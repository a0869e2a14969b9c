"""Which files of other libraries `--remap auto` brings to timm, as a Markdown table: by evidence alone, and run.

    python benchmarks/match_pairs.py                    all pairs; minutes, and 4 GB on two cores
    python benchmarks/match_pairs.py mobilenet_v2       some
    python benchmarks/match_pairs.py --evidence-only    without running networks; half a minute

`by evidence` is the verdict on the two key sets alone, `by running` that with both networks at hand: "proved" means
that their outputs agree with every parameter and buffer random, `error` is the largest difference relative to the
outputs. `lines` counts the rules found. `remap` is what a plugin ships for the pair, `its error` that of the outputs
with it, and `the same` whether it puts the same tensors in the same places as what auto found.

torchvision's networks are built from the catalogue. Those of transformers and of lukemelas' package are not in it:
they are built here with random weights, and written and read as the files of their libraries are laid out.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from zoo import registry
from zoo.conversion.equivalence import Prover, execution_order, settle
from zoo.conversion.random_weights import randomise
from zoo.formats import open_source
from zoo.formats.entry import Entry
from zoo.formats.tensors import to_array
from zoo.model.assembly import Assembly
from zoo.model.build import build
from zoo.model.load_into import state_of, target_of
from zoo.remap.auto import Matching, MatchResult, match
from zoo.remap.rules import parse_rules, run

PAIRS = {
    "resnet50": ("resnet50", None),
    "resnext50_32x4d": ("resnext50_32x4d", None),
    "wide_resnet50_2": ("wide_resnet50_2", None),
    "densenet121": ("densenet121", None),
    "inception_v3": ("inception_v3", None),
    "vgg16": ("vgg16", "timm/from_torchvision_vgg"),
    "vgg16_bn": ("vgg16_bn", "timm/from_torchvision_vgg"),
    "mobilenet_v2": ("mobilenetv2_100", "timm/from_torchvision_mobilenet_v2"),
    "mobilenet_v3_large": ("mobilenetv3_large_100", "timm/from_torchvision_mobilenet_v3_large"),
    "efficientnet_b0": ("efficientnet_b0", "timm/from_torchvision_efficientnet"),
    "efficientnet_v2_s": ("efficientnetv2_s", "timm/from_torchvision_efficientnet_v2_s"),
    "mnasnet1_0": ("mnasnet_100", "timm/from_torchvision_mnasnet"),
    "convnext_tiny": ("convnext_tiny", "timm/from_torchvision_convnext"),
    "regnet_y_400mf": ("regnety_004", "timm/from_torchvision_regnet"),
    "vit_b_16": ("vit_base_patch16_224", "timm/from_torchvision_vit"),
    "vit_b_32": ("vit_base_patch32_224", "timm/from_torchvision_vit"),
    "swin_t": ("swin_tiny_patch4_window7_224", "timm/from_torchvision_swin"),
    "swin_v2_t": ("swinv2_tiny_window8_256", "timm/from_torchvision_swin_v2"),
    "maxvit_t": ("maxvit_tiny_tf_224", "timm/from_torchvision_maxvit"),
}
"""torchvision's name -> timm's, and the remap that a plugin ships for it (None: the names are the same)."""

WIDTHS = {"hidden_size": 192, "intermediate_size": 768, "num_attention_heads": 3}  # of a "tiny" ViT


def transformers(kind: str, config: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        import transformers

        return getattr(transformers, kind)(getattr(transformers, config)(num_labels=1000, **options))

    return make


def lukemelas(name: str) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from efficientnet_lite_pytorch import EfficientNet

        return EfficientNet.from_name(name)

    return make


OTHERS = {
    "ViTForImageClassification": (
        transformers("ViTForImageClassification", "ViTConfig", **WIDTHS),
        "vit_tiny_patch16_224",
        "timm/from_transformers_vit",
    ),
    "DeiTForImageClassificationWithTeacher": (
        transformers("DeiTForImageClassificationWithTeacher", "DeiTConfig", **WIDTHS),
        "deit_tiny_distilled_patch16_224",
        "timm/from_transformers_deit",
    ),
    "ConvNextForImageClassification": (
        transformers("ConvNextForImageClassification", "ConvNextConfig"),
        "convnext_tiny",
        "timm/from_transformers_convnext",
    ),
    "ResNetForImageClassification": (
        transformers("ResNetForImageClassification", "ResNetConfig"),
        "resnet50",
        "timm/from_transformers_resnet",
    ),
    "efficientnet-lite0": (
        lukemelas("efficientnet-lite0"),
        "tf_efficientnet_lite0",
        "efficientnet-lite/lukemelas_lite0",
    ),
}
"""Others' name -> how to build it, timm's name and the remap."""


def main(names: list[str], evidence_only: bool) -> None:
    print("| from | to timm's | tensors | by evidence | by running | error | lines | remap | its error | the same |")
    print("| --- | --- | ---: | --- | --- | ---: | ---: | --- | ---: | --- |")
    for name in names:
        print(row(name, evidence_only), flush=True)


def row(name: str, evidence_only: bool) -> str:
    other, remap = PAIRS[name] if name in PAIRS else OTHERS[name][1:]
    device = "meta" if evidence_only else "cpu"
    source, entries, places = torchvision(name, device) if name in PAIRS else others(name)
    target = build(f"timm/{other}", device=device)
    wanted = target_of(target.model).entries
    alone = answer = match(entries, wanted)
    ran = error = its = "–"
    if not evidence_only:
        prove = Prover(source, target, places)
        order = execution_order(source.model)
        executions = {name: order[place] for name, place in places.items() if place in order}
        answer = settle(Matching.of(entries, wanted, executions, execution_order(target.model)), prove)
        ran, error = answer.status, f"{answer.proof.error:.1e}" if answer.proof else "–"
        its = f"{prove(registry.load(remap, 'remaps')()).error:.1e}" if remap else "–"
    alike = same(answer if answer.found else alone, remap, entries)
    cells = [
        name, other, f"{len(entries)} → {len(wanted)}", alone.status, ran, error, str(lines(answer)),
        remap or "none needed", its, alike,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


Side = tuple[Assembly, Mapping[str, Entry], Mapping[str, str]]
"""A network, the entries of its file, and for each name in that the name in the network's state dict."""


def torchvision(name: str, device: str) -> Side:
    arguments = {"init_weights": False, "aux_logits": True} if name == "inception_v3" else {}
    source = build(f"torchvision/{name}", arguments, device=device)
    entries = target_of(source.model).entries
    return source, entries, {key: key for key in entries}


def others(name: str) -> Side:
    model = OTHERS[name][0]()
    randomise(model)
    state = {key: to_array(value) for key, value in state_of(model).items()}
    if not hasattr(model, "save_pretrained"):
        return Assembly(model, name), target_of(model).entries, {key: key for key in state}
    by_content = {hashlib.sha256(value.tobytes()).digest(): key for key, value in state.items()}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        with open_source(Path(folder) / "model.safetensors") as file:
            places = {key: by_content[hashlib.sha256(file.array(key).tobytes()).digest()] for key in file.entries}
            # Files are sorted by name; like torchvision's the pair is tried in the order of the network.
            entries = {key: file.entries[key] for key in sorted(places, key=lambda key: list(state).index(places[key]))}
    return Assembly(model, name), entries, places


def lines(result: MatchResult) -> int:
    return sum(len(rule["rename"]) if "rename" in rule else 1 for rule in result.rules)


def same(result: MatchResult, remap: str | None, entries: Mapping[str, Entry]) -> str:
    """Whether the shipped remap puts the same tensors in the same places."""
    if not result.found:
        return "no answer"
    rules = registry.load(remap, "remaps")() if remap else []
    values = run(parse_rules(rules), entries).values
    named = {name: values[name].sources for name in result.mapping if name in values}
    return "yes" if named == result.mapping else "no"


if __name__ == "__main__":
    chosen = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    main(chosen or [*PAIRS, *OTHERS], "--evidence-only" in sys.argv)
