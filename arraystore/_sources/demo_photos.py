"""A folder of varied, realistic JPEGs to try arraystore on, made from photographs in the public domain.

The photographs lie inside scikit-image's own wheel, so nothing is downloaded. Those used are the ones that the
docstrings of ``skimage.data`` release without conditions:

========== ============================================================ =======================
photograph what it shows                                                license
========== ============================================================ =======================
astronaut  Eileen Collins, by NASA                                      public domain
camera     a cameraman, by Lav Varshney                                 CC0
chelsea    a cat, by Stefan van der Walt                                CC0
coffee     a cup of espresso, by Rachel Michetti                        CC0
hubble     the eXtreme Deep Field, by NASA                              public domain
retina     a fundus, by Mikael Häggström                                CC0
rocket     the launch of DSCOVR, by SpaceX                              public domain
========== ============================================================ =======================

Those whose license is not stated (moon, page, motorcycle) or only believed (coins) are left out.
"""

from __future__ import annotations

import os
import shutil
import struct
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from arraystore.errors import MissingExtraError, SpecError, StoreExistsError

__all__ = ["write_sample"]

_Pixels: TypeAlias = npt.NDArray[np.uint8]

# The class folders, in the order in which images go round them, and the files inside skimage/data.
_PHOTOGRAPHS = {
    "astronaut": "astronaut.png",
    "camera": "camera.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "hubble": "hubble_deep_field.jpg",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
}

# What cameras write when they are turned, and the turn of the stored pixels that each undoes. Mirrored orientations
# are left out: no camera writes them.
_EXIF_TURNS = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_COUNTERCLOCKWISE, 8: cv2.ROTATE_90_CLOCKWISE}

_ASPECTS = (4 / 3, 4 / 3, 4 / 3, 3 / 2, 3 / 2, 16 / 9, 1.0)
_SAMPLINGS = (
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
)


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How one image is made; every random choice but the grain is here.

    Attributes:
        name: the photograph.
        height: rows of the upright image.
        width: columns of the upright image.
        zoom: share of the photograph, along the axis that limits it, that the image shows.
        corner: where the region lies in what the zoom leaves free, each 0 to 1 (down, right).
        mirrored: whether left and right are exchanged.
        gain: what the brightness is multiplied by.
        grain: standard deviation of the grain in gray levels.
        quality: of the JPEG.
        sampling: of the JPEG's chroma, as OpenCV numbers it.
        gray: whether the JPEG has one component.
        progressive: whether the JPEG is progressive.
        orientation: the EXIF orientation; 1 writes no EXIF.
    """

    name: str
    height: int
    width: int
    zoom: float
    corner: tuple[float, float]
    mirrored: bool
    gain: float
    grain: float
    quality: int
    sampling: int
    gray: bool
    progressive: bool
    orientation: int


def write_sample(folder: str | os.PathLike[str], *, count: int = 200, seed: int = 0) -> int:
    """Write ``count`` varied JPEGs into class folders, for trying a build and for tests and benchmarks.

    The images are random regions of seven photographs in the public domain, in folders named after them
    (``astronaut/astronaut-0003.jpg``). Most are about 500 by 375 pixels, as in ImageNet, some up to 1,600 on the longer
    side; landscape, portrait and square; qualities 75 to 95; chroma at full, half and quarter resolution; a few gray,
    progressive, or stored turned with an EXIF orientation. The same seed gives the same bytes (with the same OpenCV),
    and a larger count adds images without changing the first ones.

    Args:
        folder: is made, with its parents; if it is there already, it must be empty.
        count: how many images.
        seed: a whole number, 0 or more.

    Returns:
        The number of images written, which is ``count``.

    Raises:
        MissingExtraError: scikit-image is not installed, or lacks one of the photographs.
        SpecError: count is less than 1, or seed less than 0.
        StoreExistsError: the folder is not empty, or is a file. Nothing is ever overwritten.
    """
    if count < 1:
        raise SpecError(f"count must be 1 or more, not {count}")
    if seed < 0:
        raise SpecError(f"seed must be 0 or more, not {seed}")
    root = Path(folder)
    _check_free(root)
    photographs = _load_photographs()
    names = list(photographs)

    def write_one(index: int, folder: Path) -> None:
        name = names[index % len(names)]
        # A stream for each image: threads may take them in any order, and the count changes none of them.
        rng = np.random.default_rng((seed, index))
        data = _encode(photographs[name], _recipe(name, index, rng), rng)
        # "x": even inside a folder of our own, an existing file is an error and not overwritten.
        with (folder / name / f"{name}-{index // len(names):04d}.jpg").open("xb") as file:
            file.write(data)

    with _published(root) as work:
        for name in names[:count]:
            (work / name).mkdir()
        pool = ThreadPoolExecutor()
        try:
            for future in [pool.submit(write_one, index, work) for index in range(count)]:
                future.result()
        finally:
            # After Ctrl-C or a full disk, waiting for images that nobody will see would look like a hang.
            pool.shutdown(cancel_futures=True)
    return count


def _check_free(root: Path) -> None:
    """Refuse a target that holds anything.

    Raises:
        StoreExistsError: it does.
    """
    if root.is_dir():
        if any(root.iterdir()):
            raise StoreExistsError(f"the folder {root} is not empty; give a new folder, or an empty one")
    elif os.path.lexists(root):
        raise StoreExistsError(f"{root} exists and is not a folder; give a new folder, or an empty one")


@contextmanager
def _published(root: Path) -> Iterator[Path]:
    """Lend a hidden folder inside ``root`` whose contents move up into it on success, and vanish on failure.

    It lies inside, not beside, so that ``root`` may be a mount point or the current folder.

    Raises:
        StoreExistsError: something with the name of a class folder has appeared in ``root`` meanwhile.
    """
    was_there = root.is_dir()
    root.mkdir(parents=True, exist_ok=True)
    work = root / f".{uuid.uuid4().hex}.partial"
    work.mkdir()
    try:
        yield work
        _move_up(work, root)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        if not was_there and not any(root.iterdir()):
            root.rmdir()
        raise


def _move_up(work: Path, root: Path) -> None:
    """Move everything in ``work`` into ``root`` and remove ``work``.

    Raises:
        StoreExistsError: a name is taken.
    """
    for part in sorted(work.iterdir()):
        if os.path.lexists(root / part.name):
            raise StoreExistsError(f"{root / part.name} has appeared meanwhile; give a new folder")
        part.rename(root / part.name)
    work.rmdir()


def _load_photographs() -> dict[str, _Pixels]:
    """Return the photographs by name: uint8, (H, W, 3) in BGR or (H, W).

    The files are read where the wheel put them: ``skimage.data`` would try the network for a file that it misses.

    Raises:
        MissingExtraError: scikit-image is not installed, or lacks one of them.
    """
    found = find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError(
            "the sample is made from photographs inside scikit-image, which is not installed; "
            "pip install 'arraystore[sample]'"
        )
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


def _recipe(name: str, index: int, rng: np.random.Generator) -> _Recipe:
    """Return how image ``index`` is made.

    The rare kinds come by the index and not by chance, so that a small sample has them too; their periods have no
    factor in common with the number of photographs, so that every photograph gets every kind.
    """
    longer = _longer_side_px(index, rng)
    shorter = round(longer / rng.choice(_ASPECTS))
    portrait = rng.random() < 0.3
    return _Recipe(
        name=name,
        height=longer if portrait else shorter,
        width=shorter if portrait else longer,
        zoom=rng.uniform(0.45, 1.0),
        corner=(rng.random(), rng.random()),
        mirrored=bool(rng.random() < 0.5),
        gain=rng.uniform(0.75, 1.25),
        grain=rng.uniform(3.0, 9.0),
        quality=int(rng.integers(75, 96)),
        sampling=int(rng.choice(_SAMPLINGS)),
        gray=(name == "camera" and bool(rng.random() < 0.5)) or index % 41 == 17,
        progressive=index % 15 == 5,
        orientation=int(rng.choice(list(_EXIF_TURNS))) if index % 16 == 7 else 1,
    )


def _longer_side_px(index: int, rng: np.random.Generator) -> int:
    if index % 10 == 3:
        return int(rng.integers(800, 1601))
    if rng.random() < 0.65:
        return 500
    return int(rng.integers(200, 700))


def _encode(photograph: _Pixels, recipe: _Recipe, rng: np.random.Generator) -> bytes:
    """Return the JPEG that a recipe makes of a photograph."""
    pixels = _render(photograph, recipe, rng)
    if recipe.orientation != 1:
        pixels = np.asarray(cv2.rotate(pixels, _EXIF_TURNS[recipe.orientation]), np.uint8)
    options = [
        *(cv2.IMWRITE_JPEG_QUALITY, recipe.quality),
        *(cv2.IMWRITE_JPEG_PROGRESSIVE, int(recipe.progressive)),
        *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, recipe.sampling),
    ]
    _, encoded = cv2.imencode(".jpg", pixels, options)
    data = encoded.tobytes()
    return data if recipe.orientation == 1 else _with_orientation(data, recipe.orientation)


def _render(photograph: _Pixels, recipe: _Recipe, rng: np.random.Generator) -> _Pixels:
    """Return the upright image: a region of the photograph, resized, brightened and grained."""
    if recipe.gray != (photograph.ndim == 2):
        code = cv2.COLOR_BGR2GRAY if recipe.gray else cv2.COLOR_GRAY2BGR
        photograph = np.asarray(cv2.cvtColor(photograph, code), np.uint8)
    rows, columns = photograph.shape[:2]
    scale = min(rows / recipe.height, columns / recipe.width) * recipe.zoom
    region_rows, region_columns = int(recipe.height * scale), int(recipe.width * scale)
    top, left = (
        int((side - used) * at)
        for side, used, at in zip((rows, columns), (region_rows, region_columns), recipe.corner, strict=True)
    )
    region = photograph[top : top + region_rows, left : left + region_columns]
    if recipe.mirrored:
        region = region[:, ::-1]
    resized = cv2.resize(
        np.ascontiguousarray(region),
        (recipe.width, recipe.height),
        interpolation=cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC,
    )
    # An enlarged region is smoother than any camera's output, so its JPEG would be small and quick to decode: images of
    # 500 pixels take 37 KB without grain and 56 KB with it, against about 110 KB in ImageNet at its higher qualities.
    grain = rng.standard_normal(resized.shape, dtype=np.float32)
    lit = resized * np.float32(recipe.gain) + grain * np.float32(recipe.grain)
    image: _Pixels = np.rint(np.clip(lit, 0, 255)).astype(np.uint8)
    return image


def _with_orientation(data: bytes, orientation: int) -> bytes:
    """Return the JPEG with an EXIF segment that has the orientation and nothing else."""
    # TIFF, little-endian: one entry, tag 0x0112, type 3 (short), one value, and no further directory.
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    payload = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + struct.pack(">H", len(payload) + 2) + payload
    # The first segment is JFIF's APP0, two bytes of marker and then its length; EXIF goes behind it.
    end = 4 + struct.unpack(">H", data[4:6])[0]
    return data[:end] + segment + data[end:]
