"""Which way up an image is, by its EXIF, or else by its XMP.

The rule is Pillow's. EXIF decides wherever it has the tag, even with a value that means nothing; XMP decides only where
EXIF lacks the tag.
"""

import re
from struct import error as struct_error
from struct import unpack_from

from arraystore._decoding.header import Data

UPRIGHT = 1
_TAG = 0x0112
_ENTRY_BYTES = 12
# Some writers give the first four bytes in the wrong order; Pillow reads those too.
_ORDERS = {b"II*\0": "<", b"II\0*": "<", b"MM\0*": ">", b"MM*\0": ">"}
# The types of whole numbers that a tag may have, with their letter for struct and their bytes.
_TYPES = {3: ("H", 2), 4: ("I", 4), 8: ("h", 2), 9: ("i", 4)}
_PREFIX = re.compile(rb"(?:Exif\0\0){1,2}")
# As an attribute or as an element. XMP is text, and a parser would have to be guarded against bombs of entities.
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


def orientation_of(exif: Data = b"", xmp: Data = b"") -> int:
    """Return the orientation, 1 to 8; 1 where none is stated, or one that means nothing.

    Args:
        exif: the block, with or without the prefix that it has in a JPEG; empty where there is none.
        xmp: the packet; empty where there is none.
    """
    stated = _stated_by_exif(exif) if exif else None
    if stated is None and xmp:
        found = _XMP.search(xmp)
        stated = int(bytes(found[1])) if found else None
    return stated if stated is not None and 1 <= stated <= 8 else UPRIGHT


def orientation_beside_boxes(exif: Data, xmp: Data) -> int:
    """Return the orientation of a file whose own boxes turn nothing: by XMP, where EXIF lacks the tag.

    The boxes of AVIF outrank EXIF, so a tag there means nothing. XMP counts if there is no tag: that is Pillow's rule.
    """
    return UPRIGHT if exif and _stated_by_exif(exif) is not None else orientation_of(xmp=xmp)


def _stated_by_exif(exif: Data) -> int | None:
    """Return the value of the tag, whatever it is, or None where the block lacks it or is damaged."""
    prefix = _PREFIX.match(exif)
    if prefix:
        exif = exif[prefix.end() :]
    order = _ORDERS.get(bytes(exif[:4]))
    if order is None:
        return None
    try:
        (first,) = unpack_from(f"{order}I", exif, 4)
        (count,) = unpack_from(f"{order}H", exif, first)
        entries = bytes(exif[first + 2 : first + 2 + _ENTRY_BYTES * count])
        tag = _TAG.to_bytes(2, "little" if order == "<" else "big")
        at = entries.find(tag)
        while at >= 0 and at % _ENTRY_BYTES:  # the two bytes may also occur inside another entry
            at = entries.find(tag, at + 1)
        if at < 0:
            return None
        kind, length = unpack_from(f"{order}HI", entries, at + 2)
        if kind not in _TYPES or not length:
            return None
        letter, size = _TYPES[kind]
        where = first + 2 + at + 8
        if length * size > 4:
            (where,) = unpack_from(f"{order}I", exif, where)
        value: int = unpack_from(order + letter, exif, where)[0]
    except struct_error:
        return None
    return value
