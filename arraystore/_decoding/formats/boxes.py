"""The boxes of which AVIF, HEIF and JPEG 2000 files consist."""

from collections.abc import Iterator
from struct import unpack_from

from arraystore._decoding.header import Data
from arraystore.errors import DecodeError, Kind

# An AVIF has a dozen boxes at each level, and numbers its properties with 15 bits.
MOST_BOXES = 32_768


def iso_boxes(data: Data, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, first byte and end of the body of each box between two bytes; the last may end beyond the data.

    Raises:
        DecodeError: a box is shorter than its own head, or there are too many.
    """
    for _ in range(MOST_BOXES):
        if start + 8 > min(end, len(data)):
            return
        size, kind = unpack_from(">I4s", data, start)
        body = start + 8
        if size == 1:
            (size,) = unpack_from(">Q", data, body)
            body += 8
        stop = start + size if size else end
        if stop < body:
            raise DecodeError(f"the box {kind!r} at byte {start} has a size of {size}", kind=Kind.DAMAGED)
        yield kind, body, stop
        start = stop
    raise DecodeError(f"more than {MOST_BOXES:,} boxes in a row, which is no image", kind=Kind.TOO_LARGE)


def box(data: Data, path: str, start: int, end: int) -> tuple[int, int] | None:
    """Return the body of the box at a path such as ``"meta/iprp"``, or None."""
    for name in path.split("/"):
        found = next(((body, stop) for kind, body, stop in iso_boxes(data, start, end) if kind == name.encode()), None)
        if found is None:
            return None
        start, end = found[0], min(found[1], end)
        if name == "meta":
            start += 4  # version and flags
    return start, end
