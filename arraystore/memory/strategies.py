"""The ways to make one N×C×H×W array of many images that are compared: those that people write, and ours.

Each is written as its users would write it, for what is measured is the idea and not its best version: with OpenCV,
one image after another, in one thread; ours as every build does it. What a decoder does not take becomes zeros in all
of them, so that all make an array of the same size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from arraystore._build import build
from arraystore._reading.store import Store
from arraystore.errors import SpecError
from arraystore.memory.calls import mark

__all__ = ["STRATEGIES", "Strategy", "strategies_of"]

Pixels: TypeAlias = npt.NDArray[np.uint8]
Size: TypeAlias = tuple[int, int]
Made: TypeAlias = Pixels | Path | tuple[Pixels, list[Pixels]]

# The interpreter, NumPy, a decoder and the images that are being decoded, and something to spare.
_BESIDE_BYTES = 200 << 20


@dataclass(frozen=True)
class Strategy:
    """One way to make the array.

    Attributes:
        key: a short name, to be typed.
        name: what it is called in a report.
        note: what it does, in one line.
        function: called with the sources (paths, one a slot), the height and width of a slot in pixels, and an empty
            folder that it may write to. Returns what is there at the end: the array, uint8, (N, 3, H, W), with the list
            that it was made of, if there is one; or the path of a file or folder that holds the array.
        copies: how many times it holds the array's bytes in memory at its peak.
        writes: whether it leaves the array on disk.
        largest_count: of how many images it can be asked at most, because more would take for ever; None for any
            number.
    """

    key: str
    name: str
    note: str
    function: Callable[[Sequence[str], Size, Path], Made]
    copies: int
    writes: bool = False
    largest_count: int | None = None

    def needs(self, array_bytes: int) -> int:
        """Return the bytes of memory that it takes at its peak, about, for an array of ``array_bytes``."""
        return self.copies * array_bytes + _BESIDE_BYTES


def strategies_of(names: Sequence[str] | None) -> tuple[Strategy, ...]:
    """Return the strategies of these keys or names, in the order given and each once; None are all.

    Raises:
        SpecError: there is none of that name, or no name.
    """
    if names is None:
        return STRATEGIES
    known = {name: strategy for strategy in STRATEGIES for name in (strategy.key, strategy.name)}
    for name in names:
        if name not in known:
            keys = ", ".join(strategy.key for strategy in STRATEGIES)
            raise SpecError(f"there is no strategy {name!r}: choose from {keys}")
    if not names:
        raise SpecError("no strategies were chosen: give at least one, or leave them out for all")
    return tuple(dict.fromkeys(known[name] for name in names))


def _images(sources: Sequence[str], size: Size) -> Iterator[Pixels]:
    """Decode one image after another as people do: uint8, (H, W, 3), blue first."""
    import cv2  # noqa: PLC0415 - what is measured is to load what it needs, and nothing else

    height, width = size
    for source in sources:
        image = cv2.imread(source)
        if image is None:
            image = np.zeros((height, width, 3), np.uint8)
        yield np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _vstack(sources: Sequence[str], size: Size, _folder: Path) -> tuple[Pixels, list[Pixels]]:
    """Keep every image in a list, stack them, and turn the axes: the recipe that was current in 2015.

    It stood in scripts, whose list lives as long as they do; so it does here.
    """
    mark("decoding")
    image_list = []
    for image in _images(sources, size):
        image_list.append(image)  # noqa: PERF402 - written as people write it
    mark("np.vstack")
    data = np.vstack(image_list)
    return data.reshape(-1, *size, 3).transpose(0, 3, 1, 2), image_list


def _stack(sources: Sequence[str], size: Size, _folder: Path) -> tuple[Pixels, list[Pixels]]:
    mark("decoding")
    image_list = [image.transpose(2, 0, 1) for image in _images(sources, size)]
    mark("np.stack")
    return np.stack(image_list), image_list


def _append(sources: Sequence[str], size: Size, _folder: Path) -> Pixels:
    data = np.empty((0, 3, *size), np.uint8)
    mark("np.append")
    for image in _images(sources, size):
        data = np.append(data, image.transpose(2, 0, 1)[None], axis=0)
    return data


def _chunked(sources: Sequence[str], size: Size, folder: Path) -> Path:
    import h5py  # noqa: PLC0415 - likewise

    path = folder / "chunked.h5"
    shape = (3, *size)
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (len(sources), *shape), np.uint8, chunks=(1, *shape))
        mark("decoding")
        for slot, image in enumerate(_images(sources, size)):
            images[slot] = image.transpose(2, 0, 1)
        mark("flush")
    return path


def _build(sources: Sequence[str], size: Size, target: Path | None) -> Store:
    mark("decoding")
    return build(sources, target, size=size, bad="keep", progress=False)


def _ram(sources: Sequence[str], size: Size, _folder: Path) -> Pixels:
    return _build(sources, size, None).images


def _npy(sources: Sequence[str], size: Size, folder: Path) -> Path:
    path = folder / "images.store"
    _build(sources, size, path).close()
    return path


def _hdf5(sources: Sequence[str], size: Size, folder: Path) -> Path:
    path = folder / "images.h5"
    _build(sources, size, path).close()
    return path


STRATEGIES = (
    Strategy(
        "vstack",
        "list + np.vstack",
        "cv2.imread and cv2.resize into a list, np.vstack, reshape, transpose; the list is still there: two copies",
        _vstack,
        copies=2,
    ),
    Strategy(
        "stack",
        "list + np.stack",
        "the same with np.stack: the list and the array, two copies",
        _stack,
        copies=2,
    ),
    Strategy(
        "append",
        "np.append",
        "an array that np.append copies whole for each image, so the time grows with the square of their number",
        _append,
        copies=2,
        largest_count=500,
    ),
    Strategy("ram", "arraystore, RAM", "arraystore.build into one array that is allocated first", _ram, copies=1),
    Strategy(
        "npy",
        "arraystore, .npy",
        "arraystore.build into a folder of .npy files, whose pixels are mapped",
        _npy,
        copies=0,
        writes=True,
    ),
    Strategy(
        "hdf5",
        "arraystore, HDF5",
        "arraystore.build into one HDF5 file, whose pixels are contiguous and mapped",
        _hdf5,
        copies=0,
        writes=True,
    ),
    Strategy(
        "h5py",
        "h5py, chunked",
        "a dataset of h5py with one chunk an image, written image by image",
        _chunked,
        copies=0,
        writes=True,
    ),
)
