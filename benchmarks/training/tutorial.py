"""Contestant (a): the loop that the tutorials have everyone write by hand.

As written, `model.train()` puts frozen batch norms in training mode too, so their statistics drift; with `--best` the
frozen modules are kept in evaluation mode, which is the least a careful user would do.
"""

import torch
from common import LEARNING_RATE, Stopwatch, accuracy, build, image_folders, job_from_arguments, report
from torch.utils.data import DataLoader


def main() -> None:
    job = job_from_arguments()
    torch.manual_seed(0)
    model = build(job)
    train, validation = image_folders(job)
    loader = DataLoader(train, job.batch_size, shuffle=True, num_workers=2)
    checks = DataLoader(validation, job.batch_size, num_workers=2)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE[job.task])
    loss = torch.nn.CrossEntropyLoss()
    watch = Stopwatch()
    for _ in range(job.epochs):
        model.train()
        if job.best:
            hold_frozen(model)
        for inputs, targets in loader:
            optimizer.zero_grad()
            value = loss(model(inputs), targets)
            value.backward()
            optimizer.step()
        final = accuracy(model, checks)
    report(job, final, watch.seconds(), len(train))


def hold_frozen(model: torch.nn.Module) -> None:
    for module in model.modules():
        own = list(module.parameters())
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()


if __name__ == "__main__":
    main()
