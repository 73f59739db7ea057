"""Sources that are members of archives, read in place: where each lies in its file, and how it is read."""

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._sources.kinds.found import SourceList
from arraystore._sources.stamps import stamp_of
from arraystore._sources.text_list import TextList
from arraystore.errors import DecodeError, Kind, ManifestError

PLAIN, STORED_IN_ZIP, DEFLATED_IN_ZIP = range(3)
_ZIP_HEADER = struct.Struct("<4s22xHH")  # signature, and the lengths of the name and the extra field behind it
_ZIP_SIGNATURE = b"PK\3\4"
_LIKELY_EXTRA_BYTES = 1024
_START_BYTES = 4096


@dataclass(frozen=True, slots=True)
class PartOfFile:
    """A source that is a part of a file. It pickles, so that worker processes read it themselves.

    Attributes:
        path: of the file, absolute.
        name: of the part in the file.
        start: the byte where the part begins; in a zip file, where its local header does.
        packed: how many bytes it takes in the file.
        size: how many bytes it has unpacked.
        method: ``PLAIN``, or how it lies in a zip file.
        crc: the CRC-32 of its bytes, for a part of a zip file.
        stamp: of the file when it was listed, see `stamp_of`.
    """

    path: str
    name: str
    start: int
    packed: int
    size: int
    method: int
    crc: int
    stamp: tuple[int, int]

    def read(self, most_bytes: int) -> bytes:
        """Return the bytes of the part.

        Raises:
            DecodeError: it has more than ``most_bytes``, lies outside the file or is damaged, or the file was changed.
            OSError: the file cannot be read.
        """
        if max(self.size, self.packed) > most_bytes:
            raise DecodeError(f"a member of {max(self.size, self.packed):,} bytes, more than an image can have")
        data = self._packed(self.packed)
        return data if self.method == PLAIN else self._unpacked(data)

    def digest(self) -> int:
        """Return a hash of its place, its size and the stamp of the file, which tells another part."""
        return int(xxhash.xxh3_64_intdigest(repr(astuple(self)[1:]).encode()))

    def read_start(self, count: int) -> bytes:
        """Return the first ``count`` bytes of the part, which may tell its format; fewer where it is shorter.

        Raises:
            DecodeError: see `read`.
            OSError: the file cannot be read.
        """
        data = self._packed(min(self.packed, max(_START_BYTES, count)))
        if self.method != DEFLATED_IN_ZIP:
            return data[:count]
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, count)
        except zlib.error as error:
            raise DecodeError(f"damaged in the archive: {error}", kind=Kind.DAMAGED) from error

    def _packed(self, count: int) -> bytes:
        """Return the first ``count`` bytes as they lie in the file."""
        if not 0 <= self.start <= self.stamp[0] - count:
            raise DecodeError("it lies outside the archive", kind=Kind.ENDS_EARLY)
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if stamp_of(os.fstat(descriptor)) != self.stamp:
                raise DecodeError("the archive was changed after it was listed: build again")
            if self.method == PLAIN:
                return read_part(descriptor, self.start, count)
            likely = _ZIP_HEADER.size + len(os.fsencode(self.name)) + _LIKELY_EXTRA_BYTES
            data = read_part(descriptor, self.start, likely + count)
            if len(data) < _ZIP_HEADER.size or not data.startswith(_ZIP_SIGNATURE):
                raise DecodeError("the archive has no member where its directory says", kind=Kind.DAMAGED)
            _, *lengths = _ZIP_HEADER.unpack_from(data)
            begin = _ZIP_HEADER.size + sum(lengths)
            return data[begin : begin + count] if begin <= likely else read_part(descriptor, self.start + begin, count)
        finally:
            os.close(descriptor)

    def _unpacked(self, data: bytes) -> bytes:
        if self.method == DEFLATED_IN_ZIP:
            unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                # One byte more than there should be, to see that there are no more.
                data = unpacker.decompress(data, self.size + 1)
            except zlib.error as error:
                raise DecodeError(f"damaged in the archive: {error}", kind=Kind.DAMAGED) from error
        if len(data) != self.size or zlib.crc32(data) != self.crc:
            raise DecodeError("damaged in the archive: size or CRC-32 is another", kind=Kind.DAMAGED)
        return data


def read_part(descriptor: int, start: int, size: int) -> bytes:
    """Return bytes of a file; fewer where it ends before."""
    data = os.pread(descriptor, size, start)
    while len(data) < size and (more := os.pread(descriptor, size - len(data), start + len(data))):
        data += more
    return data


@dataclass(slots=True)
class Index:
    """The members of one archive that are files, in the order of the archive, as columns."""

    path: str
    stamp: tuple[int, int]
    names: list[bytes] = field(default_factory=list)  # with single slashes, none at either end
    places: list[tuple[int, int, int, int, int]] = field(default_factory=list)  # fields of `PartOfFile`, start to crc
    faults: dict[int, str] = field(default_factory=dict)  # member → why it cannot be read
    member_of: dict[bytes, int] = field(default_factory=dict)  # name → member
    replaced: int = 0  # members that a later one of the same name has replaced
    outside: int = 0  # members whose names lead out of the archive; they are left out
    is_cut: bool = False  # whether the archive has no mark at its end

    def add(self, raw: bytes, place: tuple[int, int, int, int, int]) -> int | None:
        """Add a member, which replaces an earlier one of the same name; None if the name leads out of the archive.

        Args:
            raw: its name in the archive.
            place: the fields of `PartOfFile` from start to crc.

        Returns:
            Its number.
        """
        name = inner_name(raw)
        if name is None:
            self.outside += 1
            return None
        member = self.member_of.setdefault(name, len(self.names))
        if member == len(self.names):
            self.names.append(name)
            self.places.append(place)
        else:
            self.replaced += 1
            self.places[member] = place
            self.faults.pop(member, None)
        return member

    def notes(self) -> Iterator[str]:
        """Yield what a caller should know of the archive."""
        if self.is_cut:
            yield f"{self.path}: has no mark at its end; if it was cut there, members are missing"
        if self.replaced:
            yield f"{self.path}: {self.replaced:,} members have the name of an earlier one, which they replace"
        if self.outside:
            yield f"{self.path}: {self.outside:,} members have names that lead outside; left out"

    def part(self, member: int) -> PartOfFile:
        """Return one member as a source.

        Raises:
            ManifestError: it cannot be read.
        """
        name = os.fsdecode(self.names[member])
        if member in self.faults:
            message = f"{self.path}: the member {name!r} cannot be read: {self.faults[member]}"
            raise ManifestError(message, source=self.path, reason=self.faults[member], kind=Kind.UNREADABLE)
        return PartOfFile(self.path, name, *self.places[member], self.stamp)

    def start_of(self, member: int, count: int) -> bytes:
        """Return the first ``count`` bytes of a member; fewer where it is shorter, none where it cannot be read."""
        if member in self.faults:
            return b""
        try:
            return self.part(member).read_start(count)
        except (DecodeError, OSError):
            return b""


_PLACE = np.dtype(
    [("file", "<u4"), ("start", "<u8"), ("packed", "<u8"), ("size", "<u8"), ("how", "<u4"), ("crc", "<u4")]
)


class Members(SourceList):
    """Members of archives as sources.

    Args:
        archives: of the members.
        chosen: for each slot, the number of its archive and of its member in there.
    """

    noun: ClassVar[str] = "members of archives"

    def __init__(self, archives: Sequence[Index], chosen: Sequence[tuple[int, int]]) -> None:
        self._paths = [archive.path for archive in archives]
        self._stamps = [archive.stamp for archive in archives]
        self._labels = [os.path.basename(path) for path in self._paths]
        self._names = TextList.from_raw(archives[file].names[member] for file, member in chosen)
        rows = ((file, *archives[file].places[member]) for file, member in chosen)
        self._places = np.fromiter(rows, _PLACE, len(chosen))
        self._faults = {
            slot: archives[file].faults[member]
            for slot, (file, member) in enumerate(chosen)
            if member in archives[file].faults
        }

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, slot: Any) -> Any:
        if slot in self._faults:
            raise DecodeError(self._faults[slot], slot=slot, source=self.name(slot), reason=self._faults[slot])
        file, start, packed, size, method, crc = self._places[slot].item()
        path, stamp = self._paths[file], self._stamps[file]
        return PartOfFile(path, self._names[slot], start, packed, size, method, crc, stamp)

    def name(self, slot: int) -> str:
        return f"{self._labels[int(self._places['file'][slot])]}/{self._names[slot]}"

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        yield ["members", self._labels, self._stamps], (self._names.offsets, self._names.blob, self._places)


class OpenArchive:
    """An archive that is being listed.

    Raises:
        ManifestError: it is not there, is no file, or cannot be opened.
    """

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise ManifestError(f"{path}: there is no such archive", source=path, kind=Kind.MISSING)
        try:
            self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            message = f"{path}: the archive cannot be opened: {error.strerror}"
            raise ManifestError(message, source=path, kind=Kind.UNREADABLE) from error
        self.stamp = stamp_of(os.fstat(self.descriptor))

    def close(self) -> None:
        os.close(self.descriptor)


def inner_name(raw: bytes) -> bytes | None:
    """Return a member's name without a slash at its start, and without empty parts; None if it leads outside."""
    parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
    return None if not parts or b".." in parts else b"/".join(parts)
