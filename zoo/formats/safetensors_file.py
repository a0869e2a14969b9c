"""The safetensors format: read, check and write its header with the standard library alone; open its files."""

from __future__ import annotations

import json
import math
import os
import re
import reprlib
import stat
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zoo.errors import InputError, Problem, did_you_mean, first_problems
from zoo.formats.dtypes import BITS
from zoo.formats.entry import Entry, is_possible
from zoo.formats.files import kind_of
from zoo.formats.source import ByteRange, Source

MAX_HEADER_BYTES = 100_000_000
METADATA_KEY = "__metadata__"

_RANK = {dtype: rank for rank, dtype in enumerate(BITS)}


@dataclass(frozen=True)
class Header:
    """What a safetensors file contains: entries in the order of their bytes; the first byte lies at `data_start`."""

    entries: dict[str, Entry]
    metadata: dict[str, str]
    data_start: int


def read_header(path: str | os.PathLike[str]) -> Header:
    """The checked header of the safetensors file at `path`; the tensors' bytes are not read.

    Raises InputError where the file is missing, cut short, too long, or its header breaks a rule of the format.
    """
    try:
        if not stat.S_ISREG(mode := os.stat(path).st_mode):
            raise InputError(f"{path} is {kind_of(mode)}, no file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(file.read(8), "little")
            _check_length(length, size, path)
            text = file.read(length)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    return parse_header(text, size - 8 - length, path)


def parse_header(text: bytes, data_bytes: int, path: str | os.PathLike[str] = "header") -> Header:
    """The header whose JSON is `text`, in front of `data_bytes` bytes of tensors; `path` is for the messages."""
    table = _decode(text, path)
    metadata = _metadata(table.pop(METADATA_KEY, None), path)
    problems: list[str] = []
    entries = [entry for name, row in table.items() if (entry := _entry(name, row, problems))]
    if not problems:
        entries.sort(key=lambda entry: (entry.offset, entry.offset + entry.nbytes))
        _check_coverage(entries, data_bytes, problems)
    if problems:
        raise _invalid(path, *problems)
    return Header({entry.name: entry for entry in entries}, metadata, 8 + len(text))


def layout(entries: Iterable[Entry]) -> list[Entry]:
    """The entries in the order upstream writes them (widest dtype first, then by name), with their offsets set.

    Raises InputError for names that the format cannot hold: those that are no text, and the header's own.
    """
    entries = list(entries)
    if problems := [problem for entry in entries if (problem := _name_problem(entry.name))]:
        raise InputError(first_problems(problems))
    placed: list[Entry] = []
    offset = 0
    for entry in sorted(entries, key=lambda entry: (-_RANK[entry.dtype], entry.name.encode())):
        placed.append(replace(entry, offset=offset))
        offset += entry.nbytes
    return placed


def _name_problem(name: str) -> Problem | None:
    if name == METADATA_KEY:
        hint = f"give it another name, for example --remap '^{METADATA_KEY}$=metadata'"
        message = f"a safetensors file cannot contain a tensor called {METADATA_KEY}: its header means else by it"
        return Problem(message, suggestion=hint)
    if _is_text(name):
        return None
    pattern = "".join(re.escape(letter) if _is_text(letter) else "." for letter in name)
    return Problem(
        f"a safetensors file cannot contain a tensor called {_short(name)}: it has half of a surrogate pair in it, "
        "which is not text",
        suggestion=f"leave it out, --remap 'drop: ^{pattern}$', or rename it, --remap '^{pattern}$=NAME'",
    )


def encode_header(placed: Iterable[Entry], metadata: Mapping[str, str] | None = None, padding: int = 0) -> bytes:
    """The file's first bytes, up to the tensors: length, JSON, spaces. `placed` comes from `layout`.

    Metadata keys are sorted (upstream leaves their order to chance). `padding` is how many spaces (a multiple of 8)
    there shall be beyond upstream's. Raises InputError past 100 MB of header.
    """
    table: dict[str, Any] = {METADATA_KEY: dict(sorted(metadata.items()))} if metadata else {}
    for entry in placed:
        span = [entry.offset, entry.offset + entry.nbytes]
        table[entry.name] = {"dtype": entry.dtype, "shape": list(entry.shape), "data_offsets": span}
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8 + padding)
    if len(text) > MAX_HEADER_BYTES:
        raise InputError(f"the header would take {len(text):,} bytes; safetensors allows {MAX_HEADER_BYTES:,}")
    return len(text).to_bytes(8, "little") + text


def tied_names(metadata: Mapping[str, str]) -> dict[str, str]:
    """Alias -> canonical name, as the metadata says: zoo's own `tied` table, or safetensors' `alias: canonical`."""
    plain = {alias: name for alias, name in metadata.items() if alias not in ("zoo", "format")}
    try:
        table = json.loads(metadata.get("zoo", "{}")).get("tied")
    except (ValueError, AttributeError, RecursionError):
        return plain
    tied = table if isinstance(table, dict) else {}
    return plain | {alias: name for alias, name in tied.items() if isinstance(name, str)}


def _invalid(path: str | os.PathLike[str], *problems: str) -> InputError:
    rows = [Problem(f"{path} is not a valid safetensors file: {problem}") for problem in problems]
    return InputError(first_problems(rows))


def _check_length(length: int, size: int, path: str | os.PathLike[str]) -> None:
    if size < 8:
        raise _invalid(path, f"it is only {size} bytes long, and the header's length alone takes 8")
    if length > MAX_HEADER_BYTES:
        raise _invalid(
            path, f"its first 8 bytes promise a header of {length:,} bytes; {MAX_HEADER_BYTES:,} is the limit"
        )
    if 8 + length > size:
        raise _invalid(
            path, f"the header should take {length:,} bytes, but the file ends after {size:,}: it is cut short"
        )


def _decode(text: bytes, path: str | os.PathLike[str]) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
            raise _invalid(path, f"the name {_short(twice)} occurs twice in its header")
        return table

    try:
        table = json.loads(text.decode(), object_pairs_hook=unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise _invalid(path, f"its header is not UTF-8 text ({error.reason} at byte {error.start})") from error
    except (ValueError, RecursionError) as error:
        raise _invalid(path, f"its header is not JSON ({error})") from error
    if not isinstance(table, dict):
        raise _invalid(path, "its header is not a JSON object")
    return table


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _metadata(value: Any, path: str | os.PathLike[str]) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _invalid(path, f"{METADATA_KEY} must map strings to strings")
    if not all(_is_text(word) for pair in value.items() for word in pair):
        raise _invalid(path, f"{METADATA_KEY} contains half of a surrogate pair, which is not text")
    return value


def _entry(name: str, row: Any, problems: list[str]) -> Entry | None:
    """The entry that `row` describes, or None and a line in `problems`."""
    if not _is_text(name):
        problems.append(f"the tensor name {_short(name)} contains half of a surrogate pair, which is not text")
        return None
    if not isinstance(row, dict) or not {"dtype", "shape", "data_offsets"} <= row.keys():
        problems.append(f"tensor {_short(name)} must have dtype, shape and data_offsets")
        return None
    dtype, shape, span = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        few = len(problems) < 10  # no more of them are shown, and looking for near names takes its time
        hint = did_you_mean(dtype[:20], BITS) if few and isinstance(dtype, str) else None
        problems.append(f"tensor {_short(name)} has the unknown dtype {_short(dtype)}" + (f" ({hint})" if hint else ""))
    elif not _are_counts(shape) or not is_possible(shape, dtype):
        problems.append(f"tensor {_short(name)} has the shape {_short(shape)}, which is not a list of possible sizes")
    elif not _are_counts(span) or len(span) != 2:
        problems.append(f"tensor {_short(name)} has the data_offsets {_short(span)}, which are not [begin, end]")
    elif (bits := math.prod(shape) * BITS[dtype]) != (span[1] - span[0]) * 8:
        problems.append(
            f"tensor {_short(name)} ({dtype}, shape {_short(shape)}) takes {bits / 8:,.10g} bytes, "
            f"but its data_offsets {span} span {span[1] - span[0]:,}"
        )
    else:
        return Entry(name, dtype, tuple(shape), span[0])
    return None


def _check_coverage(entries: list[Entry], data_bytes: int, problems: list[str]) -> None:
    """The tensors must follow each other without gap or overlap, to the file's last byte."""
    end, before = 0, None
    for entry in entries:
        if entry.offset != end:
            verb = "overlaps" if entry.offset < end else f"leaves {entry.offset - end:,} unused bytes behind"
            other = "the header" if before is None else f"tensor {_short(before)}"
            row = f"tensor {_short(entry.name)} at byte {entry.offset:,} {verb} {other}, which ends at {end:,}"
            problems.append(row)
        end, before = entry.offset + entry.nbytes, entry.name
    if end > data_bytes:
        problems.append(f"the tensors should take {end:,} bytes, but only {data_bytes:,} follow: it is cut short")
    elif end < data_bytes:
        problems.append(f"{data_bytes - end:,} bytes follow the last tensor that belong to none")


def _are_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**63 for item in value)


def _short(value: Any) -> str:
    """How a value from the file is shown: one line of bounded length, whatever it contains."""
    return repr(value) if isinstance(value, str) and len(value) <= 100 else reprlib.repr(value)


def _is_text(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


def open_safetensors(path: Path, location: str) -> Source:
    """One safetensors file.

    Names that the metadata ties to a tensor in the file (`alias: canonical`, as safetensors' save_model writes them)
    are entries too, and aliases.
    """
    header = read_header(path)
    start = header.data_start
    entries = dict(header.entries)
    ranges = {name: ByteRange(path, start + entry.offset, entry.nbytes) for name, entry in entries.items()}
    source = Source(location, "safetensors file", entries, ranges, (path,))
    source.metadata = header.metadata
    for alias, canonical in tied_names(header.metadata).items():
        if canonical in header.entries and alias not in header.entries:
            source.tie(alias, canonical)
    if "zoo" in header.metadata:
        source.kind = "zoo checkpoint"
    return source
