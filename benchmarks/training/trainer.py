"""Contestant (b): Hugging Face Trainer, with `--best` bfloat16, two loader workers and persistent ones, no saving."""

import tempfile

import torch
from common import LEARNING_RATE, Stopwatch, build, image_folders, job_from_arguments, report
from transformers import Trainer, TrainingArguments


class Wrapped(torch.nn.Module):
    """The Trainer wants a loss in the model's output."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor, labels: torch.Tensor) -> dict:
        logits = self.model(pixel_values)
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def collate(samples: list) -> dict:
    inputs, targets = zip(*samples, strict=True)
    return {"pixel_values": torch.stack(inputs), "labels": torch.tensor(targets)}


def main() -> None:
    job = job_from_arguments()
    train, validation = image_folders(job)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            output_dir=folder,
            num_train_epochs=job.epochs,
            per_device_train_batch_size=job.batch_size,
            per_device_eval_batch_size=job.batch_size,
            learning_rate=LEARNING_RATE[job.task],
            lr_scheduler_type="constant",
            eval_strategy="epoch",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=0,
            use_cpu=not torch.cuda.is_available(),
            bf16=job.best,
            dataloader_num_workers=2,
            dataloader_persistent_workers=job.best,
        )
        trainer = Trainer(
            Wrapped(build(job)),
            settings,
            data_collator=collate,
            train_dataset=train,
            eval_dataset=validation,
            compute_metrics=lambda p: {"accuracy": float((p.predictions.argmax(1) == p.label_ids).mean())},
        )
        watch = Stopwatch()
        trainer.train()
        seconds = watch.seconds()
        rows = [row for row in trainer.state.log_history if "eval_accuracy" in row]
    report(job, rows[-1]["eval_accuracy"], seconds, len(train))


if __name__ == "__main__":
    main()
