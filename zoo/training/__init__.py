"""Training: a recipe's steps run in order, from built model to checkpoint."""
