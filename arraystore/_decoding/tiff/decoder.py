"""TIFF: its header, and from its samples to pixels.

Its strips and tiles are unpacked here, because OpenCV does not say that one was damaged, and paints it black. What is
not unpacked here goes to Pillow, which says it.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._decoding.codecs import no_numbers, pillow
from arraystore._decoding.eight_bits import eight_bits, finish, from_inks
from arraystore._decoding.header import Data, Header, Pixels
from arraystore._decoding.orientation import orientation_of
from arraystore._decoding.tiff.colors import (
    DEFAULT_COEFFICIENTS,
    DEFAULT_REFERENCES,
    from_lab,
    from_luma,
    from_palette,
)
from arraystore._decoding.tiff.directory import (
    Compression,
    Directory,
    Photometric,
    Tag,
    profile_in,
    read_directory,
    xmp_in,
)
from arraystore._decoding.tiff.pieces import Form, pieces, read_form
from arraystore._decoding.tiff.pixels import can_unpack, read_samples
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

_Samples = npt.NDArray[Any]

_UNSIGNED, _UNDEFINED = 1, 4  # of SAMPLE_FORMAT
_UNSPECIFIED, _PREMULTIPLIED, _STRAIGHT_ALPHA = 0, 1, 2  # of EXTRA_SAMPLES


_MOST_SAMPLES = 6
_LEAST_TILE_LIMIT_PX = 1024 * 1024  # the tile of a small image may be larger than the image

# What Pillow decodes with libtiff, and refuses if libtiff does: JPEG as it was once, and ThunderScan.
_OF_PILLOW = frozenset((6, 32809))
# The meanings whose colors keep the bits of their samples; the others become 8 bits.
_AS_STORED = frozenset((Photometric.WHITE_IS_ZERO, Photometric.BLACK_IS_ZERO, Photometric.RGB))
# The meanings of samples that may be numbers of classes.
_NUMBERS = frozenset((Photometric.WHITE_IS_ZERO, Photometric.BLACK_IS_ZERO, Photometric.PALETTE))
_COLORS = {  # the samples that make a color, without those beside them
    Photometric.WHITE_IS_ZERO: 1,
    Photometric.BLACK_IS_ZERO: 1,
    Photometric.RGB: 3,
    Photometric.PALETTE: 1,
    Photometric.CMYK: 4,
    Photometric.YCBCR: 3,
    Photometric.CIELAB: 3,
    Photometric.ICCLAB: 3,
}


def read_header(data: Data) -> Header:
    """Return the header of a TIFF.

    Raises:
        DecodeError: the directory is damaged or cut off, or does not state the size.
    """
    directory = read_directory(data)
    height, width = directory.one(Tag.IMAGE_LENGTH, -1), directory.one(Tag.IMAGE_WIDTH, -1)
    if height < 0 or width < 0:
        raise DecodeError("the tiff does not state its size", kind=Kind.DAMAGED)
    if Tag.ORIENTATION not in directory.entries:
        return Header("tiff", height, width, orientation_of(xmp=xmp_in(data)))
    orientation = directory.one(Tag.ORIENTATION, 1)
    return Header("tiff", height, width, orientation if 1 <= orientation <= 8 else 1)


def profile(data: Data) -> bytes:
    """Return the color profile of a TIFF; empty where it has none.

    Raises:
        DecodeError: its directory is not whole.
    """
    return bytes(profile_in(data))


def decode(data: Data, header: Header, spec: ImageSpec) -> Pixels:
    """Return the pixels of a TIFF as stored, whatever its orientation.

    Raises:
        DecodeError: a strip or tile is missing, damaged or ends early, or its kind cannot be decoded.
    """
    directory = read_directory(data)
    _check_kind(directory, spec)
    form = read_form(directory)
    if can_unpack(form, directory) and form.photometric in _COLORS:
        return _finished(read_samples(form, directory, data), form, directory, spec)
    for _ in pieces(form, directory, data):
        pass  # Pillow does not say that one is missing
    return finish(pillow(_unturned(data, header, directory), header, "Tiff"), spec)


def numbers(data: Data, header: Header, spec: ImageSpec) -> _Samples:
    """Return the indices into the palette of a TIFF, or its samples of gray, reversed where white is 0: (H, W).

    Raises:
        DecodeError: it has several samples a pixel, or see `decode`.
    """
    del header
    directory = read_directory(data)
    _check_kind(directory, spec)
    form = read_form(directory)
    if form.samples != 1 or form.photometric not in _NUMBERS:
        raise no_numbers("RGB" if form.photometric == Photometric.RGB else "colors, or samples with others beside them")
    if form.compression == Compression.JPEG or not can_unpack(form, directory):
        raise no_numbers("packed in a way that may change them, or that cannot be unpacked")
    samples: _Samples = read_samples(form, directory, data)[..., 0]
    full = samples.dtype.type((1 << form.bits) - 1)
    return full - samples if form.photometric == Photometric.WHITE_IS_ZERO else samples


def _check_kind(directory: Directory, spec: ImageSpec) -> None:
    """Check that the pixels are of a kind that is decoded rightly, and in bounded memory."""
    bits, samples = directory.one(Tag.BITS_PER_SAMPLE, 1), directory.one(Tag.SAMPLES_PER_PIXEL, 1)
    if samples > _MOST_SAMPLES:
        reason = f"the tiff has {samples:,} samples a pixel; 1 to {_MOST_SAMPLES} can be decoded"
        raise DecodeError(reason, kind=Kind.UNSUPPORTED)
    tile_width, tile_height = directory.one(Tag.TILE_WIDTH, 1), directory.one(Tag.TILE_LENGTH, 1)
    if tile_width * tile_height > max(spec.max_pixels, _LEAST_TILE_LIMIT_PX):
        reason = f"the tiff has tiles of {tile_width} x {tile_height} pixels; save it again"
        raise DecodeError(reason, kind=Kind.TOO_LARGE)
    if directory.one(Tag.SAMPLE_FORMAT, _UNSIGNED) not in (_UNSIGNED, _UNDEFINED) or bits > 16:
        reason = f"the tiff has signed, float or {bits}-bit samples; convert it to 8 or 16 bits first"
        raise DecodeError(reason, kind=Kind.UNSUPPORTED)
    compression = directory.one(Tag.COMPRESSION, Compression.NONE)
    if compression not in _OF_PILLOW | {*Compression}:
        reason = f"the tiff's compression {compression} is not supported; save it again with another, such as LZW"
        raise DecodeError(reason, kind=Kind.UNSUPPORTED)


def _unturned(data: Data, header: Header, directory: Directory) -> Data:
    """Return a file without an orientation, which Pillow would apply."""
    if header.orientation == 1 or Tag.ORIENTATION not in directory.entries:
        return data
    changed, entry = bytearray(data), directory.entries[Tag.ORIENTATION]
    one = (1).to_bytes(entry.item_bytes, "little" if directory.order == "<" else "big")
    changed[entry.at : entry.at + entry.item_bytes] = one
    return changed


def _finished(samples: _Samples, form: Form, directory: Directory, spec: ImageSpec) -> Pixels:
    """Return gray or RGB of the samples (H, W, samples)."""
    count = _COLORS[Photometric(form.photometric)]
    if form.samples < count:
        reason = f"the tiff has {form.samples} samples a pixel, where its colors have {count}"
        raise DecodeError(reason, kind=Kind.DAMAGED)
    color = _in_color(samples[..., :count], form, directory)
    # None: samples of 16 bits, whose full intensity the spec may say.
    stored = None if form.bits == 16 else (1 << form.bits) - 1
    maximum = stored if form.photometric in _AS_STORED else 255
    # Of four samples without a word on the last, that is alpha, as Pillow and libtiff take it.
    unsaid = _STRAIGHT_ALPHA if form.photometric == Photometric.RGB and form.samples == 4 else _UNSPECIFIED
    extra = directory.one(Tag.EXTRA_SAMPLES, unsaid) if form.samples > count else _UNSPECIFIED
    if extra not in (_PREMULTIPLIED, _STRAIGHT_ALPHA) or form.photometric == Photometric.CMYK:
        return finish(np.ascontiguousarray(color), spec, maximum=maximum)
    if np.may_share_memory(color, samples):  # no copy: those of large images take gigabytes
        pixels = np.ascontiguousarray(samples[..., : count + 1])
    else:
        alpha = samples[..., count : count + 1]
        pixels = np.concatenate([color, alpha if maximum == stored else eight_bits(alpha, stored)], axis=-1)
    return finish(pixels, spec, maximum=maximum, premultiplied=extra == _PREMULTIPLIED)


def _in_color(color: _Samples, form: Form, directory: Directory) -> _Samples:
    """Return gray or RGB of the samples that make a color: of as many bits as these, or of 8 (see `_AS_STORED`)."""
    full = (1 << form.bits) - 1
    if form.photometric == Photometric.PALETTE:
        return _of_palette(color[..., 0], form, directory)
    if form.photometric == Photometric.CMYK:
        return from_inks(eight_bits(color, full))
    if form.photometric == Photometric.WHITE_IS_ZERO:
        return full - color
    if form.photometric == Photometric.YCBCR and form.compression != Compression.JPEG:
        coefficients = directory.fractions(Tag.YCBCR_COEFFICIENTS, DEFAULT_COEFFICIENTS)
        references = directory.fractions(Tag.REFERENCE_BLACK_WHITE, DEFAULT_REFERENCES)
        return from_luma(color, coefficients, references)
    if form.photometric in (Photometric.CIELAB, Photometric.ICCLAB):
        if form.bits not in (8, 16):
            raise DecodeError(f"the tiff is CIELab of {form.bits} bits; save it again in RGB", kind=Kind.UNSUPPORTED)
        return from_lab(color, form.bits, signed=form.photometric == Photometric.CIELAB)
    return color


def _of_palette(indices: _Samples, form: Form, directory: Directory) -> Pixels:
    color_map = directory.all(Tag.COLOR_MAP)
    if form.bits > 8 or len(color_map) != 3 << form.bits:
        reason = f"the tiff has a palette of {len(color_map):,} numbers, where {form.bits} bits need {3 << form.bits:,}"
        raise DecodeError(reason, kind=Kind.DAMAGED)
    return from_palette(indices, color_map)
