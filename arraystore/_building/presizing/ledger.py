"""The ledger of a tree: a line of JSON for each source, with its stamp and those of the files that were made of it.

Lines are only added. Of several lines on one source the last one counts. A line that a kill has cut short, or that is
none, counts as not there, so its source is made again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from arraystore._format.files import fsync_path, write_at

_LIMIT_BYTES = 8 << 30
_LINES_PER_ENTRY = 2  # with more, the ledger is written anew

Stamp = tuple[int, int]  # size in bytes, time of change in nanoseconds


class Entry(NamedTuple):
    """What is known of a source.

    Attributes:
        source: its absolute path.
        stamp: of it; None if its files must be made again.
        masks: the `masks_stamp` of its masks, 0 without.
        height: of the upright image in pixels, as for ``width``.
        width: of it.
        files: path in the tree → stamp of each file.
    """

    source: str
    stamp: Stamp | None
    masks: int
    height: int
    width: int
    files: dict[str, Stamp]


def read_entries(path: Path) -> tuple[dict[str, Entry], int]:
    """Return the entries of a ledger by source, and how many lines it has; none where there is no ledger.

    Raises:
        OSError: it cannot be read.
    """
    if not path.exists() or path.stat().st_size > _LIMIT_BYTES:
        return {}, 0
    lines = path.read_bytes().split(b"\n")
    try:
        parsed = json.loads(b"[" + b",".join(line for line in lines if line) + b"]")
    except (ValueError, RecursionError):
        parsed = [value for line in lines if (value := _parsed(line)) is not None]
    entries = (_entry(value) for value in parsed)
    return {entry.source: entry for entry in entries if entry is not None}, len(lines)


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _entry(value: Any) -> Entry | None:
    """Return the entry of a parsed line; None if it is none. A tree has many, so this is written to be quick."""
    try:
        source, stamp, masks, height, width, files = value
        if not type(masks) is type(height) is type(width) is int or type(source) is not str:
            return None
        if stamp is not None:
            stamp = _stamp(*stamp)
        for name, each in files.items():
            files[name] = _stamp(*each)
    except (TypeError, ValueError, AttributeError):
        return None
    return Entry(source, stamp, masks, height, width, files)


def _stamp(size: Any, time_ns: Any) -> Stamp:
    if not type(size) is type(time_ns) is int:
        raise TypeError
    return size, time_ns


class Ledger:
    """The ledger of a tree, which this process alone writes.

    Args:
        path: of the file, which need not exist.

    Attributes:
        entries: by source.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries, lines = read_entries(path)
        if lines > _LINES_PER_ENTRY * len(self.entries) + 2:
            self._rewrite()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        self._end = os.fstat(self._file).st_size
        if self._end and os.pread(self._file, 1, self._end - 1) != b"\n":  # a kill has cut the last line short
            write_at(self._file, memoryview(b"\n"), self._end)
            self._end += 1
        fsync_path(path.parent)

    def add(self, entries: Iterable[Entry]) -> None:
        """Make entries durable; they replace those of the same sources."""
        new = list(entries)
        if not new:
            return
        data = _lines(new)
        write_at(self._file, memoryview(data), self._end)
        self._end += len(data)
        os.fsync(self._file)
        self.entries.update((entry.source, entry) for entry in new)

    def forget(self) -> None:
        """Durably let every file be made again. The ledger still knows which files are its own."""
        self.entries = {source: entry._replace(stamp=None) for source, entry in self.entries.items()}
        os.close(self._file)
        self._rewrite()
        self._file = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._end = os.fstat(self._file).st_size

    def close(self) -> None:
        """Close the file; a second call has no effect."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _rewrite(self) -> None:
        new = self._path.with_name(self._path.name + ".new")
        with suppress(FileNotFoundError):
            new.unlink()
        with new.open("xb") as file:
            file.write(_lines(list(self.entries.values())))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        fsync_path(self._path.parent)


def _lines(entries: Sequence[Entry]) -> bytes:
    return "".join(json.dumps(entry) + "\n" for entry in entries).encode()
