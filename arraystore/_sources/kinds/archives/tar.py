"""The members of a tar file, listed from their headers alone: ustar, GNU and pax."""

import os
import posixpath
import re
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

from arraystore._sources.kinds.archives.members import PLAIN, Index, OpenArchive, inner_name, read_part
from arraystore.errors import Kind, ManifestError

_BLOCK = 512
_LONG_LIMIT_BYTES = 1 << 20  # of a name or a pax header; Linux has names of 4,096
_LONG = b"LKxXg"  # names and pax records that belong to the next member, or to all that follow
_HARD_LINK, _SYMBOLIC_LINK, _SPARSE = b"1", b"2", b"S"
_WITHOUT_DATA = b"123456"  # links, devices, folders and pipes, whatever size their headers give
_ABOUT_OTHERS = b"3456VMDN"  # these, and the labels and lists of GNU tar, are no files of their own
_PAX_RECORD = re.compile(rb"(\d{1,8}) ([^=\n]+)=")
_PACKED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}


@dataclass(slots=True)
class _Header:
    """What the header of one member says, and the long headers before it."""

    kind: bytes
    name: bytes
    link: bytes
    size: int
    data: int  # the byte where its data begins
    is_sparse: bool


@dataclass(slots=True)
class _Told:
    """What long headers say of the next member, and a global one of all that follow."""

    always: dict[bytes, bytes] = field(default_factory=dict)
    once: dict[bytes, bytes] = field(default_factory=dict)

    def get(self, name: bytes) -> bytes | None:
        return self.once.get(name, self.always.get(name))

    def is_sparse(self) -> bool:
        return any(name.startswith(b"GNU.sparse.") for name in (*self.once, *self.always))


def tar_index(path: str) -> Index:
    """List the members of a tar file in its order. Of members with one name the last one counts, as when tar unpacks.

    Raises:
        ManifestError: the file is missing, compressed, damaged, or ends within a member.
    """
    with closing(OpenArchive(path)) as archive:
        index = Index(path, archive.stamp)
        links: dict[int, _Header] = {}
        for header in _headers(archive, index):
            member = index.add(header.name, (header.data, header.size, header.size, PLAIN, 0))
            if member is None:
                continue
            links.pop(member, None)
            if header.is_sparse:
                index.faults[member] = "a sparse member, which cannot be read in place: unpack the archive"
            elif header.kind in (_HARD_LINK, _SYMBOLIC_LINK):
                links[member] = header
    for member, header in links.items():
        target = _end_of(member, links, index)
        if target is None:
            reason = f"a link to {os.fsdecode(header.link)!r}, which is no file of the archive"
        else:
            index.places[member] = index.places[target]
            reason = index.faults.get(target, "")
        if reason:
            index.faults[member] = reason
    return index


def _end_of(member: int, links: dict[int, _Header], index: Index) -> int | None:
    """Return the member that a link leads to, at last; None if it leads out of the archive, or back to itself."""
    seen: set[int] = set()
    while member in links:
        header = links[member]
        path = header.link
        if header.kind == _SYMBOLIC_LINK:
            if path.startswith(b"/"):
                return None
            path = posixpath.normpath(posixpath.join(posixpath.dirname(index.names[member]), path))
        name = inner_name(path)
        target = None if name is None else index.member_of.get(name)
        if target is None or target in seen:
            return None
        seen.add(target)
        member = target
    return member


def _headers(archive: OpenArchive, index: Index) -> Iterator[_Header]:
    """Yield the header of each member that is a file or a link."""
    at, told = 0, _Told()
    while block := read_part(archive.descriptor, at, _BLOCK):
        if not block.strip(b"\0"):
            return
        kind, size, data = block[156:157], _number(block[124:136]), at + _BLOCK
        if not _is_header(block) or size is None:
            raise _damaged(index, at, block)
        if kind in _LONG:
            is_read = size <= _LONG_LIMIT_BYTES and _tell(told, kind, read_part(archive.descriptor, data, size))
            if not is_read:
                raise _damaged(index, at, block)
            at = data + _whole_blocks(size)
            continue
        header = _header_of(block, told, size, data)
        if header is None:
            raise _damaged(index, at, block)
        if data + header.size > archive.stamp[0]:
            raise _cut(index, header)
        if kind == _SPARSE:
            data = _after_sparse_maps(archive, data, block[482:483])
        at = data + _whole_blocks(header.size)
        told.once.clear()
        is_folder = kind == b"\0" and header.name.endswith(b"/")
        if kind not in _ABOUT_OTHERS and not is_folder:
            yield header
    index.is_cut = True


def _header_of(block: bytes, told: _Told, size: int, data: int) -> _Header | None:
    """Return what a header says with the long ones before it; None if its size is damaged."""
    kind, long_size = block[156:157], told.get(b"size")
    if kind in _WITHOUT_DATA:
        size = 0
    elif long_size is not None:
        found = _number(long_size, 10)
        if found is None:
            return None
        size = found
    return _Header(kind, *_names(block, told), size, data, kind == _SPARSE or told.is_sparse())


def _names(block: bytes, told: _Told) -> tuple[bytes, bytes]:
    """Return the names of a member and of what it links to."""
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else b""
    return (
        told.get(b"GNU.sparse.name") or told.get(b"path") or (prefix + b"/" + name if prefix else name),
        told.get(b"linkpath") or _text(block[157:257]),
    )


def _tell(told: _Told, kind: bytes, text: bytes) -> bool:
    """Take up what a long header says; False if it is damaged."""
    if kind in b"LK":
        told.once[b"path" if kind == b"L" else b"linkpath"] = _text(text)
        return True
    records = told.always if kind == b"g" else told.once
    at = 0
    while at < len(text) and text[at : at + 1] != b"\0":
        record = _PAX_RECORD.match(text, at)
        if record is None:
            return False
        end = at + int(record[1])
        if end > len(text) or end <= record.end() or text[end - 1 : end] != b"\n":
            return False
        records[record[2]] = text[record.end() : end - 1]
        at = end
    return True


def _after_sparse_maps(archive: OpenArchive, at: int, has_more: bytes) -> int:
    """Return the byte behind the further maps of a sparse member of GNU tar."""
    while has_more not in (b"", b"\0"):
        has_more = read_part(archive.descriptor, at + 504, 1)
        at += _BLOCK
    return at


def _text(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


def _whole_blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _number(raw: bytes, base: int = 8) -> int | None:
    """Return a number of a header; None if it is none, or negative. Large ones are binary, behind a byte of 128."""
    if raw[:1] == b"\x80":
        return int.from_bytes(raw[1:], "big")
    digits = raw.strip(b" \0")
    if not digits:
        return 0 if base == 8 else None
    try:
        return int(digits, base) if digits.isdigit() and len(digits) <= 20 else None
    except ValueError:
        return None


def _is_header(block: bytes) -> bool:
    """Return whether a block has the sum that it says, in which the sum's own field counts as spaces."""
    if len(block) < _BLOCK:
        return False
    return _number(block[148:156]) == _sum(block[:148]) + 8 * ord(" ") + _sum(block[156:256]) + _sum(block[256:])


def _sum(block: bytes) -> int:
    """Return the sum of up to 256 bytes: the lower half of an Adler-32, which is ten times as fast as ``sum``."""
    return zlib.adler32(block, 0) & 0xFFFF


def _damaged(index: Index, at: int, block: bytes) -> ManifestError:
    if at == 0:
        tool = next((tool for magic, tool in _PACKED.items() if block.startswith(magic)), None)
        if tool is not None:
            return ManifestError(
                f"{index.path}: is compressed, so its members cannot be read in place",
                source=index.path,
                kind=Kind.UNSUPPORTED,
                advice=f"decompress it once ({tool}), and pass the .tar; or unpack it, and pass the folder",
            )
        return ManifestError(f"{index.path}: is not a tar file", source=index.path, kind=Kind.UNKNOWN_FORMAT)
    return ManifestError(
        f"{index.path}: the tar file is damaged at byte {at:,}, behind {len(index.names):,} members",
        source=index.path,
        kind=Kind.DAMAGED if len(block) == _BLOCK else Kind.ENDS_EARLY,
        advice="get it again: what follows cannot be listed",
    )


def _cut(index: Index, header: _Header) -> ManifestError:
    return ManifestError(
        f"{index.path}: the tar file ends within the member {os.fsdecode(header.name)!r}",
        source=index.path,
        kind=Kind.ENDS_EARLY,
        advice="get it again: the members that follow are missing",
    )
