"""The bytes of a JPEG or PNG file, from pixels.

Of the JPEG encoders that are there, simplejpeg was measured as the fastest. Below quality 96 it has a faster cosine
transform than Pillow and OpenCV, which costs 0.06 dB at quality 90. It sets no restart markers; OpenCV does.
"""

from collections.abc import Sequence
from struct import pack
from typing import TYPE_CHECKING, Any
from zlib import compress, crc32

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._decoding.header import Pixels
from arraystore.errors import DecodeError, Kind, Option
from arraystore.spec import Jpeg, Subsampling

if TYPE_CHECKING:
    import cv2
    import simplejpeg
else:
    cv2, simplejpeg = lazy("cv2"), lazy("simplejpeg")

_LONGEST_JPEG_SIDE_PX = 65_500
_APP2 = b"\xff\xe2"
_PROFILE_PREFIX = b"ICC_PROFILE\0"
_PROFILE_PART_BYTES = 65_519  # of a segment's 65,533, less the prefix, the number of the part, and how many there are
_BLOCK_WIDTH_PX = {"444": 8, "422": 16, "420": 16, "440": 8, "411": 32}  # of a column of blocks of all components
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_HEAD_END = 33  # signature and IHDR
_GRAY, _PALETTE = 0, 3  # color types


def jpeg_of(image: Pixels, *, quality: int, subsampling: Subsampling, profile: bytes = b"") -> bytes:
    """Return pixels as a JPEG.

    Args:
        image: uint8, (H, W) or (H, W, 3), C-contiguous.
        quality: 1 to 100, as libjpeg's.
        subsampling: of chroma.
        profile: the color profile; empty for none.

    Raises:
        DecodeError: the image has a side that no JPEG may have.
    """
    height, width = image.shape[:2]
    if max(height, width) > _LONGEST_JPEG_SIDE_PX:
        raise DecodeError(
            f"{width} x {height} pixels are too many for a JPEG, whose sides have up to {_LONGEST_JPEG_SIDE_PX:,}",
            kind=Kind.TOO_LARGE,
            advice="write {0}",
            options=[Option("format", "png")],
        )
    gray = image.ndim == 2
    data: bytes = simplejpeg.encode_jpeg(
        image[:, :, None] if gray else image,
        quality=quality,
        colorspace="GRAY" if gray else "RGB",
        colorsubsampling="Gray" if gray else subsampling,
    )
    if not profile:
        return data
    parts = [profile[at : at + _PROFILE_PART_BYTES] for at in range(0, len(profile), _PROFILE_PART_BYTES)]
    if len(parts) > 255:
        return data
    body = b"".join(
        _APP2 + pack(">H", len(part) + len(_PROFILE_PREFIX) + 4) + _PROFILE_PREFIX + bytes((number, len(parts))) + part
        for number, part in enumerate(parts, start=1)
    )
    start = 4 + int.from_bytes(data[4:6], "big")  # behind the JFIF segment, which comes first
    return data[:start] + body + data[start:]


def slot_jpeg_of(slot: Pixels, jpeg: Jpeg) -> bytes:
    """Return the pixels of a slot, uint8 (H, W, 1 or 3), as a JPEG with restart markers.

    Raises:
        DecodeError: it has a side that no JPEG may have, or cannot be written.
    """
    height, width, channels = slot.shape
    if max(height, width) > _LONGEST_JPEG_SIDE_PX:
        raise DecodeError(
            f"its slot of {width} x {height} pixels is too large for a JPEG, whose sides have up to "
            f"{_LONGEST_JPEG_SIDE_PX:,}",
            kind=Kind.TOO_LARGE,
        )
    options = [
        cv2.IMWRITE_JPEG_QUALITY,
        jpeg.quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        getattr(cv2, f"IMWRITE_JPEG_SAMPLING_FACTOR_{jpeg.subsampling}"),
        cv2.IMWRITE_JPEG_RST_INTERVAL,
        restart_interval(width, jpeg, gray=channels == 1),
    ]
    done, encoded = cv2.imencode(".jpg", slot if channels == 1 else cv2.cvtColor(slot, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise DecodeError("its slot cannot be written as a JPEG", kind=Kind.UNSUPPORTED)
    return encoded.tobytes()


def restart_interval(width: int, jpeg: Jpeg, *, gray: bool) -> int:
    """Return how many columns of blocks lie between restart markers of a JPEG of this width; 0 for no markers.

    It divides the columns, so that each row of blocks begins after a marker.
    """
    columns = -(-width // (8 if gray else _BLOCK_WIDTH_PX[jpeg.subsampling]))
    return max((count for count in range(1, min(jpeg.restart, columns) + 1) if columns % count == 0), default=0)


def png_of(image: Pixels, *, profile: bytes = b"") -> bytes:
    """Return pixels as a PNG: uint8, (H, W), (H, W, 3) or (H, W, 4), red first.

    Raises:
        DecodeError: it cannot be written.
    """
    code = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}.get(image.shape[2] if image.ndim == 3 else 1)
    done, encoded = cv2.imencode(".png", image if code is None else cv2.cvtColor(image, code))
    if not done:
        raise DecodeError("its smaller image cannot be written as a PNG", kind=Kind.UNSUPPORTED)
    data = encoded.tobytes()
    if not profile:
        return data
    chunk = _chunk(b"iCCP", b"profile\0\0" + compress(profile))
    return data[:_PNG_HEAD_END] + chunk + data[_PNG_HEAD_END:]


def mask_png_of(numbers: npt.NDArray[Any], palette: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
    """Return numbers, uint8 or uint16 (H, W), as a PNG in gray; with the chunks of a palette, as indices into it."""
    height, width = numbers.shape
    bits = 8 * numbers.dtype.itemsize
    head = pack(">IIBBBBB", width, height, bits, _PALETTE if palette else _GRAY, 0, 0, 0)
    rows = np.zeros((height, 1 + width * numbers.dtype.itemsize), np.uint8)  # the first byte: no filter
    rows[:, 1:] = np.ascontiguousarray(numbers, numbers.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    chunks = [(b"IHDR", head), *palette, (b"IDAT", compress(rows.tobytes())), (b"IEND", b"")]
    return _PNG_SIGNATURE + b"".join(_chunk(kind, body) for kind, body in chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return pack(">I", len(body)) + kind + body + pack(">I", crc32(kind + body))
