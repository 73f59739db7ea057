"""A folder of varied, realistic JPEGs to try arraystore on, made from photographs in the public domain.

The photographs lie in the wheel of scikit-image, so nothing is downloaded. The docstrings of ``skimage.data`` release
them without conditions; photographs without a stated license (moon, page, motorcycle), or with a presumed one (coins),
are left out.
"""

import os
import shutil
import struct
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from arraystore._common.checks import expanded, whole_number
from arraystore.errors import Kind, MissingExtraError, StoreExistsError

_Pixels: TypeAlias = npt.NDArray[np.uint8]

# The class folders, in the order of the images, and the files in skimage/data.
_PHOTOGRAPHS = {
    "astronaut": "astronaut.png",  # Eileen Collins, by NASA: public domain
    "camera": "camera.png",  # a cameraman, by Lav Varshney: CC0
    "chelsea": "chelsea.png",  # a cat, by Stefan van der Walt: CC0
    "coffee": "coffee.png",  # a cup of espresso, by Rachel Michetti: CC0
    "hubble": "hubble_deep_field.jpg",  # the eXtreme Deep Field, by NASA: public domain
    "retina": "retina.jpg",  # a fundus, by Mikael Häggström: CC0
    "rocket": "rocket.jpg",  # the launch of DSCOVR, by SpaceX: public domain
}

# The EXIF orientations that cameras write (mirrored ones are never written), and how the pixels lie then.
_EXIF_TURNS = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_COUNTERCLOCKWISE, 8: cv2.ROTATE_90_CLOCKWISE}

# Values that are drawn more often stand here more often.
_ASPECTS = (4 / 3, 4 / 3, 4 / 3, 3 / 2, 3 / 2, 16 / 9, 1.0)
_SAMPLINGS = (
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


def write_sample(folder: str | os.PathLike[str], *, count: int = 200, seed: int = 0) -> int:
    """Write ``count`` varied JPEGs into class folders, for trying a build and for tests and benchmarks.

    The images are random regions of the photographs, in folders named after them (``astronaut/astronaut-0003.jpg``).
    Most are about 500 by 375 pixels, as in ImageNet, some up to 1,600 on the longer side. The same seed gives the same
    bytes (with the same OpenCV), and a larger count adds images without changing the first ones.

    Args:
        folder: is made, with its parents; if it exists, it must be empty.
        count: the number of images, 1 or more.
        seed: a whole number, 0 or more.

    Returns:
        ``count``.

    Raises:
        StoreExistsError: the folder is not empty, or is a file. Nothing is ever overwritten.
    """
    whole_number("count", count, 1)
    whole_number("seed", seed, 0)
    root = expanded(folder)
    if os.path.lexists(root) and not (root.is_dir() and not any(root.iterdir())):
        raise StoreExistsError(f"{root} is not an empty folder; give a new folder, or an empty one", kind=Kind.EXISTS)
    photographs = _load_photographs()
    names = list(photographs)

    def write_one(index: int) -> None:
        name = names[index % len(names)]
        data = _photo(photographs[name], name, index, seed)
        with (root / name / f"{name}-{index // len(names):04d}.jpg").open("xb") as file:  # x: an existing file fails
            file.write(data)

    was_there = root.is_dir()
    made: list[Path] = []
    pool = ThreadPoolExecutor()
    try:
        for name in names[:count]:
            (root / name).mkdir(parents=True)
            made.append(root / name)
        for future in [pool.submit(write_one, index) for index in range(count)]:
            future.result()
    except BaseException:
        # Ctrl-C and a full disk must not wait for images that are deleted anyway.
        pool.shutdown(cancel_futures=True)
        for path in made:
            shutil.rmtree(path, ignore_errors=True)
        if not was_there and root.is_dir() and not any(root.iterdir()):
            root.rmdir()
        raise
    pool.shutdown()
    return count


def _load_photographs() -> dict[str, _Pixels]:
    """Return the photographs by name: uint8, (H, W, 3) in BGR or (H, W).

    They are read from the files of the wheel, because ``skimage.data`` downloads a file that is missing.

    Raises:
        MissingExtraError: scikit-image is not installed, or lacks one of them.
    """
    found = find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        missing = "scikit-image, which has the photographs of the sample, is not installed"
        raise MissingExtraError(f"{missing}; pip install 'arraystore[sample]'")
    folder = Path(next(iter(found.submodule_search_locations)), "data")
    photographs: dict[str, _Pixels] = {}
    for name, file_name in _PHOTOGRAPHS.items():
        path = folder / file_name
        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED) if path.is_file() else None
        if pixels is None:
            raise MissingExtraError(
                f"this scikit-image lacks a photograph that the sample is made from ({path}); "
                "pip install --force-reinstall 'arraystore[sample]'"
            )
        photographs[name] = np.asarray(pixels, np.uint8)
    return photographs


def _photo(photograph: _Pixels, name: str, index: int, seed: int) -> bytes:
    """Return the JPEG of image ``index``: a random region of a photograph, resized, brightened and grained.

    The rare kinds (large, gray, progressive, turned) depend on the index and not on chance, so that a small sample has
    them too. Their periods have no factor in common with the number of photographs, so every photograph gets them all.
    """
    # Each image has its own stream of random numbers, so neither threads nor the count change it.
    rng = np.random.default_rng((seed, index))
    if index % 10 == 3:
        longer = int(rng.integers(800, 1601))
    else:
        longer = 500 if rng.random() < 0.65 else int(rng.integers(200, 700))
    shorter = round(longer / rng.choice(_ASPECTS))
    height, width = (longer, shorter) if rng.random() < 0.3 else (shorter, longer)
    zoom, down, right = rng.uniform(0.45, 1.0), rng.random(), rng.random()
    mirrored = rng.random() < 0.5
    gain, grain = np.float32(rng.uniform(0.75, 1.25)), np.float32(rng.uniform(3.0, 9.0))
    quality, sampling = int(rng.integers(75, 96)), int(rng.choice(_SAMPLINGS))
    gray = (name == "camera" and rng.random() < 0.5) or index % 41 == 17
    orientation = int(rng.choice(list(_EXIF_TURNS))) if index % 16 == 7 else 1

    if gray != (photograph.ndim == 2):
        code = cv2.COLOR_BGR2GRAY if gray else cv2.COLOR_GRAY2BGR
        photograph = np.asarray(cv2.cvtColor(photograph, code), np.uint8)
    rows, columns = photograph.shape[:2]
    scale = min(rows / height, columns / width) * zoom
    region_rows, region_columns = int(height * scale), int(width * scale)
    top, left = int((rows - region_rows) * down), int((columns - region_columns) * right)
    region = photograph[top : top + region_rows, left : left + region_columns]
    region = np.ascontiguousarray(region[:, ::-1] if mirrored else region)
    resized = cv2.resize(region, (width, height), interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC)
    # An enlarged region is smoother than a camera's photo, so its JPEG would be small and quick to decode: 500 pixels
    # take 37 KB without grain and 56 KB with it; in ImageNet they take about 110 KB at its higher qualities.
    lit = resized * gain + rng.standard_normal(resized.shape, dtype=np.float32) * grain
    pixels = np.rint(np.clip(lit, 0, 255)).astype(np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    options += [cv2.IMWRITE_JPEG_PROGRESSIVE, int(index % 15 == 5)]
    if orientation != 1:
        pixels = np.asarray(cv2.rotate(pixels, _EXIF_TURNS[orientation]), np.uint8)
    data = cv2.imencode(".jpg", pixels, options)[1].tobytes()
    return data if orientation == 1 else _with_orientation(data, orientation)


def _with_orientation(data: bytes, orientation: int) -> bytes:
    """Return the JPEG with an EXIF segment that has only the orientation."""
    # A little-endian TIFF: one entry, tag 0x0112, type 3 (short), one value, and no further directory.
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    payload = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload
    # EXIF goes after the first segment, JFIF's APP0: a marker of two bytes, then its length.
    end = 4 + struct.unpack(">H", data[4:6])[0]
    return data[:end] + segment + data[end:]
