"""AVIF: each subsampling, range, depth and turn, alpha, metadata, and sequences. HEIF has tests of its own."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from PIL import Image

from support import images
from support.variants.common import DEEP, GRAY, PICTURE, RGB, RGBA, File, modes

_XMP = '<x:xmpmeta><rdf:RDF><rdf:Description tiff:Orientation="{}"/></rdf:RDF></x:xmpmeta>'
ORIENTATION = 274


def saved(picture: Image.Image = PICTURE, **options: Any) -> bytes:
    return images.encode(picture, "AVIF", speed=10, **options)


def exif(turn: int) -> Image.Exif:
    made = Image.Exif()
    made[ORIENTATION] = turn
    return made


def xmp(turn: int) -> bytes:
    return _XMP.format(turn).encode()


def files() -> dict[str, File]:
    """Every variant by its name."""
    made = {f"mode {mode}": File(saved(picture)) for mode, picture in modes("1", "L", "LA", "P", "RGB", "RGBA").items()}
    for subsampling in ("4:2:0", "4:2:2", "4:4:4", "4:0:0"):
        for span in ("full", "limited"):
            made[f"{subsampling}, {span} range"] = File(saved(subsampling=subsampling, range=span))
    for quality in (0, 50, 100):
        made[f"quality {quality}"] = File(saved(quality=quality))
    for rows, columns in ((1, 0), (0, 1), (1, 1)):
        made[f"tiles {1 << rows} by {1 << columns}"] = File(saved(tile_rows=rows, tile_cols=columns))
    for sides in ((1, 1), (1, 9), (9, 1), (17, 33), (64, 64)):
        made[f"{sides[0]} by {sides[1]}"] = File(saved(Image.fromarray(images.noise(*sides))))
    made["premultiplied alpha"] = File(saved(Image.fromarray(RGBA), alpha_premultiplied=True))
    made["a profile"] = File(saved(icc_profile=b"of no meaning"))
    for turn in range(1, 9):
        made[f"EXIF orientation {turn}"] = File(saved(exif=exif(turn)))
        made[f"XMP orientation {turn}"] = File(saved(xmp=xmp(turn)))
        made[f"EXIF and XMP orientation {turn}"] = File(saved(exif=exif(turn), xmp=xmp(turn % 8 + 1)))
        made[f"alpha and XMP orientation {turn}"] = File(saved(Image.fromarray(RGBA), xmp=xmp(turn)))
        made[f"EXIF of no turn, XMP orientation {turn}"] = File(saved(exif=_without_turn(), xmp=xmp(turn)))
    for mode, first in modes("RGB", "RGBA", "L").items():
        more: dict[str, Any] = {"save_all": True, "append_images": [first.transpose(Image.Transpose.ROTATE_180)]}
        made[f"sequence {mode}"] = File(saved(first, **more))
        made[f"sequence {mode}, XMP orientation 6"] = File(saved(first, xmp=xmp(6), **more))
    whole = saved()
    made["missing pixi"] = File(whole.replace(b"pixi", b"free"))
    made["bytes behind"] = File(whole + b"and more")
    return made | _deep()


def _without_turn() -> Image.Exif:
    made = Image.Exif()
    made[305] = "of some program"
    return made


def _deep() -> dict[str, File]:
    made = {}
    for depth in (8, 10, 12):
        for name, samples in (("gray", GRAY), ("RGB", RGB), ("RGBA", RGBA)):
            deep = samples if depth == 8 else (samples.astype(np.uint16) << (depth - 8)) + (DEEP[:1, :1, 0] & 3)
            order = [2, 1, 0, 3][: samples.shape[2]] if samples.ndim == 3 else slice(None)
            options = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100, cv2.IMWRITE_AVIF_SPEED, 10]
            done, data = cv2.imencode(".avif", np.ascontiguousarray(deep[..., order]), options)
            assert done
            made[f"{name} of {depth} bits"] = File(data.tobytes())
    return made


def damaged() -> dict[str, bytes]:
    """What is no AVIF, or not all of one."""
    whole = saved()
    return {
        "cut in half": whole[: len(whole) // 2],
        "without its last bytes": whole[:-9],
        "no primary image": whole.replace(b"pitm", b"free"),
        "no properties": whole.replace(b"iprp", b"free"),
        "pixels of noise": whole[: whole.index(b"mdat") + 4] + bytes(len(whole) - whole.index(b"mdat") - 4),
    }
