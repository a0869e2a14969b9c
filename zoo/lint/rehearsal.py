"""One forward and backward pass in training mode, to see what runs and what gets a gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import InputError
from zoo.model.norms_on_meta import NormsOnMeta
from zoo.model.prediction import auxiliary, prediction
from zoo.model.trace import call_with, tensors_in
from zoo.model.undisturbed import undisturbed


@dataclass
class Rehearsal:
    """What the pass showed.

    `reached` says of each trainable parameter, by state-dict name, whether it got a gradient from the prediction,
    `aided` whether it got one from the outputs of auxiliary classifiers, `beside` whether it got one from any other
    than the prediction. `called` are the paths of the modules whose
    forward ran, `outputs` the path and output of each, in the order they finished. `output` is the model's.
    """

    reached: dict[str, bool] = field(default_factory=dict)
    aided: dict[str, bool] = field(default_factory=dict)
    beside: dict[str, bool] = field(default_factory=dict)
    called: set[str] = field(default_factory=set)
    outputs: list[tuple[str, Tensor]] = field(default_factory=list)
    output: Any = None


def rehearse(model: nn.Module, shape: tuple[int, ...]) -> Rehearsal | None:
    """Run `model` on a batch of `shape`, on `meta` or else on real numbers, and its gradients back.

    Parameters, buffers, modes, gradients and the random generators stay as they are. None when the input fits in
    neither way. Raises InputError where the output in training mode leaves open which tensor is the prediction.
    """
    on_meta = any(parameter.is_meta for parameter in model.parameters())
    for way in ("meta",) if on_meta else ("meta", "real"):
        try:
            return one_pass(model, shape, way)
        except InputError:  # an output without a prediction, or a wire that does not fit in training mode
            raise
        except Exception:  # whatever a user's forward raises; dry_run says why it does not run
            continue
    return None


def one_pass(model: nn.Module, shape: tuple[int, ...], way: str) -> Rehearsal:
    """See `rehearse`; `way` is "meta" or "real". Raises whatever forward does."""
    done = Rehearsal()
    with undisturbed(model, training=True, attributes=True), _recording(model, done):
        stand_ins = _stand_ins(model, way)
        trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        leaves = [stand_ins.get(id(parameter), parameter) for parameter in trainable.values()]
        like = next((t for t in (*stand_ins.values(), *model.parameters()) if t.is_floating_point()), torch.empty(0))
        device = torch.device("meta") if way == "meta" else like.device
        with torch.enable_grad(), device, NormsOnMeta():
            # the input wants a gradient too, so that a cut inside the model does not hide what lies behind it
            inputs = torch.randn(shape, dtype=like.dtype, device=device, requires_grad=True)
            done.output = call_with(model, stand_ins, inputs.clone())  # forward may work in place
            main = prediction(done.output)
            others = [t for t in tensors_in(done.output) if t is not main]
            done.reached = dict(zip(trainable, _reached([main], leaves), strict=True))
            done.aided = dict(zip(trainable, _reached(auxiliary(done.output), leaves), strict=True))
            done.beside = dict(zip(trainable, _reached(others, leaves), strict=True))
    return done


def _reached(outputs: list[Tensor], leaves: list[Tensor]) -> list[bool]:
    """Whether a gradient of the outputs comes to each leaf."""
    sums = [t.sum() for t in outputs if t.requires_grad]
    if not sums or not leaves:
        return [False] * len(leaves)
    gradients = torch.autograd.grad(sums, leaves, allow_unused=True, retain_graph=True)
    return [gradient is not None for gradient in gradients]


def _stand_ins(model: nn.Module, way: str) -> dict[int, Tensor]:
    """Empty tensors on `meta` for everything, or copies of the buffers alone: parameters are only read."""
    if way == "real":
        return {id(buffer): buffer.clone() for buffer in model.buffers()}
    tensors = (*model.parameters(), *model.buffers())
    return {id(t): torch.empty_like(t, device="meta").requires_grad_(t.requires_grad) for t in tensors}


@contextlib.contextmanager
def _recording(model: nn.Module, done: Rehearsal) -> Iterator[None]:
    paths = {module: path for path, module in model.named_modules()}

    def keep(module: nn.Module, _inputs: Any, output: Any) -> None:
        done.called.add(paths[module])
        done.outputs += [(paths[module], tensor) for tensor in list(tensors_in(output))[:1]]

    handles = [module.register_forward_hook(keep) for module in paths]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def fails_on_one_sample(model: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether `model` cannot train on a batch of a single sample, as with a batch norm behind global pooling, which has
    one value a channel then; `shape` is an input's, the batch dimension included.

    Parameters, buffers and modes stay as they are; nothing is computed.
    """
    try:
        one_pass(model, (1, *shape[1:]), "meta")
    except ValueError as error:
        return "more than 1 value per channel" in str(error)
    except Exception:  # what else is wrong with the pass others say
        return False
    return False
