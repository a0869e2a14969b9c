"""How many real layouts `--remap auto` brings to timm, as a Markdown table; each row is printed as it is done.

    python benchmarks/match_layouts.py                  all layouts, small networks; minutes on one core
    python benchmarks/match_layouts.py Swin BEiT        those whose names contain one of the words

A layout is a file of transformers (`match_layouts_networks.py`) or of another code base (`match_layouts_files.py`).
Every tensor is random. An answer is right where timm's network computes what transformers' does with the weights moved
by the rules, or where every tensor is what it was; else it is WRONG, which must not happen. Each file is tried as it
is, with its names sorted, reversed and shuffled, and with names scrambled: there the answer must be the same or none.
"""

from __future__ import annotations

import hashlib
import random
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from match_layouts_files import FILES, File
from match_layouts_networks import NETWORKS, Network
from torch import Tensor, nn

from zoo.formats.entry import Entry
from zoo.formats.tensors import entry, to_array, to_tensor
from zoo.model.load_into import target_of
from zoo.remap.auto import MatchResult, match
from zoo.remap.expression import evaluate
from zoo.remap.rules import parse_rules, run

State = Mapping[str, Tensor]
Check = Callable[[State], bool]
CLOSE = 5e-3  # difference between the outputs, relative to their size: eps and approximations differ


def main(words: list[str]) -> None:
    print("| layout | timm | as it is | sorted | reversed | shuffled | scrambled |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    totals: dict[str, int] = {}
    for name, layout in (NETWORKS | FILES).items():
        if words and not any(word in name for word in words):
            continue
        try:
            cells = row(layout)
        except Exception as error:  # a library that is not there, or another version of it: the rest can still be run
            cells = [f"not run: {type(error).__name__}"]
            print(f"{name}: {error}", file=sys.stderr)
        totals[cells[0]] = totals.get(cells[0], 0) + 1
        print(f"| {name} | {layout.architecture} | {' | '.join(cells)} |", flush=True)
    print(totals)


def row(layout: Network | File) -> list[str]:
    """What comes of the file as it is, and of the same file in other orders and with other names."""
    file, target, check = transformers(layout) if isinstance(layout, Network) else renamed(layout)
    entries = {name: entry(name, value) for name, value in file.items()}
    ways = [entries, *orders(entries)]
    cells = [judged(match(way, target), file, target, check) for way in ways]
    scrambled = []
    for scramble in (digested, tree_digested):
        for way in (entries, shuffled(entries, 1)):
            names = {scramble(name): name for name in way}
            tried = {new: Entry(new, way[old].dtype, way[old].shape) for new, old in names.items()}
            scrambled.append(judged(match(tried, target), {n: file[o] for n, o in names.items()}, target, check))
    return [*cells, "WRONG" if "WRONG" in scrambled else "right or none" if "right" in scrambled else "none"]


def judged(result: MatchResult, file: State, target: Mapping[str, Entry], check: Check) -> str:
    """ "part": what was found is reported with the parameters that it leaves empty, and zoo convert refuses it."""
    if not result.found:
        return "none"
    if check(moved(result, file)):
        return "right"
    lacking = [name for name in result.missing if target[name].dtype.startswith(("F", "BF"))]
    return "part" if lacking else "WRONG"


def moved(result: MatchResult, file: State) -> dict[str, Tensor]:
    entries = {name: entry(name, value) for name, value in file.items()}
    values = run(parse_rules(result.rules), entries).values
    return {
        name: to_tensor(evaluate(value, lambda key: to_array(file[key])), value.dtype) for name, value in values.items()
    }


def orders(entries: Mapping[str, Entry]) -> list[dict[str, Entry]]:
    return [dict(sorted(entries.items())), dict(reversed(entries.items())), shuffled(entries, 0)]


def shuffled(entries: Mapping[str, Entry], seed: int) -> dict[str, Entry]:
    names = list(entries)
    random.Random(seed).shuffle(names)
    return {name: entries[name] for name in names}


def digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()[:8]


def digested(name: str) -> str:
    head, _, leaf = name.rpartition(".")
    return f"{digest(head)}.{leaf}"


def tree_digested(name: str) -> str:
    parts = name.split(".")
    return ".".join([*(digest(".".join(parts[: n + 1])) for n in range(len(parts) - 1)), parts[-1]])


def randomised(model: nn.Module) -> nn.Module:
    """Every parameter and floating-point buffer random, activations kept at a size."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not value.is_floating_point():
                continue
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("running_var"):
                value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + 0.75)
            elif value.ndim <= 1:
                value.copy_(noise * 0.2 + float(name.endswith(("weight", "gamma", "lambda1", "lambda_1", "lambda_2"))))
            elif value.ndim == 3:
                value.copy_(noise)
            else:
                value.copy_(noise / max(1, value[0].numel()) ** 0.5)
    return model.eval()


def timm_model(layout: Network | File) -> nn.Module:
    import timm

    return timm.create_model(layout.architecture, **layout.arguments)


def renamed(layout: File) -> tuple[State, Mapping[str, Entry], Check]:
    model = randomised(timm_model(layout))
    truth = {name: value.clone() for name, value in model.state_dict().items()}

    def check(moved: State) -> bool:
        wanted = {name: value for name, value in truth.items() if not re.search(layout.ignored, name)}
        return all(name in moved and torch.equal(moved[name], value) for name, value in wanted.items())

    return layout.make(dict(truth)), target_of(model).entries, check


def transformers(layout: Network) -> tuple[State, Mapping[str, Entry], Check]:
    """The network's file as it lies on the hub, timm's entries, and a comparison of both networks' outputs."""
    import tempfile

    import transformers as library
    from safetensors.torch import load_file

    arguments = {key[1:]: value for key, value in layout.options.items() if key.startswith("~") and value is not None}
    gone = {key[1:] for key, value in layout.options.items() if key.startswith("~")}
    options = {k: v for k, v in layout.options.items() if not k.startswith("~") and k not in gone}
    model = randomised(getattr(library, layout.kind)(getattr(library, layout.config)(**options), **arguments))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        file = load_file(Path(folder) / "model.safetensors")
    ours = randomised(timm_model(layout))
    image = torch.randn(1, 3, layout.size, layout.size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = output(getattr(model, layout.submodel) if layout.submodel else model, layout, image)

    def check(moved: State) -> bool:
        state = ours.state_dict()
        left = [n for n in state if n not in moved and state[n].is_floating_point()]
        if left or any(moved[name].shape != value.shape for name, value in state.items() if name in moved):
            return False
        ours.load_state_dict({name: moved[name] for name in state if name in moved}, strict=False)
        with torch.inference_mode():
            found = ours.forward_features(image).flatten(1) if layout.features else ours(image)
        return float((found - wanted).abs().max() / wanted.abs().max()) < CLOSE

    return file, target_of(ours).entries, check


def output(model: nn.Module, layout: Network, image: Tensor) -> Tensor:
    result: Any = model(image)
    path, _, pool = layout.output.partition("[")
    value = getattr(result, path or "logits")
    value = value[:, 0] if pool else value
    return value.flatten(1) if value.ndim == 4 else value


if __name__ == "__main__":
    main(sys.argv[1:])
