"""The two libraries that decode most formats beside JPEG: OpenCV, and Pillow where OpenCV is wrong.

Pillow is an extra, `formats`. Both were compared on every mode that Pillow can write and on files made by hand, with
OpenCV 5.0 and Pillow 13. The modules of the formats avoid the faults that were found, and say them there. No decoder
applies an orientation: the headers state it.
"""

import io
import threading
import warnings
from collections.abc import Callable
from importlib import import_module
from struct import error as struct_error
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from arraystore._common.lazy import lazy
from arraystore._decoding.eight_bits import bands
from arraystore._decoding.header import Data, Header, Pixels, codec_of
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    import cv2
else:
    cv2 = lazy("cv2")

_Samples = npt.NDArray[Any]
LONGEST_SIDE_PX = 1_000_000  # libpng's limit; OpenCV's is a little more


def decode_any(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the pixels of an image as it is stored, not yet turned upright.

    They are C-contiguous uint8, owned by the caller: (H, W, 3) red, green, blue, or (H, W) of a gray image. The caller
    has compared the header's size with ``spec.max_pixels``.

    Raises:
        DecodeError: the data is damaged or ends early, its kind cannot be decoded, or the decoder gave another size
            than the header says.
    """
    try:
        with _logs_silenced:
            pixels: Pixels = codec_of(data).decode(data, header, spec)
    except (struct_error, IndexError):
        raise damaged(header) from None
    check_size(pixels.shape[:2], header)
    return np.ascontiguousarray(pixels)


def damaged(header: Header) -> DecodeError:
    """Return the error for an image that its decoder refuses without a reason."""
    side = max(header.height, header.width)
    if side > LONGEST_SIDE_PX:
        reason = f"the {header.format} has a side of {side:,} pixels; {LONGEST_SIDE_PX:,} can be decoded"
        return DecodeError(reason, kind=Kind.TOO_LARGE)
    return DecodeError(f"the {header.format} data is damaged or ends early", kind=Kind.DAMAGED)


def no_numbers(what: str) -> DecodeError:
    """Return the error for a mask of a kind whose pixels are no numbers of classes."""
    return DecodeError(
        f"its pixels are {what}, not numbers of classes",
        kind=Kind.UNSUPPORTED,
        advice="save masks with one number a pixel: a PNG with a palette (mode P) or in gray (mode L)",
    )


def numbers_of(data: Data, header: Header, spec: ImageSpec) -> _Samples:
    """Return the numbers that lie in a file with one a pixel, as it is stored: uint8 or uint16, (H, W).

    They are indices into the palette, or samples of gray, neither scaled nor replaced by colors.

    Raises:
        DecodeError: the format has none, the file has colors or alpha, or see `decode_any`.
    """
    read = getattr(codec_of(data), "numbers", None)
    if read is None:
        raise no_numbers(f"those of a {header.format}, which may be changed by its compression")
    try:
        with _logs_silenced:
            samples: _Samples = read(data, header, spec)
    except (struct_error, IndexError):
        raise damaged(header) from None
    check_size(samples.shape, header)
    return samples


def check_size(shape: tuple[int, ...], header: Header) -> None:
    """Check that an image has the height and width that its header states.

    Raises:
        DecodeError: it has not.
    """
    if shape != (header.height, header.width):
        stated = f"{header.height} by {header.width}"
        reason = f"the {header.format} header says {stated} pixels, the decoder gave {shape[0]} by {shape[1]}"
        raise DecodeError(reason, kind=Kind.DAMAGED)


class _WhileInside:
    """Changes a setting of the whole process while any thread is inside.

    The first thread that enters makes the change, and the last one that leaves puts the former setting back.
    """

    def __init__(self, change: Callable[[], Any], put_back: Callable[[Any], object]) -> None:
        self._change = change
        self._put_back = put_back
        self._lock = threading.Lock()
        self._inside = 0
        self._before: Any

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


def _ignore_warnings() -> Any:
    catching = warnings.catch_warnings()
    catching.__enter__()
    warnings.filterwarnings("ignore", module=r"PIL\.")
    return catching


def _log_from(level: int = 0) -> int:  # 0: LOG_LEVEL_SILENT, which cannot be named before cv2 is imported
    return cv2.utils.logging.setLogLevel(level)


_logs_silenced = _WhileInside(_log_from, _log_from)  # OpenCV would log the faults of a file; the error says them
warnings_ignored = _WhileInside(_ignore_warnings, lambda catching: catching.__exit__(None, None, None))


def opencv(data: Data, *, in_color: bool = False) -> _Samples | None:
    """Return the samples that OpenCV decodes, unscaled and with red first, or None where it cannot decode them.

    Raises:
        DecodeError: the samples have other types than uint8 and uint16.
    """
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION if in_color else cv2.IMREAD_UNCHANGED
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


def opencv_or_fail(data: Data, header: Header, *, in_color: bool = False) -> _Samples:
    """Return the samples that OpenCV decodes; see `opencv`.

    Raises:
        DecodeError: it cannot decode them.
    """
    pixels = opencv(data, in_color=in_color)
    if pixels is None:
        raise damaged(header)
    return pixels


def pillow(data: Data, header: Header, plugin: str) -> _Samples:
    """Return the samples that Pillow decodes: gray, RGB or RGBA of 8 bits, or gray of 16.

    The plugin, such as ``"Tiff"``, is called directly, because ``Image.open`` would try others too, and has a limit of
    pixels besides ``spec.max_pixels``.

    Raises:
        DecodeError: Pillow cannot decode it either, or is not installed.
    """
    try:
        module = import_module(f"PIL.{plugin}ImagePlugin")
    except ImportError:
        raise DecodeError(
            f"OpenCV cannot decode this {header.format}: it is damaged, or of a kind that Pillow may decode",
            kind=Kind.UNSUPPORTED,
            advice="pip install 'arraystore[formats]'",
        ) from None
    try:
        with warnings_ignored, getattr(module, f"{plugin}ImageFile")(io.BytesIO(data)) as image:
            check_size(image.size[::-1], header)
            return pillow_samples(image)
    except DecodeError:
        raise
    except Exception as error:  # plugins raise errors of any class
        reason = f"neither OpenCV nor Pillow can decode this {header.format}: {error}"
        raise DecodeError(reason, kind=Kind.DAMAGED) from error


def pillow_samples(image: Any) -> _Samples:
    """Return the samples of an image of Pillow; see `pillow`.

    Raises:
        DecodeError: they are no samples of 8 or 16 bits.
    """
    mode = image.mode
    if mode in ("I", "F"):
        raise DecodeError("samples of 32 bits are not images of 8 or 16 bits; convert it first", kind=Kind.UNSUPPORTED)
    if mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if mode == "La":
        image = image.convert("LA")
    if mode in ("L", "1"):
        return np.array(image.convert("L"))  # a copy: the result of asarray is read-only, and holds the file
    transparent = mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    return np.array(image.convert("RGBA" if transparent else "RGB"))
