"""JPEG: colors, layouts of chroma, kinds of frame and what stands in the header, as the suites have them."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
from PIL import Image

from support import images
from support.coded_jpeg import any_frame, layout_jpeg, lossless_jpeg, segment
from support.variants.common import PICTURE, RGB, File, modes

_APP0, _APP1, _APP2, _APP13, _APP14, _COMMENT, _RESTART = 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE, 0xDD
_JFIF = segment(_APP0, b"JFIF\0\1\1\0\0\1\0\1\0\0")


def saved(picture: Image.Image = PICTURE, **options: Any) -> bytes:
    return images.encode(picture, "JPEG", **{"quality": 90} | options)


def _by_opencv(*options: int) -> bytes:
    done, data = cv2.imencode(".jpg", RGB[..., ::-1], options)
    assert done
    return data.tobytes()


def _with(*segments: bytes, data: bytes | None = None) -> bytes:
    """A JPEG with segments, or stray bytes, behind its start."""
    data = saved() if data is None else data
    return data[:2] + b"".join(segments) + data[2:]


def _without(marker: int, data: bytes) -> bytes:
    at = data.index(bytes([0xFF, marker]))
    (size,) = struct.unpack_from(">H", data, at + 2)
    return data[:at] + data[at + 2 + size :]


def _adobe(transform: int) -> bytes:
    return segment(_APP14, b"Adobe" + struct.pack(">HHHB", 100, 0, 0, transform))


def files() -> dict[str, File]:
    """Every variant by its name."""
    made = _colors() | _encoders() | _headers() | _strays() | _ends()
    return {name: File(data) for name, data in made.items()}


def _colors() -> dict[str, bytes]:
    made = {}
    for mode, picture in modes("1", "L", "RGB", "CMYK", "YCbCr").items():
        for way, options in {
            "baseline": {},
            "progressive": {"progressive": True},
            "optimized": {"optimize": True},
        }.items():
            made[f"{mode}, {way}"] = saved(picture, **options)
        made[f"{mode}, restarts"] = saved(picture, restart_marker_blocks=1)
    made["RGB kept"] = saved(keep_rgb=True)
    made["RGB kept, progressive"] = saved(keep_rgb=True, progressive=True)
    color, inks = saved(), saved(modes("CMYK")["CMYK"])
    bare = _without(_APP0, color)
    made |= {f"three components and Adobe's {number}": _with(_adobe(number), data=bare) for number in (0, 1, 2, 7)}
    plain = _without(_APP14, inks)
    made |= {f"four components and Adobe's {number}": _with(_adobe(number), data=plain) for number in (0, 1, 2, 7)}
    made |= {"four components and nobody's word": plain, "three components and nobody's word": bare}
    made["JFIF and Adobe"] = _with(_JFIF, _adobe(0), data=bare)
    made["numbers of components are letters"] = _lettered(bare, b"RGB")
    made["numbers of components from 0"] = _lettered(bare, bytes(range(3)))
    made["numbers of components of BG_YCC"] = _lettered(bare, bytes([0x01, 0x22, 0x23]))
    return made


def _lettered(data: bytes, letters: bytes) -> bytes:
    """The same file with other numbers for its components, in its frame and in its scan."""
    changed = bytearray(data)
    frame, scan = data.index(b"\xff\xc0") + 10, data.index(b"\xff\xda") + 5
    for number, letter in enumerate(letters):
        changed[frame + 3 * number] = changed[scan + 2 * number] = letter
    return bytes(changed)


def _encoders() -> dict[str, bytes]:
    made = {f"quality {quality}": saved(quality=quality) for quality in (1, 10, 75, 100)}
    made |= {f"subsampling {name}": saved(subsampling=name) for name in ("4:4:4", "4:2:2", "4:2:0")}
    made["subsampling 4:1:1"] = layout_jpeg([(4, 1), (1, 1), (1, 1)])
    made["subsampling 4:4:0"] = layout_jpeg([(1, 2), (1, 1), (1, 1)])
    made["subsampling 4:4:1"] = layout_jpeg([(1, 4), (1, 1), (1, 1)])
    made["gray of 2x2 blocks"] = layout_jpeg([(2, 2)])
    made["components apart"] = layout_jpeg([(2, 2), (1, 1), (1, 1)], apart=True)
    made["tables of 16 bits"] = saved(qtables=[[300] * 64, [400] * 64])
    made["four tables"] = saved(modes("CMYK")["CMYK"], qtables=[[number] * 64 for number in range(3, 7)])
    made |= {f"restarts of {count} rows": saved(restart_marker_rows=count) for count in (1, 2)}
    made |= {f"restarts of {count} blocks": saved(restart_marker_blocks=count) for count in (2, 5)}
    made["smoothed"] = saved(smooth=50)
    for name, factor in {
        "411": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411,
        "420": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
        "422": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
        "440": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440,
        "444": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    }.items():
        made[f"OpenCV, {name}"] = _by_opencv(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factor)
    made["OpenCV, qualities apart"] = _by_opencv(cv2.IMWRITE_JPEG_LUMA_QUALITY, 95, cv2.IMWRITE_JPEG_CHROMA_QUALITY, 30)
    for sides in ((1, 1), (1, 50), (50, 1), (7, 9), (8, 8), (16, 17), (33, 31)):
        for subsampling in ("4:4:4", "4:2:0"):
            picture = Image.fromarray(images.photo(*sides))
            made[f"{sides[0]} by {sides[1]}, {subsampling}"] = saved(picture, subsampling=subsampling)
    made |= {f"arithmetic codes of {count}": any_frame(0xC9, 24, 40, count) for count in (1, 3, 4)}
    made |= {f"arithmetic codes of {count}, progressive": any_frame(0xCA, 64, 80, count) for count in (1, 3, 4)}
    made |= {f"lossless of {count}": lossless_jpeg(24, 40, count) for count in (1, 3)}
    return made


def _headers() -> dict[str, bytes]:
    profile = b"ICC_PROFILE\0"
    exif = b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"
    empty_gps = b"Exif\0\0MM\0*\0\0\0\x08\0\1\x88\x25\0\4\0\0\0\1\0\0\0\x1a\0\0\0\0\0\0"
    icc = [segment(_APP2, profile + bytes([part, 3]) + b"x" * 60_000) for part in (1, 2, 3)]
    whole = saved()
    frame, scan = whole.index(b"\xff\xc0"), whole.index(b"\xff\xda")
    after_frame = frame + 2 + struct.unpack_from(">H", whole, frame + 2)[0]
    return {
        "app13": _with(segment(_APP13, b"Photoshop 3.0\x008BIM")),
        "app13-multiple": _with(*[segment(_APP13, b"Photoshop 3.0\x008BIM\4\4\0\0\0\0\0\0")] * 3),
        "a comment": _with(segment(_COMMENT, b"by nobody")),
        "a comment of nothing": _with(segment(_COMMENT, b"")),
        "several comments": _with(*[segment(_COMMENT, b"by nobody")] * 3),
        "icc_profile": _with(segment(_APP2, profile + b"\1\1abc")),
        "icc_profile_big": _with(*icc),
        "icc in another order": _with(*icc[::-1]),
        "icc with a part missing": _with(icc[0], icc[2]),
        "icc with a part twice": _with(icc[0], *icc),
        "icc-after-SOF": whole[:after_frame] + segment(_APP2, profile + b"\1\1abc") + whole[after_frame:],
        "invalid-exif": _with(segment(_APP1, b"Exif\0\0" + bytes(9))),
        "truncated exif": _with(segment(_APP1, exif[:-3])),
        "multiple_exif": _with(segment(_APP1, exif), segment(_APP1, exif)),
        "empty_gps_ifd": _with(segment(_APP1, empty_gps)),
        "xmp_no_prefix": _with(segment(_APP1, b"<x:xmpmeta/>")),
        "xmp_padded": _with(segment(_APP1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>" + bytes(40))),
        "truncated_app14": _with(segment(_APP14, b"Adobe\0\x64")),
        "long app14": _with(segment(_APP14, b"Adobe" + bytes(30))),
        "no JFIF": _without(_APP0, whole),
        "JFIF behind EXIF": _with(segment(_APP1, exif)),
        "jfif_unit_cm": saved(dpi=(100, 100)),
        "short JFIF": _with(segment(_APP0, b"JFIF\0\1\1"), data=_without(_APP0, whole)),
        "a thumbnail in JFIF": _with(segment(_APP0, b"JFXX\0\x13" + bytes(50))),
        "other segments": _with(*(segment(0xE0 + number, b"of some program") for number in range(3, 16))),
        "a restart interval of 0": _with(segment(_RESTART, b"\0\0")),
        "the codes of a film": whole[:scan].replace(b"\xff\xc4", b"\xff\xe9") + whole[scan:],  # which leaves them out
        "a table twice": _with(segment(0xDB, b"\0" + bytes([1] * 64))),
    }


def _strays() -> dict[str, bytes]:
    """Bytes between segments, of which libjpeg warns, and markers without a length."""
    whole = saved()
    table = whole.index(b"\xff\xdb")
    strays = {
        "junk_jpeg_header": b"junk",
        "jpeg_ff00_header": b"\0\xff\0\0",
        "fill bytes": b"\xff\xff\xff",
        "strays and fill bytes": b"junk\xff\xff",
        "strays around an empty comment": b"\xff\0junk" + segment(_COMMENT, b"") + b"\xff\0",
        "a lone restart": b"\xff\xd3",
        "strays and lone restarts": b"junk\xff\xd0junk\xff\xd7",
        "a lone TEM": b"\xff\x01",
    }
    made = {name: whole[:table] + stray + whole[table:] for name, stray in strays.items()}
    made["zeros in front of each table"] = whole.replace(b"\xff\xdb", b"\0\xff\xdb").replace(b"\xff\xc4", b"\0\xff\xc4")
    return made


def _ends() -> dict[str, bytes]:
    whole = saved()
    second = images.encode(PICTURE.rotate(180), "JPEG")
    with io.BytesIO() as file:
        PICTURE.save(file, "MPO", save_all=True, append_images=[PICTURE.rotate(180)])
        pair = file.getvalue()
    return {
        "bytes behind the end": whole + b"and more",
        "two ends": whole + b"\xff\xd9",
        "another image behind": whole + second,
        "zeros behind the end": whole + bytes(4096),
        "MPO of two images": pair,
        "an image and a map of gain": whole
        + second[:2]
        + segment(_APP1, b"http://ns.adobe.com/xap/1.0/\0")
        + second[2:],
    }


def damaged() -> dict[str, bytes]:
    """What is no JPEG that any decoder has, or not all of one."""
    whole = saved()
    scan = whole.index(b"\xff\xda")
    return {
        "cut in half": whole[: len(whole) // 2],
        "cut in the header": whole[: scan - 9],
        "two components": any_frame(0xC0, 24, 40, 2),
        "five components": any_frame(0xC0, 24, 40, 5),
        "hierarchical": any_frame(0xC5, 24, 40, 3),
        "lossless with arithmetic codes": any_frame(0xCB, 24, 40, 3),
        "no rows": whole.replace(struct.pack(">HH", *RGB.shape[:2]), struct.pack(">HH", 0, RGB.shape[1])),
        "tables alone": whole[:scan] + b"\xff\xd9",
        "two starts": _with(b"\xff\xd8"),
        "an unknown marker": _with(b"\xff\xf7\0\4ab"),
        "no quantization": _without(0xDB, _without(0xDB, whole)),
    }
