"""The EXIF and the XMP of an AVIF: items of its meta box, each with a type, and with extents somewhere in the file.

A file may hold several images, such as a thumbnail or a map of gain. Only what describes the primary one counts.
"""

from collections.abc import Iterator
from struct import unpack_from

from arraystore._decoding.formats.boxes import box, iso_boxes
from arraystore._decoding.header import Data

_MOST_ITEMS = 32_768
_MOST_EXTENTS = 1_024  # of one item
_EXIF, _XMP = b"Exif", b"mime"
_XMP_KIND = b"application/rdf+xml\0"
_EXIF_OFFSET_BYTES = 4  # in front of the block: how far it is away
_IN_FILE, _IN_META = 0, 1  # where an item's extents count from
_LETTERS = {4: "I", 8: "Q"}  # of numbers of so many bytes


def primary_item(data: Data) -> int | None:
    """Return the number of the primary image, or None where no box says it."""
    found = box(data, "meta/pitm", 0, len(data))
    if found is None:
        return None
    return int(unpack_from(">I" if data[found[0]] else ">H", data, found[0] + 4)[0])


def exif_and_xmp(data: Data) -> tuple[Data, Data]:
    """Return the block of EXIF and the packet of XMP of the primary image; each is empty where there is none."""
    described_by = _descriptions(data)
    ids = {item: kind for item, kind in _metadata_items(data).items() if item in described_by}
    found = {ids[item]: content for item, content in _contents(data, ids)} if ids else {}
    exif = found.get(_EXIF, b"")
    if len(exif) > _EXIF_OFFSET_BYTES:
        (away,) = unpack_from(">I", exif)
        exif = exif[_EXIF_OFFSET_BYTES + away :]
    return exif, found.get(_XMP, b"")


def _descriptions(data: Data) -> set[int]:
    """Return the items that describe the primary image."""
    table, primary = box(data, "meta/iref", 0, len(data)), primary_item(data)
    if table is None:
        return set()
    letter, size = ("I", 4) if data[table[0]] else ("H", 2)
    found = set()
    for kind, at, stop in iso_boxes(data, table[0] + 4, table[1]):
        if kind == b"cdsc":
            item, count = unpack_from(f">{letter}H", data, at)
            first = at + size + 2
            count = min(count, (stop - first) // size)  # no more than the box holds, so that all of them are a walk
            if primary in unpack_from(f">{count}{letter}", data, first):
                found.add(item)
    return found


def _metadata_items(data: Data) -> dict[int, bytes]:
    """Return which items are EXIF or XMP."""
    table = box(data, "meta/iinf", 0, len(data))
    if table is None:
        return {}
    start, end = table
    found: dict[int, bytes] = {}
    for kind, first, stop in iso_boxes(data, start + (8 if data[start] else 6), end):
        if kind != b"infe" or data[first] not in (2, 3):
            continue
        wide = data[first] == 3
        (item,) = unpack_from(">I" if wide else ">H", data, first + 4)
        at = first + (10 if wide else 8)  # behind the number, and two bytes on protection
        item_type, rest = bytes(data[at : at + 4]), bytes(data[at + 4 : min(stop, at + 256)])
        content_type = rest.partition(b"\0")[2]  # behind the name
        if item_type == _EXIF or (item_type == _XMP and content_type.startswith(_XMP_KIND)):
            found.setdefault(item, item_type)
    return found


def _contents(data: Data, wanted: dict[int, bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of each wanted item, until these are more bytes than the file has.

    Extents may overlap, so a small file can describe items of any size.
    """
    table = box(data, "meta/iloc", 0, len(data))
    if table is None:
        return
    at = table[0]
    version = data[at]
    sizes, index_size = data[at + 4], data[at + 5] & 15 if version else 0
    offset_size, length_size, base_size = sizes >> 4, sizes & 15, data[at + 5] >> 4
    (count,) = unpack_from(">H" if version < 2 else ">I", data, at + 6)
    at += 8 if version < 2 else 10
    held = box(data, "meta/idat", 0, len(data))
    bytes_left = len(data)
    for _ in range(min(count, _MOST_ITEMS)):
        (item,) = unpack_from(">H" if version < 2 else ">I", data, at)
        at += 2 if version < 2 else 4
        way = data[at + 1] & 15 if version else _IN_FILE
        at += 4 if version else 2  # with the number of the file that holds it
        base = _number(data, at, base_size)
        (extents,) = unpack_from(">H", data, at + base_size)
        at += base_size + 2
        size = index_size + offset_size + length_size
        if item in wanted and way in (_IN_FILE, _IN_META) and extents <= _MOST_EXTENTS:
            base += held[0] if way == _IN_META and held else 0
            parts = []
            for place in range(at + index_size, at + index_size + extents * size, max(size, 1)):
                start = base + _number(data, place, offset_size)
                length = _number(data, place + offset_size, length_size)
                part = data[start : start + length]
                bytes_left -= len(part)
                if bytes_left < 0:
                    return
                parts.append(bytes(part))
            yield item, b"".join(parts)
        at += extents * size


def _number(data: Data, at: int, size: int) -> int:
    return int(unpack_from(">" + _LETTERS[size], data, at)[0]) if size in _LETTERS else 0
