"""Weights that lie elsewhere: `hf://org/repo[/file][@revision]` through huggingface_hub, or an https address."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
import threading
import urllib.error
import urllib.parse
from pathlib import Path

from zoo.cache import weights_folder
from zoo.errors import InputError, WorkError, any_of
from zoo.file_name import as_name, name_mistake
from zoo.formats.sharded import WEIGHT_FILES, check_shard_name, read_weight_map
from zoo.formats.source import CHUNK, sha256_of

TIMEOUT = 30.0
REACH_TIMEOUT = 1.5  # seconds in which a hub that is there takes a connection
PREFIX = "hf://"
SCHEMES = (PREFIX, "https://", "http://", "file://")
_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.")
_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+))?(?:@(?P<revision>.+))?")


def is_address(location: str) -> bool:
    """Whether a location is an address, from which a file is fetched, rather than a name or a path."""
    return location.startswith(SCHEMES)


def check_address(address: str) -> None:
    """Raises InputError for an address that nothing can be fetched from, whatever may lie there."""
    if address.startswith(PREFIX):
        _hub_parts(address)
        return
    place_of(address)
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise InputError(f"{address} is not encrypted: anyone on the way could change it", suggestion="use https://")


def is_elsewhere(location: str) -> bool:
    """Whether opening a location talks to another machine: an address, or a share's path on Windows."""
    return location.startswith((*SCHEMES[:3], "//", "\\\\"))


def kept(address: str) -> Path | None:
    """The local copy of what is at `address`, without asking for it; None where there is none."""
    check_address(address)
    if address.startswith(PREFIX):
        repo, named, revision = _hub_parts(address)
        for file in (named,) if named else WEIGHT_FILES:
            path, _ = _download(repo, file, revision, local_only=True)
            if path is not None:
                return path
        return None
    path, _ = place_of(address)
    return path if path.is_file() else None


def fetch(address: str, sha256: str | None = None) -> Path:
    """The local path of what is at `address`, fetched only once; see `fetch_from_hub` and `download` for errors."""
    return fetch_from_hub(address) if address.startswith(PREFIX) else download(address, sha256)


def fetched(location: str, sha256: str | None = None) -> Path | None:
    """The file at a path, or what was fetched from an address before, where it is on this machine; else None."""
    if not is_address(location):
        path = Path(location).expanduser()
        return path if path.exists() else None
    if not location.startswith(PREFIX):
        path = place_of(location, sha256)[0]
        return path if path.is_file() else None
    repo, named, revision = _hub_parts(location)
    found = (_download(repo, file, revision, local_only=True)[0] for file in ((named,) if named else WEIGHT_FILES))
    return next(filter(None, found), None)


def file_beside(location: str, name: str) -> Path | None:
    """The file called `name` beside weights: in a folder, beside a file, or in the repository of an `hf://` address
    (in the folder of the file that it names), from which it is fetched where it is not here yet.

    None where there is none. Raises InputError for a repository that does not exist or is closed to the user, and
    WorkError where the hub cannot be reached and its cache does not help.
    """
    if mistake := name_mistake(name):
        raise InputError(f"{name!r} cannot be a file beside weights: {mistake}")
    if not location.startswith(PREFIX):
        path = Path(urllib.parse.urlsplit(location).path if location.startswith("file://") else location).expanduser()
        found = (path if path.is_dir() else path.parent) / name
        return found if not is_elsewhere(location) and found.is_file() else None
    repo, named, revision = _hub_parts(location)
    folder = (named or "").rpartition("/")[0]
    file = f"{folder}/{name}" if folder else name
    offline = unreachable()
    path_found, error = _download(repo, file, revision, local_only=offline is not None)
    if path_found is None and (reason := offline or error) is not None and not _known_absent(repo, file, revision):
        message = f"the Hugging Face hub cannot be reached, and its cache contains no {file} of {repo}"
        hint = "check the network (and HF_HUB_OFFLINE), or download the repository elsewhere and name its folder"
        raise WorkError(message, suggestion=hint) from reason
    return path_found


def _known_absent(repo: str, file: str, revision: str | None) -> bool:
    """Whether the hub has said before that a revision lacks the file."""
    from huggingface_hub import try_to_load_from_cache

    # a path, None where it was never asked for, or the mark of a file that the revision lacks
    found = try_to_load_from_cache(repo, file, revision=revision)
    return found is not None and not isinstance(found, str)


def download(address: str, sha256: str | None = None) -> Path:
    """The local path of the file at `address`; it is fetched only once.

    Args:
        sha256: the digest or its first characters; without it the one in the file's name counts (`x-0676ba61.pth`).

    Raises InputError for addresses that are not allowed or not found, WorkError where the transfer fails or the
    digest is wrong. Nothing is left behind then.
    """
    check_address(address)
    path, expected = place_of(address, sha256)
    if address.startswith("file://") or (path.is_file() and sha256_of(path).startswith(expected)):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return _fetch(address, path, expected)
    except urllib.error.HTTPError as error:
        kind = InputError if error.code in (400, 401, 403, 404, 410) else WorkError
        raise kind(f"{address} cannot be downloaded: {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise WorkError(f"{address} cannot be downloaded: {reason}", suggestion="check the network") from error


def place_of(address: str, sha256: str | None = None) -> tuple[Path, str]:
    """Where the file at `address` lies once it is fetched, and what its digest then begins with.

    Raises InputError for an address that names no file.
    """
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError as error:
        raise InputError(f"{address} is no address: {error}") from error
    name = Path(urllib.parse.unquote(parts.path)).name
    if not name or name in (".", "..") or (parts.scheme != "file" and not parts.netloc):
        raise InputError(f"{address} names no file")
    found = _DIGEST.search(name)
    expected = sha256 or (found[1] if found else "")
    if parts.scheme == "file":
        from urllib.request import url2pathname

        return Path(url2pathname(parts.path)), expected
    # The same name at two addresses must not be taken for the same file unless a digest proves it.
    folder = weights_folder() if expected else weights_folder() / hashlib.sha256(address.encode()).hexdigest()[:16]
    return folder / as_name(name, "weights"), expected  # what an address calls a file may not be one everywhere


def _fetch(address: str, path: Path, expected: str) -> Path:
    from urllib.request import Request, urlopen  # brings http and ssl, which reading a file does not need

    request = Request(address, headers={"User-Agent": "zoo"})
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file, urlopen(request, timeout=TIMEOUT) as response:
            promised = response.headers.get("Content-Length")
            shutil.copyfileobj(response, file, CHUNK)
            written = file.tell()
        if promised is not None and written != int(promised):
            raise WorkError(f"{address} broke off after {written:,} of {int(promised):,} bytes")
        actual = sha256_of(Path(temporary))
        if not actual.startswith(expected):
            raise WorkError(f"{address} has the sha256 {actual}, but {expected} was expected; it is not kept")
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def fetch_from_hub(address: str) -> Path:
    """The local path of the weights at `address`, downloaded when the cache lacks them.

    Raises InputError where the address, repository, revision or file does not exist or is closed to the user, and
    WorkError where the hub cannot be reached and the cache does not help.
    """
    repo, named, revision = _hub_parts(address)
    wanted = (named,) if named else WEIGHT_FILES
    offline = unreachable()
    for file in wanted:
        path, error = _download(repo, file, revision, local_only=offline is not None)
        offline = offline or error
        if path is not None:
            _fetch_shards(path, repo, file, revision)
            return path
    if offline is not None:
        raise WorkError(
            f"the Hugging Face hub cannot be reached, and its cache contains no {any_of(wanted)} of {repo}",
            suggestion="check the network (and HF_HUB_OFFLINE), or download the file elsewhere and name its path",
        ) from offline
    raise InputError(f"the repository {repo} has no {any_of(wanted)}", suggestion=f"name a file: {PREFIX}{repo}/FILE")


def unreachable() -> Exception | None:
    """Why the hub, or the proxy on the way, answers no connection; None where it does, or where it is not to be asked.

    The hub's own client tries again for half a minute, and looking a name up cannot be stopped: hence the thread.
    """
    from urllib.request import getproxies, proxy_bypass

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return None  # its client says so by itself
    hub = urllib.parse.urlsplit(constants.ENDPOINT)
    proxies = {} if proxy_bypass(hub.hostname or "") else getproxies()
    proxy = proxies.get(hub.scheme) or proxies.get("all")
    at = urllib.parse.urlsplit(proxy if proxy and "//" in proxy else f"//{proxy}") if proxy else hub
    reasons: list[Exception] = [TimeoutError(f"no answer within {REACH_TIMEOUT:g} s")]

    def reach() -> None:
        try:
            port = at.port or (443 if at.scheme == "https" else 80)
            socket.create_connection((at.hostname or "", port), REACH_TIMEOUT).close()
            reasons.clear()
        except OSError as error:
            reasons[:] = [error]

    thread = threading.Thread(target=reach, daemon=True)
    thread.start()
    thread.join(REACH_TIMEOUT)
    return next(iter(reasons), None)


def _hub_parts(address: str) -> tuple[str, str | None, str | None]:
    """The repository, the file and the revision that `hf://…` names, or an InputError."""
    match = _HUB.fullmatch(address)
    if match is None:
        raise InputError(f"{address} is not of the form hf://ORG/REPO[/FILE][@REVISION]")
    for part in filter(None, (match["repo"], match["file"], match["revision"])):
        if any(map(name_mistake, part.split("/"))):
            raise InputError(f"{address!r}: {part!r} does not stay in the repository's folder of the cache")
    return match["repo"], match["file"], match["revision"]


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


def hub_refusal(repo: str, error: Exception, left: str = "") -> InputError | WorkError:
    """What an error of the hub's client means to whoever writes into a repository; `left` is said beside it."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    said = getattr(error, "server_message", None) or str(error).strip().partition("\n")[0] or type(error).__name__
    if status == 401:
        hint = "log in anew with `hf auth login`, or set HF_TOKEN to a token that may write"
        return InputError(f"the hub does not take the token for {repo}{left}", suggestion=hint)
    if status == 403:
        hint = "the token needs the right to write there: see the tokens in the settings of your account"
        return InputError(f"the token may not write into {repo}: {said}{left}", suggestion=hint)
    if status is not None and 400 <= status < 500:
        return InputError(f"the hub refuses {repo}: {status} {said}{left}")
    if isinstance(error, ValueError) and not isinstance(error, json.JSONDecodeError):  # of the card's front matter
        return InputError(f"the hub refuses {repo}: {' '.join(str(error).split())}{left}")
    return WorkError(f"the hub failed on the way to {repo}: {said}{left}", suggestion="try again; nothing was deleted")


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
