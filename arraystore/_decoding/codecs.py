"""The two decoders of every image that is not a plain JPEG: OpenCV, and Pillow where OpenCV is wrong.

Pillow is an extra, `formats`. Both were compared on every mode that Pillow can write and on files made by hand, with
OpenCV 5.0 and Pillow 13. These are the faults that were found, and how the modules of the formats avoid them:

| format | trap | here |
|---|---|---|
| all | OpenCV logs the faults of a file to stderr | silenced for the call; the reason is in the error |
| JPEG | CMYK and YCCK, with Adobe's marker or not, are within one level of Pillow's | OpenCV |
| PNG | without IEND: OpenCV refuses; Pillow accepts, even where pixels lack | IEND added if all pixels are there |
| PNG | a transparent level of gray (tRNS) is ignored | compared and composited here |
| PNG | animated: OpenCV gives the animation's first frame, not the image itself | the animation is taken out |
| PNG | packed texts and profiles may be gigabytes | chunks that do not change the pixels are taken out |
| WebP | EXIF behind JPEG's prefix is ignored | the orientation is read here, never by a decoder |
| AVIF | rotation and mirroring are ignored | the orientation is read here, never by a decoder |
| AVIF | 10 and 12 bits come unscaled in 16 | scaled by the depth that the file states |
| GIF | a damaged later frame, or one beyond the screen, fails the first | the first frame is decoded alone |
| GIF | the part that no frame covers gets some color | it is background, as in browsers |
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
from importlib import import_module
from struct import error as struct_error
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._decoding.eight_bits import bands, finish
from arraystore._decoding.header import Data, Header, Pixels, codec_of
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    import cv2
else:
    cv2 = lazy("cv2")

T = TypeVar("T")

_Samples = npt.NDArray[Any]
_LONGEST_SIDE_PX = 1_000_000  # libpng's limit; OpenCV's is a little more


def decode_any(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the pixels of an image as it is stored, not yet turned upright.

    Args:
        data: the whole file.
        header: its header, from `arraystore._decoding.header.read_header`; the caller has compared its size with
            ``spec.max_pixels``.
        spec: its ``background`` lies behind transparent pixels.

    Returns:
        C-contiguous uint8, owned by the caller: (H, W, 3) red, green, blue, or (H, W) of a gray image.

    Raises:
        DecodeError: the data is damaged or ends early, its kind cannot be decoded, or the decoder gave another size
            than the header says.
    """
    try:
        with _logs_silenced:
            pixels = codec_of(data).decode(data, header, spec)
    except (struct_error, IndexError):
        raise damaged(header) from None
    check_size(pixels, header)
    return np.ascontiguousarray(pixels)


def decode_plain(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the pixels of a format that OpenCV decodes rightly."""
    return finish(opencv_or_fail(data, header), spec)


def damaged(header: Header) -> DecodeError:
    """Return the error for an image that its decoder refuses without a reason."""
    side = max(header.height, header.width)
    if side > _LONGEST_SIDE_PX:
        reason = f"the {header.format} has a side of {side:,} pixels; {_LONGEST_SIDE_PX:,} can be decoded"
        return DecodeError(reason, kind=Kind.TOO_LARGE)
    return DecodeError(f"the {header.format} data is damaged or ends early", kind=Kind.DAMAGED)


def check_size(pixels: _Samples, header: Header) -> None:
    """Check that an image has the size that its header states."""
    _check_size(pixels.shape[0], pixels.shape[1], header)


def _check_size(height: int, width: int, header: Header) -> None:
    if (height, width) != (header.height, header.width):
        stated = f"{header.height} by {header.width}"
        reason = f"the {header.format} header says {stated} pixels, the decoder gave {height} by {width}"
        raise DecodeError(reason, kind=Kind.DAMAGED)


class _WhileInside(Generic[T]):
    """Changes a setting of the whole process while any thread is inside.

    The first thread that enters makes the change, and the last one that leaves puts the former setting back.
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


def _set_log_level(level: int) -> int:
    return cv2.utils.logging.setLogLevel(level)


_LOG_SILENT = 0  # cv2.utils.logging.LOG_LEVEL_SILENT, which cannot be named before cv2 is imported
_logs_silenced = _WhileInside(lambda: _set_log_level(_LOG_SILENT), _set_log_level)
_warnings_ignored = _WhileInside(_ignore_warnings, lambda catching: catching.__exit__(None, None, None))


def opencv(data: Data, flags: int | None = None) -> _Samples | None:
    """Return the samples that OpenCV decodes, unscaled and with red first, or None where it cannot decode them.

    Args:
        data: the whole file.
        flags: of ``cv2.imdecode``; None is ``IMREAD_UNCHANGED``.

    Raises:
        DecodeError: the samples have other types than uint8 and uint16.
    """
    flags = cv2.IMREAD_UNCHANGED if flags is None else flags
    try:
        # The stubs do not say that imdecode returns None where it fails.
        pixels = cast("_Samples | None", cv2.imdecode(np.frombuffer(data, np.uint8), flags))
    except cv2.error:
        return None
    if pixels is None:
        return None
    if pixels.dtype not in (np.uint8, np.uint16):
        reason = f"samples of the kind {pixels.dtype} are not images of 8 or 16 bits; convert it first"
        raise DecodeError(reason, kind=Kind.UNSUPPORTED)
    code = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}.get(pixels.shape[2] if pixels.ndim == 3 else 1)
    if code is not None:
        for rows in bands(pixels):  # in place, because a second copy of a large image takes gigabytes
            pixels[rows] = cv2.cvtColor(pixels[rows], code)
    return pixels


def opencv_or_fail(data: Data, header: Header, flags: int | None = None) -> _Samples:
    """Return the samples that OpenCV decodes; see `opencv`.

    Raises:
        DecodeError: it cannot decode them.
    """
    pixels = opencv(data, flags)
    if pixels is None:
        raise damaged(header)
    return pixels


def pillow(data: Data, header: Header, plugin: str) -> _Samples:
    """Return the samples that Pillow decodes: gray, RGB or RGBA of 8 bits, or gray of 16.

    Args:
        data: the whole file.
        header: its header.
        plugin: the plugin of its format, such as ``"Tiff"``. It is called directly, because ``Image.open`` would try
            others too, and has a limit of pixels besides ``spec.max_pixels``.

    Raises:
        DecodeError: Pillow cannot decode it either, or is not installed.
    """
    try:
        open_image: Callable[[io.BytesIO], Any] = getattr(
            import_module(f"PIL.{plugin}ImagePlugin"), f"{plugin}ImageFile"
        )
    except ImportError:
        raise DecodeError(
            f"OpenCV cannot decode this {header.format}: it is damaged, or of a kind that Pillow may decode",
            kind=Kind.UNSUPPORTED,
            advice="pip install 'arraystore[formats]'",
        ) from None
    try:
        with _warnings_ignored, open_image(io.BytesIO(data)) as image:
            _check_size(image.size[1], image.size[0], header)
            return _pillow_samples(image)
    except DecodeError:
        raise
    except Exception as error:  # plugins raise errors of any class
        reason = f"neither OpenCV nor Pillow can decode this {header.format}: {error}"
        raise DecodeError(reason, kind=Kind.DAMAGED) from error


def _pillow_samples(image: Any) -> _Samples:
    mode = image.mode
    if mode in ("I", "F"):
        reason = "samples of 32 bits are not images of 8 or 16 bits; convert it first"
        raise DecodeError(reason, kind=Kind.UNSUPPORTED)
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if mode == "La":
        image = image.convert("LA")
    if mode in ("L", "1"):
        return np.array(image.convert("L"))  # a copy: the result of asarray is read-only, and holds the file
    transparent = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    return np.array(image.convert("RGBA" if transparent else "RGB"))
