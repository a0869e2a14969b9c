"""Measures a model on batches: the mean loss and the metrics, over all processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from zoo.data.batches import Batch
from zoo.errors import InputError, WorkError, ZooError
from zoo.model.prediction import prediction
from zoo.training.losses import Loss
from zoo.training.metrics import Average, Metrics


def measure(
    model: nn.Module, forward: Callable[[Any], Any], batches: Iterable[Batch], loss: Loss, metrics: Metrics
) -> dict[str, float]:
    """`{"loss": …, metric: …}` of `forward` over `batches`, the model in evaluation mode meanwhile."""
    average = Average(lambda outputs, targets: loss.total(loss(outputs, targets), len(targets)), higher_is_better=False)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for batch in batches:
                outputs = prediction(forward(batch.inputs)).float()
                average.update(outputs, batch.targets)
                metrics.update(outputs, batch.targets)
            return {"loss": float(average.compute()), **metrics.compute()}
    except ZooError:
        raise
    except Exception as error:
        raise explain(error, "measuring") from error
    finally:
        model.train(training)


def explain(error: Exception, doing: str) -> ZooError:
    """What a person can do about an error out of torch."""
    text = str(error).strip().partition("\n")[0]
    if isinstance(error, torch.OutOfMemoryError) or "not enough memory" in text or isinstance(error, MemoryError):
        hint = "set a smaller batch_size (accumulate makes up for it) or image_size"
        return WorkError(f"out of memory while {doing}: {text}", suggestion=hint)
    if isinstance(error, IndexError) and "Target" in text:
        return InputError(f"the network has too few outputs for the data: {text}", suggestion="swap_head: auto")
    return WorkError(f"{doing} failed: {type(error).__name__}: {text}")
