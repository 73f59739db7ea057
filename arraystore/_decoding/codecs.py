"""Bytes → pixels, for every format that is not a plain JPEG.

OpenCV decodes; Pillow (the extra `formats`) is asked only where OpenCV cannot. Both were compared on every mode that
Pillow can write and on files made by hand, with OpenCV 5.0 and Pillow 13. What was found, and what is done about it:

| format | trap | here |
|---|---|---|
| all | OpenCV logs to stderr what is wrong with a file | silenced for the call; the reason is in the error |
| JPEG | CMYK and YCCK, with Adobe's marker or not, are within one level of Pillow's | OpenCV |
| PNG | without IEND: OpenCV refuses; Pillow accepts, even where pixels lack | IEND added if all pixels are there |
| PNG | a transparent level of gray (tRNS) is ignored | compared and composited here |
| PNG | animated: OpenCV gives the animation's first frame, not the image itself | the animation is taken out |
| PNG | packed texts and profiles may be gigabytes | what does not change the pixels is taken out |
| WebP | EXIF behind JPEG's prefix is ignored | `arraystore._decoding.header` reads the orientation, never a decoder |
| AVIF | rotation and mirroring are ignored | likewise |
| AVIF | 10 and 12 bits come unscaled in 16 | scaled by the depth that the file states |
| GIF | a damaged later frame, or one beyond the screen, fails the first | the first frame is decoded alone |
| GIF | what no frame covers is painted in some color | it is background, as browsers have it |
| TIFF | the orientation is applied, even with IMREAD_UNCHANGED | the tag is set to 1 in a copy |
| TIFF | 8-bit RGBA comes premultiplied, 16-bit as stored | composited either way, within one level |
| TIFF | an unspecified fourth channel is taken for alpha; CMYK comes converted, with a fourth | dropped |
| TIFF | gray loses its alpha; 1-bit palettes come gray; 2 and 4 bits, zstd, 8-bit tiles fail | Pillow |
| TIFF | 16-bit white-is-zero is not inverted, 10 to 14 bits come shifted | both undone here |
| TIFF | 16-bit planes apart are scrambled, by Pillow too | refused |
| TIFF | damage inside compressed strips can go unseen, for lack of checksums | only missing bytes are noticed |
| BMP | the old 12-byte header comes gray | color is asked for |
| BMP | 16-bit white is 248, and some masks give a false alpha | masks are applied here |
| JPEG 2000 | sYCC is converted wrongly; gray with alpha and CMYK fail | Pillow |
| JPEG 2000 | 9 to 15 bits come unscaled in 16 | scaled by the depth that the file states |
| netpbm | the largest sample is ignored or rounded down; a number at the very end fails | scaled here |
"""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable
from struct import error as struct_error
from struct import pack, unpack_from
from typing import Any, Generic, TypeVar, cast
from zlib import crc32

import cv2
import numpy as np
import numpy.typing as npt

from arraystore._decoding.eight_bits import bands, composite, eight_bits, finish
from arraystore._decoding.header import Header, TiffTag, gif_frame, netpbm_header, png_chunks, tiff_tags
from arraystore._decoding.isobmff import avif_depth
from arraystore._decoding.jpeg import Data
from arraystore._decoding.jpeg2000 import jp2_depth, jp2_is_sycc
from arraystore.errors import DecodeError
from arraystore.spec import ImageSpec

__all__ = ["decode_any"]

T = TypeVar("T")

_Pixels = npt.NDArray[Any]
_PILLOW = "pip install 'arraystore[formats]'"
_LONGEST_SIDE = 1_000_000  # libpng's limit; OpenCV's is a little more


def decode_any(data: Data, header: Header, spec: ImageSpec) -> npt.NDArray[np.uint8]:
    """Return the pixels of an image as it is stored, not yet turned upright.

    Args:
        data: the whole file.
        header: what `arraystore._decoding.header.read_header` says of it; the caller has compared its size with
            ``spec.max_pixels``.
        spec: its ``background`` lies behind transparent pixels.

    Returns:
        C-contiguous uint8, owned by the caller: (H, W, 3) red, green, blue, or (H, W) of a gray image.

    Raises:
        DecodeError: the data is damaged or ends early, its kind cannot be decoded, or the decoder gave another size
            than the header says.
    """
    decode = _DECODERS.get(header.format)
    if decode is None:
        raise DecodeError(f"{header.format} images cannot be decoded; save it in another format, such as png or avif")
    try:
        with _logs_silenced:
            pixels = decode(data, header, spec)
    except (struct_error, IndexError):
        raise _damaged(header) from None
    _check_size(pixels.shape[0], pixels.shape[1], header)
    return np.ascontiguousarray(pixels)


def _damaged(header: Header) -> DecodeError:
    side = max(header.height, header.width)
    if side > _LONGEST_SIDE:
        return DecodeError(f"the {header.format} has a side of {side:,} pixels; {_LONGEST_SIDE:,} can be decoded")
    return DecodeError(f"the {header.format} data is damaged or ends early")


def _check_size(height: int, width: int, header: Header) -> None:
    if (height, width) != (header.height, header.width):
        stated = f"{header.height} by {header.width}"
        raise DecodeError(f"the {header.format} header says {stated} pixels, the decoder gave {height} by {width}")


# --- the two decoders ------------------------------------------------------------------------------------------------


class _WhileInside(Generic[T]):
    """Changes what belongs to the process while any thread is inside.

    The first one in changes it, and the last one out puts back what the change returned.
    """

    def __init__(self, change: Callable[[], T], put_back: Callable[[T], object]) -> None:
        self._change = change
        self._put_back = put_back
        self._lock = threading.Lock()
        self._inside = 0
        self._before: T

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = self._change()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._put_back(self._before)


def _ignore_warnings() -> warnings.catch_warnings[None]:
    catching = warnings.catch_warnings()
    catching.__enter__()
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return catching


_logs_silenced = _WhileInside(
    lambda: cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT), cv2.utils.logging.setLogLevel
)
_warnings_ignored = _WhileInside(_ignore_warnings, lambda catching: catching.__exit__(None, None, None))


def _opencv(data: Data, flags: int = cv2.IMREAD_UNCHANGED) -> _Pixels | None:
    """Return what OpenCV decodes, with red first, or None where it cannot."""
    try:
        # The stubs do not say that imdecode returns None where it fails.
        pixels = cast("_Pixels | None", cv2.imdecode(np.frombuffer(data, np.uint8), flags))
    except cv2.error:
        return None
    if pixels is None:
        return None
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DecodeError(f"samples of the kind {pixels.dtype} are not images of 8 or 16 bits; convert it first")
    code = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}.get(pixels.shape[2] if pixels.ndim == 3 else 1)
    if code is not None:
        for rows in bands(pixels):  # in place: a large image would be there twice
            pixels[rows] = cv2.cvtColor(pixels[rows], code)
    return pixels


def _opencv_or_fail(data: Data, header: Header, flags: int = cv2.IMREAD_UNCHANGED) -> _Pixels:
    pixels = _opencv(data, flags)
    if pixels is None:
        raise _damaged(header)
    return pixels


def _pillow(data: Data, header: Header) -> _Pixels:
    """Return what Pillow decodes: gray, RGB or RGBA of 8 bits, or gray of 16.

    Raises:
        DecodeError: Pillow cannot decode it either, or is not installed.
    """
    try:
        from PIL import AvifImagePlugin, Jpeg2KImagePlugin, TiffImagePlugin  # noqa: PLC0415 - an extra
    except ImportError:
        reason = f"OpenCV cannot decode this {header.format}: it is damaged, or of a kind that Pillow may decode"
        raise DecodeError(f"{reason}: {_PILLOW}") from None
    plugins: dict[str, Callable[[io.BytesIO], Any]] = {
        "avif": AvifImagePlugin.AvifImageFile,
        "jp2": Jpeg2KImagePlugin.Jpeg2KImageFile,
        "tiff": TiffImagePlugin.TiffImageFile,
    }
    try:
        # The plugin itself, because Image.open would try others, and has a limit of pixels besides spec.max_pixels.
        with _warnings_ignored, plugins[header.format](io.BytesIO(data)) as image:
            _check_size(image.size[1], image.size[0], header)
            return _pillow_pixels(image)
    except DecodeError:
        raise
    except Exception as error:  # noqa: BLE001 - plugins raise whatever their parsers meet
        raise DecodeError(f"neither OpenCV nor Pillow can decode this {header.format}: {error}") from None


def _pillow_pixels(image: Any) -> _Pixels:
    mode = image.mode
    if mode in ("I", "F"):
        raise DecodeError("samples of 32 bits are not images of 8 or 16 bits; convert it first")
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if mode == "La":
        image = image.convert("LA")
    if mode in ("L", "1"):
        return np.array(image.convert("L"))  # a copy: what asarray gives cannot be written, and holds the file
    transparent = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    return np.array(image.convert("RGBA" if transparent else "RGB"))


# --- one function a format -------------------------------------------------------------------------------------------


def _plain(data: Data, header: Header, spec: ImageSpec) -> npt.NDArray[np.uint8]:
    return finish(_opencv_or_fail(data, header), spec)


_SPARE_PACKED_BYTES = 65_536
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def _png(data: Data, header: Header, spec: ImageSpec) -> npt.NDArray[np.uint8]:
    chunks = list(png_chunks(data))
    whole = [(kind, start, end) for kind, start, end in chunks if end + 4 <= len(data) and kind != b"IEND"]
    ended = chunks[-1][0] == b"IEND"
    if len(whole) + ended < len(chunks):
        raise _damaged(header)
    key = _png_gray_key(data, whole)
    _check_packed(header, data[24], data[25], sum(end - start for kind, start, end in whole if kind == b"IDAT"))
    # Of the other chunks (animation, texts, profiles) none changes the pixels, and a decoder would inflate gigabytes.
    needed = [(kind, start, end) for kind, start, end in whole if kind[:1].isupper() or kind == b"tRNS"]
    for kind, start, end in needed:
        if crc32(data[start - 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise DecodeError(f"the png is damaged: the checksum of its {kind.decode('latin-1')} chunk is wrong")
    if not (ended and chunks[-1][2] + 4 <= len(data)) or len(needed) < len(whole):
        kept = [data[start - 8 : end + 4] for _, start, end in needed]
        # With an end of its own, OpenCV refuses the file only if pixels are missing.
        data = b"".join([data[:8], *kept, _PNG_END])
    pixels = _opencv_or_fail(data, header)
    if key is None or pixels.ndim != 2:
        return finish(pixels, spec)
    opaque = np.where(pixels == key, np.uint8(0), np.uint8(255))
    return composite(finish(pixels, spec)[..., None], opaque[..., None], spec.background)


def _check_packed(header: Header, depth: int, color: int, packed: int) -> None:
    """Check that a PNG's packed pixels are no more than its size can need: a decoder would inflate them all."""
    row = 1 + header.width * {2: 3, 4: 2, 6: 4}.get(color, 1) * depth // 8
    # Packing may add a little, and interlacing more in small images.
    if packed > 2 * header.height * row + _SPARE_PACKED_BYTES:
        raise DecodeError(f"the png has {packed:,} bytes of pixels, more than {header.width} x {header.height} need")


def _png_gray_key(data: Data, chunks: list[tuple[bytes, int, int]]) -> int | None:
    """Return the level that is transparent, as OpenCV gives it (16 bits, or stretched to 8), or None."""
    depth, color = data[24], data[25]
    found = [start for kind, start, end in chunks if kind == b"tRNS" and end - start == 2]
    if color != 0 or not found:
        return None
    (level,) = unpack_from(">H", data, found[0])
    return int(level) if depth == 16 else (level & (1 << depth) - 1) * 255 // ((1 << depth) - 1)


def _avif(data: Data, header: Header, spec: ImageSpec) -> npt.NDArray[np.uint8]:
    pixels = _opencv(data)
    if pixels is None:  # OpenCV may have been built without AVIF
        return finish(_pillow(data, header), spec)
    return finish(pixels, spec, maximum=255 if pixels.dtype == np.uint8 else (1 << avif_depth(data)) - 1)


def _jp2(data: Data, header: Header, spec: ImageSpec) -> npt.NDArray[np.uint8]:
    pixels = None if jp2_is_sycc(data) else _opencv(data)
    if pixels is None:
        return finish(_pillow(data, header), spec)
    return finish(pixels, spec, maximum=(1 << min(jp2_depth(data), 16)) - 1 if pixels.dtype == np.uint16 else 255)


def _gif(data: Data, header: Header, spec: ImageSpec) -> npt.NDArray[np.uint8]:
    frame = gif_frame(data)
    flags = data[frame.at + 9]
    if not (data[10] | flags) & 0x80:
        raise DecodeError("the gif has no table of colors")
    at = frame.at + 10 + (3 << (flags & 7) + 1 if flags & 0x80 else 0) + 1
    while data[at]:  # blocks, each behind its length, up to an empty one
        at += 1 + data[at]
    # A file of this frame alone, on a screen of its own size: nothing after it is read, and nothing around it painted.
    palette = data[13 : 13 + (3 << (data[10] & 7) + 1)] if data[10] & 0x80 else b""
    screen = b"GIF89a" + pack("<HHBBB", frame.width, frame.height, data[10], 0, 0)
    place = pack("<BHHHH", 0x2C, 0, 0, frame.width, frame.height)
    alone = b"".join([screen, palette, frame.control, place, data[frame.at + 9 : at + 1], b";"])
    pixels = finish(_opencv_or_fail(alone, header), spec)
    if pixels.shape[:2] == (header.height, header.width):
        return pixels
    _check_size(pixels.shape[0], pixels.shape[1], Header("gif", frame.height, frame.width, 1, 0))
    canvas = np.empty((header.height, header.width, 3), np.uint8)
    canvas[:] = spec.background
    rows, columns = slice(frame.top, frame.top + frame.height), slice(frame.left, frame.left + frame.width)
    canvas[rows, columns] = pixels if pixels.ndim == 3 else pixels[..., None]
    return canvas


def _bmp(data: Data, header: Header, spec: ImageSpec) -> npt.NDArray[np.uint8]:
    (size,) = unpack_from("<I", data, 14)
    if size < 40:
        return finish(_opencv_or_fail(data, header, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION), spec)
    bits, compression = unpack_from("<HI", data, 28)
    if bits in (16, 32) and compression in (0, 3, 6):
        return finish(_bmp_masked(data, header, size, bits, compression), spec)
    return finish(_opencv_or_fail(data, header), spec)


def _bmp_masked(data: Data, header: Header, size: int, bits: int, compression: int) -> npt.NDArray[np.uint8]:
    """Return RGB or RGBA of a BMP whose pixels are words of 16 or 32 bits with a mask for each channel."""
    masks = [0x7C00, 0x3E0, 0x1F] if bits == 16 else [0xFF0000, 0xFF00, 0xFF]
    if compression:
        masks = list(unpack_from("<III", data, 54))
        if compression == 6 or size >= 56:
            masks += [mask for mask in unpack_from("<I", data, 66) if mask]
    (start,) = unpack_from("<I", data, 10)
    stride = (header.width * bits + 31) // 32 * 4
    if start + stride * header.height > len(data):
        raise _damaged(header)
    words = np.frombuffer(data, f"<u{bits // 8}", stride * header.height * 8 // bits, start)
    words = words.reshape(header.height, -1)[:, : header.width]
    if unpack_from("<i", data, 22)[0] > 0:
        words = words[::-1]
    pixels = np.empty((header.height, header.width, len(masks)), np.uint8)
    for channel, mask in enumerate(masks):
        shift = (mask & -mask).bit_length() - 1 if mask else 0
        maximum = mask >> shift
        if not 0 < maximum < 65_536 or maximum & (maximum + 1):
            raise DecodeError(f"the bmp has a mask of {mask:#x}, which is not 1 to 16 bits in a row")
        pixels[..., channel] = eight_bits((words >> shift & maximum).astype(np.uint16), maximum)
    return pixels


def _netpbm(data: Data, header: Header, spec: ImageSpec) -> npt.NDArray[np.uint8]:
    netpbm = netpbm_header(data)
    if netpbm.kind in (1, 4):
        head = b"P%d %d %d\n" % (netpbm.kind, netpbm.width, netpbm.height)
        return finish(_opencv_or_fail(head + data[netpbm.at :], header), spec)
    if netpbm.kind in (2, 3):
        # Stated as 16 bits, the numbers come as they are; and the last one must not end the file.
        head = b"P%d %d %d 65535\n" % (netpbm.kind, netpbm.width, netpbm.height)
        pixels = _opencv_or_fail(head + data[netpbm.at :] + b"\n", header)
        return finish(pixels, spec, maximum=netpbm.maximum)
    if netpbm.depth > 4:
        raise DecodeError(f"the netpbm image has {netpbm.depth} samples a pixel; 1 to 4 can be decoded")
    kind = np.dtype(np.uint8 if netpbm.maximum < 256 else ">u2")
    count = netpbm.height * netpbm.width * netpbm.depth
    if netpbm.at + count * kind.itemsize > len(data):
        raise _damaged(header)
    samples = np.frombuffer(data, kind, count, netpbm.at).reshape(netpbm.height, netpbm.width, netpbm.depth)
    pixels = samples.astype(kind.newbyteorder("="))  # copied, so that the result does not hold the file
    return finish(pixels, spec, maximum=netpbm.maximum)


# --- TIFF ------------------------------------------------------------------------------------------------------------


_MOST_TIFF_SAMPLES = 6
_LEAST_TILE_LIMIT = 1024 * 1024  # the tile of a small image may be larger than the image


def _tiff(data: Data, header: Header, spec: ImageSpec) -> npt.NDArray[np.uint8]:
    tags = tiff_tags(data)
    _check_strips(tags, header, len(data))
    _check_kind(tags, spec)
    bits = _tag(tags, 258, 1)
    white_is_zero = _tag(tags, 262, 1) == 0
    if header.orientation != 1:
        data = _tiff_unturned(data, tags[274])
    pixels = _opencv(data) if _opencv_is_right(tags) else None
    premultiplied = False
    if pixels is None:
        pixels = _pillow(data, header)
    elif pixels.ndim == 3 and pixels.shape[2] == 4:
        extra = _tag(tags, 338, 2)
        if _tag(tags, 262, 1) == 5 or extra == 0:
            pixels = pixels[..., :3]
        # Without the tag the samples come as they are; with it, OpenCV has multiplied those of 8 bits.
        premultiplied = 338 in tags and (bits == 8 or extra == 1)
    if pixels.dtype == np.uint16 and white_is_zero:
        pixels = 65_535 - pixels
    if 8 < bits < 16 and pixels.dtype == np.uint16:
        return finish(pixels >> (16 - bits), spec, maximum=(1 << bits) - 1)
    return finish(pixels, spec, premultiplied=premultiplied)


def _tag(tags: dict[int, TiffTag], tag: int, default: int) -> int:
    return tags[tag].values[0] if tag in tags and tags[tag].values else default


def _check_kind(tags: dict[int, TiffTag], spec: ImageSpec) -> None:
    """Check that the pixels are of a kind that is decoded rightly, and in bounded memory."""
    bits, samples = _tag(tags, 258, 1), _tag(tags, 277, 1)
    if samples > _MOST_TIFF_SAMPLES:
        raise DecodeError(f"the tiff has {samples:,} samples a pixel; 1 to {_MOST_TIFF_SAMPLES} can be decoded")
    if _tag(tags, 322, 1) * _tag(tags, 323, 1) > max(spec.max_pixels, _LEAST_TILE_LIMIT):
        raise DecodeError(f"the tiff has tiles of {_tag(tags, 322, 1)} x {_tag(tags, 323, 1)} pixels; save it again")
    if _tag(tags, 339, 1) not in (1, 4) or bits > 16:
        raise DecodeError(f"the tiff has signed, float or {bits}-bit samples; convert it to 8 or 16 bits first")
    if bits == 16 and samples > 1 and _tag(tags, 284, 1) == 2:
        raise DecodeError("the tiff has 16-bit planes apart, which are not decoded rightly; save it interleaved")


def _check_strips(tags: dict[int, TiffTag], header: Header, size: int) -> None:
    """Check that every strip or tile lies inside the file: libtiff fills what is missing without a word."""
    for offsets, lengths in ((273, 279), (324, 325)):
        if offsets in tags and lengths in tags:
            ends = map(int.__add__, tags[offsets].values, tags[lengths].values)
            if max(ends, default=0) > size:
                raise _damaged(header)


def _tiff_unturned(data: Data, orientation: TiffTag) -> bytearray:
    copy = bytearray(data)
    one = (1).to_bytes(orientation.item_bytes, "little" if copy[:1] == b"I" else "big")
    copy[orientation.at : orientation.at + orientation.item_bytes] = one
    return copy


def _opencv_is_right(tags: dict[int, TiffTag]) -> bool:
    bits, photometric, samples = _tag(tags, 258, 1), _tag(tags, 262, 1), _tag(tags, 277, 1)
    gray = photometric in (0, 1)
    if 258 in tags and len(set(tags[258].values)) > 1:
        return False
    if samples == 1:
        if gray:
            return bits in (1, 8, 10, 12, 14, 16)
        return photometric == 3 and bits in (4, 8)
    if samples == 2:
        return gray and bits == 8 and _tag(tags, 338, 0) == 0
    if bits == 8:
        return photometric in (2, 5, 6, 8)
    return bits == 16 and photometric == 2


_DECODERS: dict[str, Callable[[Data, Header, ImageSpec], npt.NDArray[np.uint8]]] = {
    "avif": _avif,
    "bmp": _bmp,
    "gif": _gif,
    "jp2": _jp2,
    "jpeg": _plain,
    "png": _png,
    "ppm": _netpbm,
    "tiff": _tiff,
    "webp": _plain,
}
