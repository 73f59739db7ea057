"""The ledger of a tree: a line of JSON for each source, with its stamp and those of the files that were made of it.

Lines are only added. Of several lines on one source the last one counts. A line that a kill has cut short, or that is
none, counts as not there, so its source is made again. Lines are kept as texts until they are asked for: as objects, a
hundred thousand of them would take longer to make and to collect than everything else that a call without work does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, KeysView
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from arraystore._format.files import fsync_path, write_at

_LIMIT_BYTES = 8 << 30
_LINES_PER_ENTRY = 2  # with more, the ledger is written anew
_HEAD = '["'  # of a line, with the start of its source
_decoder = json.JSONDecoder()

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


class Ledger:
    """The ledger of a tree, which this process alone writes.

    Args:
        path: of the file, which need not exist.

    Raises:
        OSError: it cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, str] = {}
        count = self._read()
        if count > _LINES_PER_ENTRY * len(self._lines) + 2:
            self._rewrite()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        self._end = os.fstat(self._file).st_size
        if self._end and os.pread(self._file, 1, self._end - 1) != b"\n":  # a kill has cut the last line short
            write_at(self._file, memoryview(b"\n"), self._end)
            self._end += 1
        fsync_path(path.parent)

    def __len__(self) -> int:
        return len(self._lines)

    def get(self, source: str) -> Entry | None:
        """Return the entry of a source; None if it has none, or none that can be read."""
        line = self._lines.get(source)
        return None if line is None else _entry(line)

    def sources(self) -> KeysView[str]:
        """Return the sources that have lines."""
        return self._lines.keys()

    def entries(self) -> Iterator[Entry]:
        """Yield every entry that can be read."""
        return (entry for line in self._lines.values() if (entry := _entry(line)) is not None)

    def add(self, entries: Iterable[Entry]) -> None:
        """Make entries durable; they replace those of the same sources."""
        new = {entry.source: json.dumps(entry) for entry in entries}
        if not new:
            return
        data = _joined(new.values())
        write_at(self._file, memoryview(data), self._end)
        self._end += len(data)
        os.fsync(self._file)
        self._lines.update(new)

    def forget(self) -> None:
        """Durably let every file be made again. The ledger still knows which files are its own."""
        self._lines = {entry.source: json.dumps(entry._replace(stamp=None)) for entry in self.entries()}
        os.close(self._file)
        self._rewrite()
        self._file = os.open(self._path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._end = os.fstat(self._file).st_size

    def close(self) -> None:
        """Close the file; a second call has no effect."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _read(self) -> int:
        """Read the lines, and return how many there are."""
        if not self._path.exists() or self._path.stat().st_size > _LIMIT_BYTES:
            return 0
        lines = self._path.read_text("utf-8", errors="replace").split("\n")
        for line in lines:
            if line.startswith(_HEAD):
                with suppress(ValueError):  # a text without an end
                    source, _ = _decoder.raw_decode(line, 1)
                    self._lines[source] = line
        return len(lines)

    def _rewrite(self) -> None:
        new = self._path.with_name(self._path.name + ".new")
        with suppress(FileNotFoundError):
            new.unlink()
        with new.open("xb") as file:
            file.write(_joined(self._lines.values()))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        fsync_path(self._path.parent)


def _joined(lines: Iterable[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def _entry(line: str) -> Entry | None:
    """Return the entry of a line; None if it is none."""
    try:
        source, stamp, masks, height, width, files = _decoder.raw_decode(line)[0]
        if not type(masks) is type(height) is type(width) is int or type(source) is not str:
            return None
        if stamp is not None:
            stamp = _stamp(*stamp)
        for name, each in files.items():
            files[name] = _stamp(*each)
    except (TypeError, ValueError, AttributeError, RecursionError):
        return None
    return Entry(source, stamp, masks, height, width, files)


def _stamp(size: Any, time_ns: Any) -> Stamp:
    if not type(size) is type(time_ns) is int:
        raise TypeError
    return size, time_ns
