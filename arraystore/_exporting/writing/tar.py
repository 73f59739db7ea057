"""Shards of WebDataset: for each image the members key.jpg, key.cls and key.json, one after the other."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO, cast

import numpy as np

from arraystore._common.ragged import Ragged
from arraystore._common.wording import flat
from arraystore._exporting.columns import Column, Columns, Values
from arraystore._exporting.runs import Run
from arraystore._exporting.writing.shards import Shards
from arraystore.errors import Kind, ManifestError

_BLOCK = tarfile.BLOCKSIZE
END_BYTES = 2 * _BLOCK  # of zeros, at the end of a tar file


class Tars:
    """Writes an export as shards. It is a writer, see `arraystore._exporting.forms`.

    The same images give the same bytes: members have no time and no owner.

    Raises:
        ManifestError: two targets of masks would have one extension.
    """

    def __init__(self, shards: Shards, columns: Columns, suffix: str) -> None:
        self._shards, self._columns, self._suffix = shards, columns, suffix
        self._label = columns.label
        self._told = [column for column in columns if column.kind != "mask"]
        self._masks: dict[str, str] = {}
        for column in columns.masks:
            extension = f".{re.sub(r'[^a-z0-9_-]', '_', column.name.lower())}.png"
            if extension in self._masks.values():
                raise ManifestError(
                    f"the masks {flat(column.name)!r} would have the extension {extension}, which others have",
                    kind=Kind.EXISTS,
                    advice="export in another form, or build the store again with another name for them",
                )
            self._masks[column.name] = extension
        self._file: BinaryIO | None = None

    def add(self, run: Run) -> None:
        """See `arraystore._exporting.forms`."""
        for at, stem in enumerate(run.stems):
            data = b"".join(self._members(run, at, stem))
            if self._shards.wants_next(len(data)):
                self._close()
                self._file = self._shards.open_next()
            cast("BinaryIO", self._file).write(data)

    def finish(self) -> None:
        """See `arraystore._exporting.forms`."""
        self._close()
        self._shards.finish()

    def abandon(self) -> None:
        """See `arraystore._exporting.forms`."""
        self._shards.abandon()

    @property
    def files(self) -> int:
        """How many there are."""
        return self._shards.files

    @property
    def size_bytes(self) -> int:
        """What they hold."""
        return self._shards.size_bytes

    def _close(self) -> None:
        if self._file is not None:
            self._file.write(bytes(END_BYTES))
            self._file = None
        self._shards.close()

    def _members(self, run: Run, at: int, stem: str) -> list[bytes]:
        members = [_member(stem + self._suffix, run.images[at])]
        members += [
            _member(stem + extension, cast("bytes", run.values[name][at])) for name, extension in self._masks.items()
        ]
        if self._label is not None:
            code = cast("Any", run.values[self._label.name])[at]
            members.append(_member(f"{stem}.cls", str(int(code)).encode()))
        if self._told:
            told = {column.name: plain_value(column, run.values, at) for column in self._told}
            members.append(_member(f"{stem}.json", json.dumps(told, ensure_ascii=False).encode()))
        return members


def plain_value(column: Column, values: Mapping[str, Values], at: int) -> Any:
    """Return the value of a row as JSON has it: a number, a text, the name of a class, or a list of these."""
    value = values[column.name][at]
    if column.kind == "text":
        return value
    if column.classes:
        names = _names(column.classes, np.asarray(value).reshape(-1).tolist())
        return names if isinstance(values[column.name], Ragged) else names[0]
    return np.asarray(value).tolist()


def _names(classes: Sequence[str], codes: Sequence[int]) -> list[str]:
    return [classes[code] for code in codes]


def _member(name: str, data: bytes) -> bytes:
    """Return a member of a tar file: its header, its bytes, and zeros up to a whole block."""
    return header_of(name, len(data)) + data + bytes(-len(data) % _BLOCK)


def header_of(name: str, size: int) -> bytes:
    """Return the header of a member, as Python's tarfile makes it.

    That takes 50 microseconds, so in the header of a member with a plain name only the fields that differ are written.
    """
    if not name.isascii() or len(name) > _NAME_BYTES or size >= 8**11:
        return _header_by_tarfile(name, size)
    name_field, size_field = name.encode(), b"%011o" % size
    total = _PLAIN_SUM + sum(name_field) + sum(size_field)
    header = bytearray(_PLAIN_HEADER)
    header[: len(name_field)] = name_field
    header[_SIZE] = size_field
    header[_SUM] = b"%06o\0 " % total
    return bytes(header)


def _header_by_tarfile(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


_NAME_BYTES = 100
_SIZE, _SUM = slice(124, 135), slice(148, 156)  # fields of a header
_PLAIN_HEADER = _header_by_tarfile("", 0)
# Of its bytes, without those of the size, and with spaces for the sum itself.
_PLAIN_SUM = sum(_PLAIN_HEADER) - sum(_PLAIN_HEADER[_SIZE]) - sum(_PLAIN_HEADER[_SUM]) + 8 * ord(" ")
