"""JPEG: its header, and its pixels by libjpeg-turbo, with every warning heard.

simplejpeg decodes all but a few JPEGs and raises whatever libjpeg warns of. It refuses the layouts of chroma for which
TurboJPEG has no name; `arraystore._decoding.jpeg.layouts` decodes those.
"""

import math
from collections.abc import Callable
from functools import partial
from struct import unpack_from
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from arraystore._common.lazy import lazy
from arraystore._common.scratch import Buffers
from arraystore._decoding.codecs import check_size
from arraystore._decoding.eight_bits import from_inks
from arraystore._decoding.header import Data, Header, Pixels
from arraystore._decoding.jpeg.layouts import decode_layout
from arraystore._decoding.jpeg.mending import with_end, with_plain_header
from arraystore._decoding.jpeg.segments import (
    DCT_FRAMES,
    END_OF_IMAGE,
    FRAMES,
    PROGRESSIVE,
    START_OF_SCAN,
    check_scans,
    has_every_scan,
    segments,
)
from arraystore._decoding.orientation import orientation_of
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    import simplejpeg
else:
    simplejpeg = lazy("simplejpeg")

_APP1 = 0xE1
_EXIF_PREFIX = b"Exif\0\0"
_XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
# libjpeg-turbo shrinks `DCT_FRAMES` while it decodes them. It ignores that it should shrink lossless frames, and writes
# all pixels into the buffer for the shrunken ones.
# All other frames are hierarchical, or lossless with arithmetic codes; no decoder has them.
_DECODABLE = DCT_FRAMES | {0xC3}
_COMPONENTS = (1, 3, 4)
_BITS = 8  # of a sample

_buffers = Buffers()

# Parts of what the decoders say.
_NO_NAME_FOR_LAYOUT = "subsampling level"
_ENDS_EARLY = "premature end"
_SCANS_MISSING = "Premature end of JPEG file, between two scans"
_STRAY_BEFORE_END = "extraneous bytes before marker 0xd9"


class Decoded(NamedTuple):
    """The pixels of a JPEG as stored, (H, W) or (H, W, 3), C-contiguous."""

    image: Pixels  # in this thread's scratch memory, which the next image overwrites
    factor: int  # by which each side was shrunk
    note: str | None  # what is odd about the file though its pixels are right, or were asked for


def read_header(data: Data) -> Header:
    """Return the header of a JPEG.

    Raises:
        DecodeError: it is damaged, has no pixels, is of a kind that no decoder has, or has more scans than any encoder
            writes.
    """
    exif: list[Data] = []
    xmp: Data = b""
    frame = height = width = components = 0
    for marker, at, end in segments(data):
        if marker == START_OF_SCAN and frame:
            if frame in PROGRESSIVE or data[at + 4] < components:
                check_scans(data, at, height, width)
            # A block of more than 64 KB goes on in the next segment.
            orientation = orientation_of(exif[0] if len(exif) == 1 else b"".join(exif), xmp) if exif or xmp else 1
            return Header("jpeg", height, width, orientation, components, frame in PROGRESSIVE, frame in DCT_FRAMES)
        if marker in (END_OF_IMAGE, START_OF_SCAN) or end < at + 4:
            break
        if marker in FRAMES and not frame:
            frame = marker
            height, width, components = _check_frame(data, marker, at)
        elif marker == _APP1:
            if data[at + 4 : at + 10] == _EXIF_PREFIX:
                exif.append(data[at + 10 : end])
            elif data[at + 4 : at + 4 + len(_XMP_PREFIX)] == _XMP_PREFIX:
                xmp = data[at + 4 + len(_XMP_PREFIX) : end]
    raise DecodeError("the jpeg has no frame header before its pixels, or a damaged one", kind=Kind.DAMAGED)


def _check_frame(data: Data, marker: int, at: int) -> tuple[int, int, int]:
    """Return height, width and number of components of the frame at a byte, if it can be decoded."""
    bits, height, width, components = unpack_from(">BHHB", data, at + 4)
    if not (height and width and components):
        reason = f"the jpeg header says {height} by {width} pixels in {components} components"
        raise DecodeError(reason, kind=Kind.DAMAGED)
    if marker not in _DECODABLE or bits != _BITS or components not in _COMPONENTS:
        reason = (
            f"the jpeg has a frame of the kind SOF{marker - 0xC0} with {components} components of {bits} bits; "
            "those of the kinds 0 to 3, 9 and 10 with 1, 3 or 4 of 8 bits can be decoded"
        )
        raise DecodeError(reason, kind=Kind.UNSUPPORTED)
    return height, width, components


def decode(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the pixels of a JPEG as stored."""
    return decode_scaled(data, header, gray=spec.color == "gray").image.copy()


def decode_scaled(data: Data, header: Header, *, gray: bool, factor: int = 1, keep_truncated: bool = False) -> Decoded:
    """Return the pixels of a JPEG as stored, shrunk where that is possible.

    Args:
        data: the file.
        header: its header.
        gray: whether luma is enough; it is returned where the file has it as a component.
        factor: by how much to shrink each side: 1, 2, 4 or 8. Frames that cannot be shrunk are decoded in full.
        keep_truncated: whether pixels that are missing at the end may be gray.

    Raises:
        DecodeError: it is damaged, ends early, or is of a kind that cannot be decoded.
    """
    attempt = partial(_attempt, header=header, gray=gray, factor=factor if header.scalable else 1)
    image, note = attempt(data), None
    if isinstance(image, str):
        image, note = _decode_copies(attempt, data, header.components, image, keep_truncated)
    return Decoded(image, 1 if image.shape[:2] == (header.height, header.width) else factor, note)


def _decode_copies(
    attempt: Callable[..., Pixels | str], data: Data, components: int, said: str, keep_truncated: bool
) -> tuple[Pixels, str]:
    """Return the pixels of a JPEG that libjpeg complained of, and a note, if all of its pixels are there.

    Raises:
        DecodeError: they are not.
    """
    plain, scan = with_plain_header(data, components)
    image = attempt(plain)
    if not isinstance(image, str):
        return image, f"libjpeg warned of the header, not of the pixels: {said}"
    copies = with_end(plain, scan)
    complaints = [image]
    complete = not copies or has_every_scan(copies[0], scan)
    for copy in copies:
        image = attempt(copy) if complete else _SCANS_MISSING
        # What follows the pixels stands before the added marker. Zeros pass for pixels; only the first copy has none.
        if copy is copies[0] and isinstance(image, str) and _STRAY_BEFORE_END in image:
            image = attempt(copy, strict=False)
        if not isinstance(image, str):
            return image, "the JPEG has no end marker; all its pixels are there"
        complaints.append(image)
    # The first copy with an end has what was written of the file, and nothing else.
    complaint = complaints[1] if copies else complaints[0]
    if _ENDS_EARLY not in complaint.lower():
        raise DecodeError(f"the JPEG is damaged ({complaint})", kind=Kind.DAMAGED)
    if keep_truncated:
        image = attempt(copies[0] if copies else plain, strict=False)
        if not isinstance(image, str):
            return image, f"ends early: pixels that are missing are gray ({complaint})"
    complaint = said if _ENDS_EARLY in said.lower() else complaint
    raise DecodeError(f"the JPEG ends early or pixels are missing ({complaint})", kind=Kind.ENDS_EARLY)


def _attempt(data: Data, *, header: Header, gray: bool, factor: int, strict: bool = True) -> Pixels | str:
    """Return the pixels, or the decoder's first complaint. If not strict, a complaint counts only without pixels."""
    height, width = math.ceil(header.height / factor), math.ceil(header.width / factor)
    cmyk = header.components == 4
    # A JPEG stores luma as its first component, so gray pixels need no conversion to color and back. The decoder has
    # no conversion to gray for lossless frames.
    flat = header.components == 1 or (gray and header.scalable and not cmyk)
    channels = 1 if flat else 4 if cmyk else 3
    try:
        image: Pixels = simplejpeg.decode_jpeg(
            data,
            colorspace={1: "GRAY", 3: "RGB", 4: "CMYK"}[channels],
            min_height=height,
            min_width=width,
            min_factor=factor,
            buffer=_buffers.get("decoded", height * width * channels),
            strict=strict,
        )
    except ValueError as error:
        said = str(error)
        return decode_layout(data, header, gray=flat, strict=strict) if _NO_NAME_FOR_LAYOUT in said else said
    check_size(image.shape[:2], Header("jpeg", height, width))
    if cmyk:  # inverted, as all writers have it
        return from_inks(np.bitwise_not(image, out=image))
    return image[:, :, 0] if flat else image
