"""The compared ways to make one N×C×H×W array of many images: common scripts, and arraystore.

The scripts are written as their users write them: with OpenCV, one image after another, in one thread. In all ways, an
image that cannot be decoded becomes zeros, so all make an array of the same size.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from arraystore._build import build
from arraystore.errors import SpecError
from arraystore.memory.calls import mark

__all__ = ["STRATEGIES", "Strategy", "strategies_of"]

Pixels: TypeAlias = npt.NDArray[np.uint8]
Size: TypeAlias = tuple[int, int]
Made: TypeAlias = Pixels | Path | tuple[Pixels, list[Pixels]]

# The interpreter, NumPy, a decoder, the images that are being decoded, and some reserve.
_BESIDE_BYTES = 200 << 20


@dataclass(frozen=True)
class Strategy:
    """One way to make the array.

    Attributes:
        key: a short name, to be typed.
        name: its name in a report.
        note: a description in one line.
        function: called with the sources (paths, one for each slot), the height and width of a slot in pixels, and an
            empty folder that it may write to. Returns the array, uint8, (N, 3, H, W), and with it the list of images,
            if there is one; or the path of a file or folder that holds the array.
        copies: how many times it holds the array's bytes in memory at its peak.
        writes: whether it leaves the array on disk.
        largest_count: the greatest number of images that it can load in reasonable time; None for any number.
    """

    key: str
    name: str
    note: str
    function: Callable[[Sequence[str], Size, Path], Made]
    copies: int
    writes: bool = False
    largest_count: int | None = None

    def needs(self, array_bytes: int) -> int:
        """Return about how many bytes of memory it takes at its peak, for an array of ``array_bytes``."""
        return self.copies * array_bytes + _BESIDE_BYTES


def strategies_of(names: Sequence[str] | None) -> tuple[Strategy, ...]:
    """Return the strategies with these keys or names, in this order and each once; all for None.

    Raises:
        SpecError: a name is unknown, or there are none.
    """
    if names is None:
        return STRATEGIES
    known = {name: strategy for strategy in STRATEGIES for name in (strategy.key, strategy.name)}
    for name in names:
        if name not in known:
            keys = ", ".join(strategy.key for strategy in STRATEGIES)
            raise SpecError(f"there is no strategy {name!r}: choose from {keys}")
    if not names:
        raise SpecError("no strategies were chosen: give at least one, or None for all")
    return tuple(dict.fromkeys(known[name] for name in names))


def _images(sources: Sequence[str], size: Size) -> Iterator[Pixels]:
    """Decode one image after another: uint8, (H, W, 3), blue first."""
    cv2 = import_module("cv2")  # here, so that each measured process loads only the libraries that it needs
    height, width = size
    for source in sources:
        image = cv2.imread(source)
        if image is None:
            image = np.zeros((height, width, 3), np.uint8)
        yield np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _vstack(sources: Sequence[str], size: Size, _folder: Path) -> tuple[Pixels, list[Pixels]]:
    """Keep every image in a list, stack them, and turn the axes.

    In a script the list lives to the end, so it is returned as well.
    """
    mark("decoding")
    image_list = []
    for image in _images(sources, size):
        image_list.append(image)
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
    h5py = import_module("h5py")  # see _images
    path = folder / "chunked.h5"
    shape = (3, *size)
    with h5py.File(path, "w") as file:
        images = file.create_dataset("images", (len(sources), *shape), np.uint8, chunks=(1, *shape))
        mark("decoding")
        for slot, image in enumerate(_images(sources, size)):
            images[slot] = image.transpose(2, 0, 1)
        mark("flush")
    return path


def _ram(sources: Sequence[str], size: Size, _folder: Path) -> Pixels:
    mark("decoding")
    return build(sources, None, size=size, bad="keep", progress=False).images


def _disk(sources: Sequence[str], size: Size, folder: Path, *, name: str) -> Path:
    mark("decoding")
    build(sources, folder / name, size=size, bad="keep", progress=False).close()
    return folder / name


_npy, _hdf5 = partial(_disk, name="images.store"), partial(_disk, name="images.h5")
STRATEGIES = (
    Strategy("vstack", "list + np.vstack", "a list of images and np.vstack of it: two copies", _vstack, copies=2),
    Strategy("stack", "list + np.stack", "a list of images and np.stack of it: two copies", _stack, copies=2),
    Strategy("append", "np.append", "copies the whole array for each image", _append, copies=2, largest_count=500),
    Strategy("ram", "arraystore, RAM", "arraystore.build into one array, allocated at the beginning", _ram, copies=1),
    Strategy("npy", "arraystore, .npy", "arraystore.build into mapped .npy files", _npy, copies=0, writes=True),
    Strategy("hdf5", "arraystore, HDF5", "arraystore.build into a mapped HDF5 file", _hdf5, copies=0, writes=True),
    Strategy("h5py", "h5py, chunked", "an h5py dataset, written image by image", _chunked, copies=0, writes=True),
)
