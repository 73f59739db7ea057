"""Nothing of a codec reaches the standard error, whatever is damaged: what is worth saying is a reason or a note."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features
from support import images
from support.command import environment

KINDS: dict[str, dict[str, object]] = {
    "jpg": {"quality": 85},
    "jpg progressive": {"progressive": True},
    "jpg restarts": {"restart_marker_blocks": 3},
    "jpg CMYK": {},
    "png": {},
    "png palette": {},
    "png 16": {},
    "webp": {},
    "webp lossless": {"lossless": True},
    "bmp": {},
    "gif": {},
    "ppm": {},
    "tif": {},
    "tif lzw": {"compression": "tiff_lzw"},
    "tif deflate": {"compression": "tiff_adobe_deflate"},
    "tif packbits": {"compression": "packbits"},
    "tif jpeg": {"compression": "jpeg"},
    "tif group4": {"compression": "group4"},
    "tif 16": {},
    "jp2": {},
    "avif": {},
}
MODES = {"palette": "P", "CMYK": "CMYK", "group4": "1"}
PILLOW = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}


def encoded(kind: str) -> bytes:
    suffix, _, variant = kind.partition(" ")
    pixels = images.photo(60, 80, seed=len(kind))
    image = Image.fromarray(pixels)
    if variant == "16":
        image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    elif variant in MODES:
        image = image.convert(MODES[variant])
    file = io.BytesIO()
    image.save(file, PILLOW.get(suffix, suffix.upper()), **KINDS[kind])  # type: ignore[arg-type]
    return file.getvalue()


def damages(data: bytes, seed: int) -> Iterator[bytes]:
    """Yield damaged copies: cut, with bits flipped, blocks of zeros or noise, bytes added, and headers moved."""
    rng = np.random.default_rng(seed)
    yield from (data[: len(data) * part // 12] for part in range(1, 12, 2))
    for number in range(12):
        changed = bytearray(data)
        limit = 200 if number % 3 == 0 else len(data)  # headers hold most of what a codec complains of
        for at in rng.integers(8, min(limit, len(data)), 1 + number % 5):
            changed[at] ^= 1 << int(rng.integers(8))
        yield bytes(changed)
    for number in range(4):
        changed, at = bytearray(data), int(rng.integers(8, len(data) - 8))
        stop = min(at + 40, len(data))
        changed[at:stop] = bytes(stop - at) if number % 2 else rng.integers(0, 256, stop - at, np.uint8).tobytes()
        yield bytes(changed)
    yield data + b"\xff\xd8\xff\xe0 and more"
    yield data[:40] + data[60:]
    yield data[:30] + bytes(30) + data[30:]


WAYS = {
    "threads": "arraystore.build(folder, None, size=8, bad='keep', progress=False, workers=2)",
    "processes": "arraystore.build(folder, None, size=8, bad='keep', progress=False, workers=1, processes=True)",
    "kept": (
        "arraystore.build(folder, target, size=8, bad='keep', progress=False, workers=2, truncated='keep', "
        "icc='srgb', exact=True)\nassert arraystore.verify(target, progress=False).ok"
    ),
    "plan": "arraystore.plan(folder, None, size=8, sample=10_000, progress=False, workers=2)",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hundreds of damaged files of 21 kinds, and of each kind one good file."""
    folder = tmp_path_factory.mktemp("damaged")
    for kind in KINDS:
        if kind == "avif" and not features.check("avif"):
            continue
        data = encoded(kind)
        for number, each in enumerate((data, *damages(data, len(kind)))):
            (folder / f"{kind.replace(' ', '_')}_{number:02}.{kind.split()[0]}").write_bytes(each)
    return folder


@pytest.mark.parametrize("way", [pytest.param("threads", marks=pytest.mark.long), *list(WAYS)[1:]])
def test_nothing_reaches_the_standard_error(folder: Path, tmp_path: Path, way: str) -> None:
    """In a process whose Python prints nothing of its own: its descriptor 2 is what codecs of C write to."""
    code = (
        "import sys, warnings, logging\n"
        "warnings.simplefilter('error')\n"
        "import arraystore\n"
        "folder, target = sys.argv[1:]\n"
        "if __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in WAYS[way].split("\n"))
    )
    (tmp_path / "script.py").write_text(code)
    result = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), str(folder), str(tmp_path / "x")],
        env=environment(),
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=500,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", ""), result.stderr[-3000:]
