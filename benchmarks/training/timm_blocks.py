"""Contestant (d): timm's building blocks put together as its training script does, on one process.

`timm.utils.freeze` for the frozen part, `create_optimizer_v2`, `create_scheduler_v2`, timm's loader transforms; with
`--best` channels-last and bfloat16 autocast, as `--channels-last --amp --amp-dtype bfloat16` would set.
"""

from contextlib import nullcontext

import timm.optim
import timm.utils
import torch
from common import LEARNING_RATE, Stopwatch, build, image_folders, job_from_arguments, report
from timm.utils import AverageMeter
from timm.utils import accuracy as top_k
from torch.utils.data import DataLoader


def main() -> None:
    job = job_from_arguments()
    timm.utils.random_seed(0)
    model = build(job)
    if job.task != "full":
        names = [n for n, m in model.named_children() if not any(p.requires_grad for p in m.parameters())]
        timm.utils.freeze(model, [n for n in names if list(getattr(model, n).parameters())])
    if job.best:
        model = model.to(memory_format=torch.channels_last)
    train, validation = image_folders(job)
    loader = DataLoader(train, job.batch_size, shuffle=True, num_workers=2, persistent_workers=True)
    checks = DataLoader(validation, job.batch_size, num_workers=2, persistent_workers=True)
    optimizer = timm.optim.create_optimizer_v2(model, opt="adam", lr=LEARNING_RATE[job.task], weight_decay=0.0)
    loss = torch.nn.CrossEntropyLoss()
    watch = Stopwatch()
    for _ in range(job.epochs):
        model.train()
        losses = AverageMeter()
        for inputs, targets in loader:
            with cast(job.best):
                value = loss(model(arranged(inputs, job.best)), targets)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.update(value.item(), len(inputs))
        final = validate(model, checks, job.best)
    report(job, final, watch.seconds(), len(train))


def cast(best: bool) -> torch.autocast | nullcontext:
    return torch.autocast("cpu", dtype=torch.bfloat16) if best else nullcontext()


def arranged(inputs: torch.Tensor, best: bool) -> torch.Tensor:
    return inputs.contiguous(memory_format=torch.channels_last) if best else inputs


def validate(model: torch.nn.Module, loader: DataLoader, best: bool) -> float:
    model.eval()
    meter = AverageMeter()
    with torch.no_grad():
        for inputs, targets in loader:
            with cast(best):
                outputs = model(arranged(inputs, best))
            meter.update(top_k(outputs, targets)[0].item(), len(inputs))
    return meter.avg / 100


if __name__ == "__main__":
    main()
