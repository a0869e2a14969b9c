"""Contestant (c): Lightning with its BackboneFinetuning callback, the backbone frozen throughout.

With `--best`: bfloat16, and `train_bn=False`, without which the callback leaves every batch norm trainable and the
whole backbone is back-propagated.
"""

import logging
import warnings

import lightning
import torch
from common import LEARNING_RATE, Stopwatch, accuracy, build, image_folders, job_from_arguments, report, trained
from lightning.pytorch.callbacks import BackboneFinetuning
from torch.utils.data import DataLoader


class Classifier(lightning.LightningModule):
    """`backbone` is what the callback freezes, `rest` what trains; the model is called as a whole."""

    def __init__(self, model: torch.nn.Module, prefixes: tuple[str, ...], lr: float) -> None:
        super().__init__()
        self.model = model
        self.lr = lr
        frozen = [child for name, child in model.named_children() if not f"{name}.".startswith(prefixes)]
        self.backbone = torch.nn.ModuleList(frozen)

    def training_step(self, batch: tuple, index: int) -> torch.Tensor:
        inputs, targets = batch
        return torch.nn.functional.cross_entropy(self.model(inputs), targets)

    def validation_step(self, batch: tuple, index: int) -> None:
        inputs, targets = batch
        self.log("accuracy", (self.model(inputs).argmax(1) == targets).float().mean(), on_epoch=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], lr=self.lr)


def main() -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    job = job_from_arguments()
    lightning.seed_everything(0, verbose=False)
    model = build(job)
    train, validation = image_folders(job)
    loader = DataLoader(train, job.batch_size, shuffle=True, num_workers=2, persistent_workers=job.best)
    checks = DataLoader(validation, job.batch_size, num_workers=2, persistent_workers=job.best)
    callbacks = []
    if job.task != "full":
        callbacks.append(BackboneFinetuning(unfreeze_backbone_at_epoch=10**6, train_bn=not job.best))
    trainer = lightning.Trainer(
        max_epochs=job.epochs,
        accelerator="auto",
        precision="bf16-mixed" if job.best else "32-true",
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    module = Classifier(model, trained(model, job), LEARNING_RATE[job.task])
    watch = Stopwatch()
    trainer.fit(module, loader, checks)
    seconds = watch.seconds()
    report(job, accuracy(model, checks), seconds, len(train))


if __name__ == "__main__":
    main()
