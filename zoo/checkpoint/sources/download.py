"""Downloads https addresses into torch.hub's cache folder, with its check of the digest in the file's name."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from zoo.checkpoint.sources.source import CHUNK
from zoo.errors import InputError, WorkError
from zoo.file_name import as_name

TIMEOUT = 30.0
_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.")


def cache_folder() -> Path:
    """Where torch.hub keeps checkpoints, so that what torchvision downloaded is found, and the other way round."""
    home = os.environ.get("TORCH_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"


def download(address: str, sha256: str | None = None) -> Path:
    """The local path of the file at `address`; it is fetched only once.

    Args:
        sha256: the digest or its first characters; without it the one in the file's name counts (`x-0676ba61.pth`).

    Raises InputError for addresses that are not allowed or not found, WorkError where the transfer fails or the
    digest is wrong. Nothing is left behind then.
    """
    parts = urllib.parse.urlsplit(address)
    if parts.scheme == "http" and parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise InputError(f"{address} is not encrypted: anyone on the way could change it", suggestion="use https://")
    name = Path(urllib.parse.unquote(parts.path)).name
    if not name or name in (".", ".."):
        raise InputError(f"{address} names no file")
    if parts.scheme == "file":
        return Path(urllib.request.url2pathname(parts.path))
    found = _DIGEST.search(name)
    expected = sha256 or (found[1] if found else "")
    # The same name at two addresses must not be taken for the same file unless a digest proves it.
    folder = cache_folder() if expected else cache_folder() / hashlib.sha256(address.encode()).hexdigest()[:16]
    path = folder / as_name(name, "weights")  # what an address calls a file may not be one everywhere
    if path.is_file() and _digest(path).startswith(expected):
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _fetch(address, path, expected)
    except urllib.error.HTTPError as error:
        kind = InputError if error.code in (400, 401, 403, 404, 410) else WorkError
        raise kind(f"{address} cannot be downloaded: {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise WorkError(f"{address} cannot be downloaded: {reason}", suggestion="check the network") from error


def _fetch(address: str, path: Path, expected: str) -> Path:
    request = urllib.request.Request(address, headers={"User-Agent": "zoo"})
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            promised = response.headers.get("Content-Length")
            shutil.copyfileobj(response, file, CHUNK)
            written = file.tell()
        if promised is not None and written != int(promised):
            raise WorkError(f"{address} broke off after {written:,} of {int(promised):,} bytes")
        actual = _digest(Path(temporary))
        if not actual.startswith(expected):
            raise WorkError(f"{address} has the sha256 {actual}, but {expected} was expected; it is not kept")
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
