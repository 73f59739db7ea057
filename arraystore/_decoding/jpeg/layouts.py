"""JPEGs whose layout of chroma has no name in TurboJPEG, decoded by OpenCV, which notices less.

libjpeg inside OpenCV warns of codes that it cannot read. OpenCV does not look for the end marker, so bytes that are
missing or left over are found here.
"""

from typing import TYPE_CHECKING, cast

import numpy as np

from arraystore._common.lazy import lazy
from arraystore._decoding.codecs import check_size
from arraystore._decoding.header import Data, Header, Pixels
from arraystore._decoding.jpeg.libjpeg_words import words_heard
from arraystore._decoding.jpeg.mending import END, scan_of

if TYPE_CHECKING:
    import cv2
else:
    cv2 = lazy("cv2")

# In libjpeg's words, so that callers need to know one wording.
_NO_END = "Premature end of JPEG file"
_LEFT_OVER = "Corrupt JPEG data: extraneous bytes before marker 0xd9"
_SPARE_BYTES = 16  # a decoder reads a few bytes ahead, and libjpeg does not count these as left over


def decode_layout(data: Data, header: Header, *, gray: bool, strict: bool) -> Pixels | str:
    """Return the pixels of a JPEG as stored, or the first complaint.

    Args:
        data: the file.
        header: its header.
        gray: whether its luma is wanted, (H, W), instead of (H, W, 3).
        strict: whether a complaint counts though there are pixels.
    """
    image, complaint = _decode(data, gray)
    if image is None or (strict and complaint):
        return complaint or "OpenCV cannot decode it"
    check_size(image.shape[:2], header)
    if strict:
        whole = bytes(data)
        scan, pixels = scan_of(whole)
        end = whole.find(END, scan)
        if end < 0:
            return _NO_END
        shorter, complaint = _decode(whole[: max(pixels, end - _SPARE_BYTES)] + END, gray)
        if not complaint and shorter is not None and np.array_equal(shorter, image):
            return _LEFT_OVER
    return image if gray else np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def _decode(data: Data, gray: bool) -> tuple[Pixels | None, str]:
    flags = cv2.IMREAD_IGNORE_ORIENTATION | (cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR)
    with words_heard() as words:
        try:
            # The stubs do not say that imdecode returns None where it fails.
            image = cast("Pixels | None", cv2.imdecode(np.frombuffer(data, np.uint8), flags))
        except cv2.error:
            image = None
    return image, words[0] if words else ""
