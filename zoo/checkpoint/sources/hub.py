"""Finds `hf://org/repo[/file][@revision]` through huggingface_hub and its cache; what is cached works offline."""

from __future__ import annotations

import re
from pathlib import Path

from zoo.checkpoint.sources.sharded import WEIGHT_FILES, check_shard_name, read_weight_map
from zoo.errors import InputError, WorkError
from zoo.file_name import name_mistake

PREFIX = "hf://"
_ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>.+))?")


def fetch_from_hub(address: str) -> Path:
    """The local path of the weights at `address`, downloaded when the cache lacks them.

    Raises InputError where the address, repository, revision or file does not exist or is closed to the user, and
    WorkError where the hub cannot be reached and the cache does not help.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise InputError(f"{address!r} is not of the form hf://organisation/repository[/file][@revision]")
    for part in filter(None, (match["file"], match["revision"])):
        if any(map(name_mistake, part.split("/"))):
            raise InputError(f"{address!r}: {part!r} does not stay in the repository's folder of the cache")
    repo, revision = match["repo"], match["revision"]
    wanted = (match["file"],) if match["file"] else WEIGHT_FILES
    offline: Exception | None = None
    for file in wanted:
        path, error = _download(repo, file, revision, local_only=offline is not None)
        offline = offline or error
        if path is not None:
            _fetch_shards(path, repo, file, revision)
            return path
    if offline is not None:
        raise WorkError(
            f"the Hugging Face hub cannot be reached, and its cache holds no {' or '.join(wanted)} of {repo}",
            suggestion="check the network (and HF_HUB_OFFLINE), or download the file elsewhere and name its path",
        ) from offline
    raise InputError(
        f"the repository {repo} has no {' or '.join(wanted)}", suggestion=f"name a file: {PREFIX}{repo}/FILE"
    )


def _download(repo: str, file: str, revision: str | None, *, local_only: bool) -> tuple[Path | None, Exception | None]:
    """The file's path in the cache, or None with the error that kept the hub out of reach (None: not in the repo)."""
    from huggingface_hub import errors, hf_hub_download

    try:
        return Path(hf_hub_download(repo, file, revision=revision, local_files_only=local_only)), None
    except errors.GatedRepoError as error:
        hint = "accept its terms on its page and log in with `hf auth login`"
        raise InputError(f"the repository {repo} is gated", suggestion=hint) from error
    except errors.RepositoryNotFoundError as error:
        hint = "check the spelling; a private repository needs `hf auth login`"
        raise InputError(f"the hub has no repository {repo}", suggestion=hint) from error
    except errors.RevisionNotFoundError as error:
        raise InputError(f"the repository {repo} has no revision {revision!r}") from error
    except errors.HFValidationError as error:
        raise InputError(f"{PREFIX}{repo} cannot be a repository: {error}") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        return None, error
    except errors.EntryNotFoundError:
        return None, None
    except (OSError, errors.HfHubHTTPError) as error:
        raise WorkError(f"downloading {file} of {repo} failed: {error}") from error


def _fetch_shards(index: Path, repo: str, file: str, revision: str | None) -> None:
    """Bring the shards of an index beside it; their names are checked before anything is asked for."""
    if not file.endswith(".index.json"):
        return
    folder = file.rpartition("/")[0]
    for shard in sorted(set(read_weight_map(index).values())):
        check_shard_name(index, shard)
        path, error = _download(repo, f"{folder}/{shard}" if folder else shard, revision, local_only=False)
        if path is None:
            reason = "the hub cannot be reached" if error else "the repository lacks it"
            raise WorkError(f"the shard {shard} of {PREFIX}{repo} is missing: {reason}") from error
