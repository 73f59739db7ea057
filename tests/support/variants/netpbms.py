"""PBM, PGM, PPM and PAM: bits, text and bytes, every maximum that the suites name, and comments in every place."""

from __future__ import annotations

import numpy as np

from support import images
from support.variants.common import ALPHA, BACKGROUND, GRAY, HEIGHT, RGB, WIDTH, File, Pixels, modes

_BITS = (GRAY > 100).astype(np.uint8)
_MAXIMA = (1, 3, 4, 15, 17, 100, 254, 255, 256, 257, 1000, 4095, 65_534, 65_535)
_SIDES = f"{WIDTH} {HEIGHT}".encode()


def _samples(maximum: int, channels: int) -> Pixels:
    picture = RGB if channels == 3 else GRAY[..., None]
    return np.floor(picture / 255.0 * maximum + 0.5).astype(np.uint16)


def _scaled(samples: Pixels, maximum: int) -> Pixels:
    levels = np.floor(samples.astype(np.int64) * 255 / maximum + 0.5)
    return levels[..., 0] if levels.shape[2] == 1 else levels


def _bytes(samples: Pixels, maximum: int) -> bytes:
    return samples.astype(np.uint8 if maximum < 256 else ">u2").tobytes()


def _text(samples: Pixels, columns: int = 12) -> bytes:
    numbers = [str(sample) for sample in samples.ravel()]
    return "\n".join(" ".join(numbers[at : at + columns]) for at in range(0, len(numbers), columns)).encode()


def files() -> dict[str, File]:
    """Every variant by its name."""
    made = {}
    for maximum in _MAXIMA:
        for channels, text, packed in ((1, b"P2", b"P5"), (3, b"P3", b"P6")):
            samples = _samples(maximum, channels)
            head = b" " + _SIDES + f" {maximum}\n".encode()
            wanted = _scaled(samples, maximum)
            made[f"{text.decode()} up to {maximum}"] = File(text + head + _text(samples) + b"\n", wanted)
            made[f"{packed.decode()} up to {maximum}"] = File(packed + head + _bytes(samples, maximum), wanted)
    return made | _bilevel() | _comments() | _pams() | _by_pillow()


def _bilevel() -> dict[str, File]:
    white = _BITS * 255
    head = b" " + _SIDES + b"\n"
    made = {
        "P1": File(b"P1" + head + _text(1 - _BITS), white),
        "P1 without spaces": File(b"P1" + head + _text(1 - _BITS).replace(b" ", b""), white),
        "P4": File(b"P4" + head + np.packbits(1 - _BITS, axis=1).tobytes(), white),
    }
    for width in (1, 7, 8, 9, 16):
        part = 1 - _BITS[:, :width]
        data = f"P4\n{width} {HEIGHT}\n".encode() + np.packbits(part, axis=1).tobytes()
        made[f"P4 of {width} columns"] = File(data, white[:, :width])
    return made


def _comments() -> dict[str, File]:
    raw = GRAY.tobytes()
    heads = {
        "in front": b"P5\n# by nobody\n" + _SIDES + b"\n255\n",
        "between the numbers": f"P5 {WIDTH} # wide\n{HEIGHT}\n# and more\n 255\n".encode(),
        "at the maximum": b"P5\n" + _SIDES + b"\n# most\n255\n",
        "of nothing": b"P5\n#\n" + _SIDES + b"\n255\n",
        "that look like numbers": b"P5\n# 9 9 9\n" + _SIDES + b"\n255\n",
        "directly behind the kind": b"P5# by nobody\n" + _SIDES + b" 255\n",
    }
    made = {f"comments {name}": File(head + raw, GRAY) for name, head in heads.items()}
    made["tabs and returns"] = File(f"P5\t{WIDTH}\r\n{HEIGHT}\v255\f".encode() + raw, GRAY)
    made["zeros in front of numbers"] = File(f"P5 000{WIDTH} 0{HEIGHT} 0255\n".encode() + raw, GRAY)
    made["bytes behind the pixels"] = File(b"P5 " + _SIDES + b" 255\n" + raw + b"and more", GRAY)
    made["another image behind"] = File((b"P5 " + _SIDES + b" 255\n" + raw) * 2, GRAY)
    text = _text(GRAY).replace(b"\n", b" # by nobody\n", 3)
    made["comments between the samples"] = File(b"P2\n" + _SIDES + b"\n255\n" + text, GRAY)
    return made


def _pams() -> dict[str, File]:
    alpha = ALPHA[..., None]
    rgba = np.dstack([RGB, ALPHA])
    kinds = {
        "BLACKANDWHITE": (_BITS[..., None], 1),
        "GRAYSCALE": (GRAY[..., None], 255),
        "GRAYSCALE of 16 bits": (_samples(65_535, 1), 65_535),
        "RGB": (RGB, 255),
        "RGB of 16 bits": (_samples(65_535, 3), 65_535),
        "BLACKANDWHITE_ALPHA": (np.dstack([_BITS, ALPHA > 99]), 1),
        "GRAYSCALE_ALPHA": (np.dstack([GRAY, ALPHA]), 255),
        "RGB_ALPHA": (rgba, 255),
        "RGB_ALPHA of 10 bits": (rgba.astype(np.uint16) * 4, 1023),
    }
    made = {}
    for name, (samples, maximum) in kinds.items():
        head = [f"WIDTH {WIDTH}", f"HEIGHT {HEIGHT}", f"DEPTH {samples.shape[2]}", f"MAXVAL {maximum}"]
        head += [f"TUPLTYPE {name.split()[0]}", "ENDHDR", ""]
        data = b"P7\n" + "\n".join(head).encode() + _bytes(samples, maximum)
        made[f"P7 {name}"] = File(data, _over(_scaled(samples, maximum)))
    shuffled = f"P7\n# by nobody\nMAXVAL 255\n\nDEPTH 2\nHEIGHT {HEIGHT}\n# \nWIDTH {WIDTH}\nENDHDR\n".encode()
    made["P7 in another order"] = File(
        shuffled + np.dstack([GRAY, ALPHA]).tobytes(), _over(np.concatenate([GRAY[..., None], alpha], axis=2))
    )
    return made


def _over(levels: Pixels) -> Pixels:
    if levels.ndim == 2 or levels.shape[2] == 3:
        return levels
    color, alpha = levels[..., :-1].astype(float), levels[..., -1:].astype(float)
    return np.floor((color * alpha + np.array(BACKGROUND) * (255 - alpha)) / 255 + 0.5)


def _by_pillow() -> dict[str, File]:
    pictures = modes("1", "L", "RGB", "I;16")
    return {f"mode {mode}": File(images.encode(picture, "PPM")) for mode, picture in pictures.items()}


def damaged() -> dict[str, bytes]:
    """What is no netpbm image, or not all of one."""
    return {
        "negative size": b"P6 -9 9 255\n" + bytes(999),
        "no sides": b"P6\n\n",
        "a maximum of 0": b"P5 2 2 0\n" + bytes(4),
        "a maximum above 65535": b"P5 2 2 65536\n" + bytes(9),
        "a letter for a number": b"P6 3 x 255\n" + bytes(99),
        "text that is no number": b"P2 3 1 255\n1 x 3",
        "text that ends early": b"P3 3 1 255\n1 2 3",
        "bytes that end early": b"P6 3 3 255\n" + bytes(26),
        "bits that end early": b"P4 9 9\n" + bytes(17),
        "text above the maximum": b"P2 2 1 200\n7 201",
        "an old thumbnail of XV": b"P7 332\n#END_OF_COMMENTS\n8 8 255\n" + bytes(64),
        "samples that are not whole": b"Pf\n2 2\n-1.0\n" + bytes(16),
    }
