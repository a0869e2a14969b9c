"""`zoo push`: a checkpoint and its model card to the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.options import AsJson
from zoo.errors import printable

if TYPE_CHECKING:
    from zoo.checkpoint.push import Pushed


def command(
    checkpoint: Annotated[str, typer.Argument(metavar="CHECKPOINT", help="A file that zoo wrote, or a run's folder.")],
    repository: Annotated[str, typer.Argument(metavar="ORG/NAME", help="The repository; made where there is none.")],
    public: Annotated[bool, typer.Option("--public", help="Make a new repository public; private without it.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files of these names that differ.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go; ask nobody, send nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put a checkpoint and its model card into a repository of the Hugging Face hub.

    Two files go: model.safetensors and README.md. Other files of the repository stay, and nothing is deleted. What is
    there loads back by hf://ORG/NAME. It needs a token that may write: `hf auth login`, or HF_TOKEN.

    Examples:

        zoo push checkpoints/quickstart me/digits --dry-run
        zoo push checkpoints/quickstart me/digits
        zoo predict hf://me/digits photo.jpg
    """
    from zoo.checkpoint.push import push

    done = push(checkpoint, repository, public=public, overwrite=overwrite, dry_run=dry_run)
    document = {**done.as_dict(), "dry_run": dry_run, **({"card": done.card} if dry_run else {})}
    print(json.dumps(document, indent=1) if as_json else "\n".join(as_text(done, dry_run=dry_run)))


def as_text(done: Pushed, *, dry_run: bool) -> Iterator[str]:
    """What went or would go, a file a line, and in a dry run the card."""
    visible = "private" if done.private else "public"
    if dry_run:
        yield f"would go to {done.repository} ({visible}, where it is new):"
    else:
        yield f"{done.repository}{f' (new, {visible})' if done.created else ''}:"
    width = max(len(file.name) for file in done.files)
    for file in done.files:
        yield f"  {file.name:{width}}  {file.size:>13,} bytes{f'  {file.state}' if file.state else ''}"
    yield from (printable(f"note: {note}") for note in done.notes)
    if dry_run:
        yield "README.md:"
        yield from (f"  {printable(line)}" for line in done.card.splitlines())
        return
    yield "all of it is there already: nothing was sent" if done.commit is None else printable(f"commit: {done.commit}")
    yield f"next: zoo predict {done.address} IMAGE…"
