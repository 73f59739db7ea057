"""Every variant that the suites of Pillow and OpenCV name: the pixels are Pillow's, or it is said why not.

`DIFFERENT` is the whole list of what is not as Pillow has it. What is in it differs, and what is not in it does not.
HEIF has tests of its own, because Pillow has it from the same decoder.
"""

from __future__ import annotations

import io
import re
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image, ImageOps
from support.variants import avifs, bmps, gifs, jpeg2000s, jpegs, netpbms, pngs, tiff_files, webps
from support.variants.common import BACKGROUND, Pixels

from arraystore import DecodeError, ImageSpec
from arraystore._decoding.decode import decode_into
from arraystore._decoding.header import read_header

FORMATS = {
    "AVIF": avifs,
    "BMP": bmps,
    "GIF": gifs,
    "JPEG": jpegs,
    "JPEG 2000": jpeg2000s,
    "netpbm": netpbms,
    "PNG": pngs,
    "TIFF": tiff_files,
    "WebP": webps,
}
LEAST_VARIANTS = 80
PILLOW_REFUSES, REFUSED_HERE = "Pillow refuses", "refused here"


class Different(NamedTuple):
    """Variants that are not as Pillow has them."""

    names: str  # a regular expression, of whole names
    how: int | str  # the largest difference of a level, or who refuses them
    why: str


ROUNDED = "Pillow cuts samples of 16 bits off to 8, here they are rounded to the nearest"
NO_PLANES = "Pillow does not read planes apart in this mode"
NO_MASKS = "Pillow knows some masks of colors, here any are read"
ALPHA_NOWHERE = "no pixel has any alpha, so the writer forgot it; Pillow's pixels are all transparent"
DIFFERENT: dict[str, list[Different]] = {
    "AVIF": [],
    "BMP": [
        Different("rgb16.*(?<!231)", 1, "Pillow rounds five bits down, here they are rounded to the nearest"),
        Different("rgb16-231|rgb32bf|rgb32bf-xbgr|rgb32-111110|rgba16-(4444|1924)", PILLOW_REFUSES, NO_MASKS),
        Different("rgba32abf", PILLOW_REFUSES, "Pillow does not know compression 6"),
        Different("rgba16-5551", 255, "Pillow does not read the alpha of 16 bits"),
        Different("rgb.*32.* without alpha anywhere", 255, ALPHA_NOWHERE),
        Different("pal[48]rle literal 13 filled to 16", 255, "Pillow shifts what follows pixels that are too many"),
        Different("pal2", PILLOW_REFUSES, "Pillow does not know two bits a pixel"),
        Different("pal8os2v2-16", PILLOW_REFUSES, "Pillow does not know headers of 16 bytes"),
        Different("pal8oversizepal", PILLOW_REFUSES, "colors that no index can name are no fault"),
    ],
    "GIF": [
        Different(
            "a part of the screen|a frame beyond the screen", 255, "what no frame covers is the background asked for"
        ),
        Different("no palette", REFUSED_HERE, "nothing says what the colors are; Pillow guesses levels of gray"),
        Different("loops of no number", PILLOW_REFUSES, "what follows the frame does not matter to it"),
    ],
    "JPEG": [Different("a lone TEM", PILLOW_REFUSES, "libjpeg passes over this marker, as over restarts")],
    "JPEG 2000": [
        Different("[1247]bit", 255, "Pillow moves few bits up, so that the largest sample is not white"),
        Different("9bit|10bit", 1, "Pillow moves 9 to 15 bits up to 16, so that the largest is a little below white"),
        Different("channels in reverse", 255, "Pillow ignores the box that says which channel has which color"),
    ],
    "netpbm": [
        Different("P[2356] up to 100", 1, "Pillow rounds halves to even"),
        Different("P7 .*", PILLOW_REFUSES, "Pillow does not know PAM"),
        Different("comments directly behind the kind", PILLOW_REFUSES, "Pillow wants white space first"),
    ],
    "PNG": [
        Different("(bas|oi|bgb|cs|pp|ps).*(2c16|4a16|6a16)", 2, ROUNDED),
        Different("tb[ni]0g0[24] transparent", 255, "Pillow compares the transparent level with others of 8 bits"),
        Different("tb[ni](0g|2c)16 transparent", 255, "Pillow cuts samples off before it compares them"),
        Different("a profile of unknown packing", PILLOW_REFUSES, "the profile is not needed"),
    ],
    "TIFF": [
        Different("gray 8IR.*|gray 16R MM", PILLOW_REFUSES, "Pillow does not know every reversed order of bits"),
        Different("pattern_1[024]uc.*(?<!12uc1)", PILLOW_REFUSES, "Pillow knows 12 bits, of one sample, and no others"),
        Different("pattern_12uc1", 255, "Pillow leaves 12 bits in 16 as they are, so that white is nearly black"),
        Different("pattern_16uc1, white is zero", 255, "Pillow does not invert 16 bits"),
        Different("16 bits of [34], planar 1, .*", 2, ROUNDED),
        Different("pattern_16uc[34]", 2, ROUNDED),
        Different("16 bits of [34], planar 2, .*", 255, "Pillow reads unpacked planes of 16 bits as if of 8"),
        Different(
            "gray and a sample unsaid", PILLOW_REFUSES, "Pillow does not know it; the color is there all the same"
        ),
        Different("RGBa, planar 1", 1, "Pillow divides by alpha, rounds, and multiplies again"),
        Different("(RGBX|RGBa|RGBXX|RGBAXX?|LX|LA|CMYKXX?), planar 2", PILLOW_REFUSES, NO_PLANES),
        Different("mode YCbCr, .*", 1, "Pillow's conversion has other tables than libtiff's, which counts here"),
        Different(
            "mode LAB, .*", 12, "Pillow's conversion interpolates in a grid (test_tiff.py compares with the exact one)"
        ),
    ],
    "WebP": [],
}
# OpenCV has no way to keep libpng quiet, and whether pixels follow the last row is known when they are unpacked.
SAID = {"PNG": "libpng warning: IDAT: Too much image data\n"}


def over(pixels: Pixels) -> Pixels:
    """Gray, RGB or RGBA as RGB over the background."""
    if pixels.ndim == 2:
        return np.dstack([pixels] * 3).astype(float)
    color, alpha = pixels[..., :3].astype(float), pixels[..., 3:].astype(float)
    return (
        color if pixels.shape[2] == 3 else np.floor((color * alpha + np.array(BACKGROUND) * (255 - alpha)) / 255 + 0.5)
    )


def by_pillow(data: bytes) -> Pixels | None:
    """The upright pixels, or None where Pillow refuses the file."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):
                return over(np.round(np.asarray(upright) / 257))
            return over(np.asarray(upright.convert("RGBA")))
    except (OSError, ValueError, SyntaxError, RuntimeError):  # SyntaxError is what its plugins raise
        return None


def stored(data: bytes) -> Pixels | None:
    """The slot at the size of the upright image, or None where the file is refused."""
    try:
        height, width = read_header(data).upright
        spec = ImageSpec(size=(min(height, 999), min(width, 999)), layout="NHWC", exact=True, background=BACKGROUND)
        slot = np.empty(spec.slot_shape, np.uint8)
        assert decode_into(data, slot, spec)[:2] == (height, width)
    except DecodeError as error:
        assert error.reason
        assert error.kind
        return None
    return slot


def difference(pixels: Pixels | None, wanted: Pixels | None) -> int | str:
    if pixels is None:
        return REFUSED_HERE
    if wanted is None:
        return PILLOW_REFUSES
    assert pixels.shape == wanted.shape
    return int(np.abs(pixels - wanted).max())


def as_listed(found: int | str, entry: Different) -> bool:
    return 0 < found <= entry.how if isinstance(found, int) and isinstance(entry.how, int) else found == entry.how


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_every_variant_is_as_pillow_has_it_or_is_listed(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    files = FORMATS[form].files()
    assert len(files) > LEAST_VARIANTS
    pixels = {name: stored(file.data) for name, file in files.items()}
    assert capfd.readouterr().err == SAID.get(form, "")
    wrong, listed = {}, set()
    for name, file in files.items():
        found = difference(pixels[name], by_pillow(file.data))
        entries = [entry for entry in DIFFERENT[form] if re.fullmatch(entry.names, name)]
        listed |= {*entries}
        if len(entries) > 1 or (not as_listed(found, entries[0]) if entries else found != 0):
            wrong[name] = found, entries
        if file.wanted is not None and difference(pixels[name], over(file.wanted)) != 0:
            wrong[name] = difference(pixels[name], over(file.wanted)), "from what is known to be right"
    assert wrong == {}
    assert [entry for entry in DIFFERENT[form] if entry not in listed] == []


@pytest.mark.parametrize("form", FORMATS)
def test_damaged_variants_are_refused(form: str) -> None:
    assert [name for name, data in FORMATS[form].damaged().items() if stored(data) is not None] == []
