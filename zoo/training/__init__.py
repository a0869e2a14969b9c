"""Train a model: the loop, and losses, optimizers, schedulers, metrics, averages and devices by name."""
