"""The masks of images: read, decoded and checked in the workers, each beside its image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._common.lazy import lazy
from arraystore._decoding.notes import noticed
from arraystore._format.slot_file import SlotFile
from arraystore._sources.manifest import Manifest
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    from arraystore._decoding import masks as decoder
else:  # it takes half a second
    decoder = lazy("arraystore._decoding.masks")

Numbers = npt.NDArray[Any]  # uint8 or uint16


@dataclass(frozen=True, slots=True)
class MaskJob:
    """The masks of a run.

    Attributes:
        dtypes: of each target, in the order of `Manifest.masks`.
        paths: slot → the path of each of its masks. It may have other slots too, so a run can be cut into shorter ones.
    """

    dtypes: tuple[np.dtype[Any], ...]
    paths: Mapping[int, tuple[str, ...]]

    @classmethod
    def of(cls, manifest: Manifest, slots: Iterable[int]) -> MaskJob | None:
        """Return the masks of some slots; None where images have none."""
        if not manifest.masks:
            return None
        dtypes = tuple(masks.dtype for masks in manifest.masks.values())
        return cls(dtypes, {slot: manifest.mask_paths(slot) for slot in slots})

    def empty(self, count: int, spec: ImageSpec) -> tuple[Numbers, ...]:
        """Return arrays for the masks of so many slots, one for each target."""
        return tuple(np.zeros((count, *spec.size), dtype) for dtype in self.dtypes)


@dataclass(frozen=True, slots=True)
class SlotMasks:
    """The masks of one slot: their paths, and the arrays that they are written into; none of both without masks."""

    paths: tuple[str, ...] = ()
    arrays: tuple[Numbers, ...] = ()

    def clear(self) -> None:
        """Fill the arrays with what no class has."""
        for array in self.arrays:
            array[...] = np.iinfo(array.dtype).max

    def checksum(self) -> int:
        """Return the xxh3_64 of the numbers, one mask after the other."""
        return _hash(array.tobytes() for array in self.arrays)

    def decode(
        self, read: Callable[[str], bytes], spec: ImageSpec, image: tuple[int, int], memory_bytes: float
    ) -> tuple[int, str | None]:
        """Read and decode each mask.

        Args:
            read: returns the bytes of a file.
            spec: how the image became a slot.
            image: height and width of the upright image.
            memory_bytes: what decoding one may take.

        Returns:
            The hash of the files, one after the other; and what their decoder noticed, or None.

        Raises:
            MemoryError: there is not enough of it.
            OSError: a file cannot be read now.
            DecodeError: a file is missing, or is no mask of the image.
        """
        files = []
        for path, array in zip(self.paths, self.arrays, strict=True):
            try:
                data = read(path)
                fill = int(np.iinfo(array.dtype).max)
                decoder.decode_mask_into(data, array, spec, image, fill=fill, memory_bytes=memory_bytes)
            except (FileNotFoundError, NotADirectoryError):
                raise DecodeError(f"mask {path}: there is no such file", kind=Kind.MISSING) from None
            except OSError as error:
                raise OSError(error.errno, f"mask {path}: {error.strerror or error}") from error
            except DecodeError as error:
                raise DecodeError(f"mask {path}: {error}", kind=error.kind) from error
            files.append(data)
        return _hash(files), noticed()

    def copy(self, files: Sequence[SlotFile], slot: int, checksum: int) -> bool:
        """Copy the masks of a slot of another store, and return whether they have their checksum.

        Raises:
            OSError: they cannot be read.
        """
        for file, array in zip(files, self.arrays, strict=True):
            data = file.read(slot)
            if len(data) != array.nbytes:
                return False
            array[...] = np.frombuffer(data, array.dtype).reshape(array.shape)
        return self.checksum() == checksum


def _hash(parts: Iterable[bytes]) -> int:
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part)
    return int(digest.intdigest())
