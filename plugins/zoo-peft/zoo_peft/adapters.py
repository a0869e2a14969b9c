"""The surgeries that put peft's adapters beside the layers of a network.

Each keeps the layer it adapts, as `base_layer` inside the adapter: its weights are the same tensors as before. A
checkpoint records the paths that were chosen, so that it is rebuilt without choosing anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn

from zoo.api import Context, InputError
from zoo_peft.targets import LAYERS, Layer, Targets, counted, exactly, sizes

if TYPE_CHECKING:
    from peft import PeftConfig

SURGERIES = ("peft/lora", "peft/dora", "peft/ia3", "peft/loha", "peft/lokr", "peft/oft")
ADAPTER = "default"  # peft's own name for the only adapter

_FLAT: tuple[type[Layer], ...] = (nn.Linear, nn.Conv2d)


def lora(
    model: nn.Module,
    *,
    r: int = 8,
    alpha: float = 16.0,
    targets: list[str] | None = None,
    dropout: float = 0.0,
    rslora: bool = False,
    paths: list[str] | None = None,
    context: Context | None = None,
) -> nn.Module:
    """LoRA: beside each chosen layer a product of two narrow ones that begins at zero (Hu et al., 2021).

    `r` is the rank, `alpha / r` what the product is scaled by (`alpha / sqrt(r)` with `rslora`), `dropout` acts on the
    adapter's input. `targets` are ends of paths (`qkv` names every layer called so); without them the linear layers of
    attention, of a CNN the convolutions. `paths` names layers in full. What trains is for `freeze: adapters_only`.
    """
    return _low_rank(model, r, alpha, targets, dropout, rslora, paths, context, dora=False)


def dora(
    model: nn.Module,
    *,
    r: int = 8,
    alpha: float = 16.0,
    targets: list[str] | None = None,
    dropout: float = 0.0,
    rslora: bool = False,
    paths: list[str] | None = None,
    context: Context | None = None,
) -> nn.Module:
    """DoRA: LoRA on the direction of each chosen layer's weight, whose magnitude trains apart (Liu et al., 2024).

    Arguments as of `lora`. It costs more time than LoRA: the norm of the adapted weight is computed in every step.
    """
    return _low_rank(model, r, alpha, targets, dropout, rslora, paths, context, dora=True)


def ia3(
    model: nn.Module,
    *,
    targets: list[str] | None = None,
    feedforward: list[str] | None = None,
    paths: list[str] | None = None,
    context: Context | None = None,
) -> nn.Module:
    """IA3: each chosen layer's outputs scaled by a vector that begins at one (Liu et al., 2022).

    `feedforward` are those of them whose inputs are scaled instead. Without `targets` and `feedforward`, the linear
    layers of attention, and as feedforward the layers of MLPs that narrow; of a CNN the convolutions.
    """
    from peft import IA3Config

    chosen = Targets(model, (nn.Linear, nn.Conv2d, nn.Conv3d), context)
    if paths is not None:
        outer, inside = chosen.choose(None, paths), chosen.choose(None, feedforward) if feedforward else []
    elif targets is None and feedforward is None:
        outer, inside = chosen.default(), chosen.down_projections()
    else:
        outer, inside = (chosen.choose(names, None) if names else [] for names in (targets, feedforward))
    found = list(dict.fromkeys([*outer, *inside]))
    config = IA3Config(target_modules=exactly(found), feedforward_modules=exactly(inside) if inside else [])
    return _inject(model, config, chosen, found, context, feedforward=inside)


def loha(
    model: nn.Module,
    *,
    r: int = 8,
    alpha: float = 8.0,
    targets: list[str] | None = None,
    paths: list[str] | None = None,
    context: Context | None = None,
) -> nn.Module:
    """LoHa: beside each chosen layer the elementwise product of two low-rank ones (Hyeon-Woo et al., 2022).

    `r`, `alpha`, `targets` and `paths` as of `lora`; linear layers and 2d convolutions.
    """
    from peft import LoHaConfig

    return _product(model, LoHaConfig, r, alpha, targets, paths, context)


def lokr(
    model: nn.Module,
    *,
    r: int = 8,
    alpha: float = 8.0,
    targets: list[str] | None = None,
    paths: list[str] | None = None,
    context: Context | None = None,
) -> nn.Module:
    """LoKr: beside each chosen layer a Kronecker product with a low-rank factor (Yeh et al., 2023).

    `r`, `alpha`, `targets` and `paths` as of `lora`; linear layers and 2d convolutions.
    """
    from peft import LoKrConfig

    return _product(model, LoKrConfig, r, alpha, targets, paths, context)


def _product(
    model: nn.Module,
    make: Callable[..., PeftConfig],  # as of LoRA, a fraction as alpha is good arithmetic
    r: int,
    alpha: float,
    targets: list[str] | None,
    paths: list[str] | None,
    context: Context | None,
) -> nn.Module:
    chosen = Targets(model, _FLAT, context)
    found = chosen.choose(targets, paths)
    _check_rank(r, chosen, found)
    config = make(r=r, alpha=alpha, target_modules=exactly(found))
    return _inject(model, config, chosen, found, context)


def oft(
    model: nn.Module,
    *,
    block_size: int = 32,
    targets: list[str] | None = None,
    paths: list[str] | None = None,
    context: Context | None = None,
) -> nn.Module:
    """OFT: in front of each chosen layer an orthogonal map, of blocks `block_size` wide (Qiu et al., 2023).

    `block_size` has to divide each layer's input features. Linear layers alone: what peft's OFT makes of a convolution
    with padding does not begin as the convolution that it was.
    """
    from peft import OFTConfig

    chosen = Targets(model, (nn.Linear,), context)
    found = chosen.choose(targets, paths)
    if block_size < 2:
        raise InputError(f"block_size is {block_size}: a block has 2 features at least")
    if odd := [path for path in found if sizes(chosen.layers[path])[0] % block_size]:
        width = sizes(chosen.layers[odd[0]])[0]
        raise InputError(f"block_size is {block_size}, which does not divide the {width} inputs of {odd[0]}")
    config = OFTConfig(r=0, oft_block_size=block_size, target_modules=exactly(found))
    return _inject(model, config, chosen, found, context)


def adapters(model: nn.Module) -> dict[str, Any]:
    """The adapted layers by their paths."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    return {path: module for path, module in model.named_modules() if isinstance(module, BaseTunerLayer)}


def _low_rank(
    model: nn.Module,
    r: int,
    alpha: float,
    targets: list[str] | None,
    dropout: float,
    rslora: bool,
    paths: list[str] | None,
    context: Context | None,
    *,
    dora: bool,
) -> nn.Module:
    from peft import LoraConfig

    chosen = Targets(model, LAYERS, context)
    found = chosen.choose(targets, paths)
    _check_rank(r, chosen, found)
    if not 0 <= dropout < 1:
        raise InputError(f"dropout is {dropout}: a probability from 0 to below 1")
    make: Callable[..., PeftConfig] = LoraConfig  # its annotation asks for a whole alpha, its arithmetic does not
    config = make(
        r=r, lora_alpha=alpha, lora_dropout=dropout, use_rslora=rslora, use_dora=dora, target_modules=exactly(found)
    )
    return _inject(model, config, chosen, found, context)


def _check_rank(r: int, chosen: Targets, found: list[str]) -> None:
    widest = max(min(sizes(chosen.layers[path])) for path in found)
    if not 1 <= r <= widest:
        raise InputError(f"r is {r}: a rank is from 1 to {widest}, the narrower side of the widest layer")


def _inject(
    model: nn.Module, config: PeftConfig, chosen: Targets, found: list[str], context: Context | None, **resolved: Any
) -> nn.Module:
    from peft import inject_adapter_in_model

    if there := adapters(model):
        raise InputError(f"{next(iter(there))} has an adapter already", suggestion="put merge_adapters in front")
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    words = counted(found, chosen.modules)
    inject_adapter_in_model(config, model, ADAPTER)
    for parameter, trained in before.items():  # peft freezes all of them; here a freeze step says what trains
        parameter.requires_grad_(trained)
    for layer in adapters(model).values():  # autocast sees to that, and the look at the type cannot be traced
        vars(layer)["cast_input_dtype_enabled"] = False
    if context is not None:
        added = sum(parameter.numel() for parameter in model.parameters() if parameter not in before)
        context.resolved.update(paths=found, targets=None, **resolved)
        said = f"{type(config).__name__.removesuffix('Config').lower()}: adapters at {words}, {added:,} parameters"
        context.notes.append("; ".join([said, *chosen.notes]))
    return model
