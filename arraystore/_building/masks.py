"""The masks of images: read, decoded and checked in the workers, each beside its image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xxhash

from arraystore._common.lazy import lazy
from arraystore._decoding.notes import noticed
from arraystore._format.slot_file import FilePart
from arraystore._sources.kinds.archives.members import PartOfFile
from arraystore._sources.manifest import Manifest
from arraystore._sources.targets.mask_sources import DrawnMask, MaskSource, Numbers, contents_of, masks_stamp
from arraystore.errors import DecodeError, Kind
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    from arraystore._decoding import masks as decoder
else:  # it takes half a second
    decoder = lazy("arraystore._decoding.masks")


@dataclass(frozen=True, slots=True)
class MaskJob:
    """The masks of a run.

    Attributes:
        dtypes: each target's name → the type of its numbers, in the order of `Manifest.masks`.
        sources: slot → the source of each of its masks. It may have other slots too, so a run can be cut into shorter
            ones.
    """

    dtypes: Mapping[str, np.dtype[Any]]
    sources: Mapping[int, tuple[MaskSource, ...]]

    @classmethod
    def of(cls, manifest: Manifest, sources: Mapping[int, tuple[MaskSource, ...]]) -> MaskJob | None:
        """Return the masks of some slots, from what `Manifest.load_masks` gave for each; None where there are none."""
        if not manifest.masks:
            return None
        return cls({name: masks.dtype for name, masks in manifest.masks.items()}, sources)

    def empty(self, count: int, spec: ImageSpec) -> tuple[Numbers, ...]:
        """Return arrays for the masks of so many slots, one for each target; none where slots differ in shape."""
        if not spec.one_shape:
            return ()
        return tuple(np.zeros((count, *spec.size), dtype) for dtype in self.dtypes.values())


class HeldMask(NamedTuple):
    """A mask that was read and decoded: the numbers of the upright mask, and the bytes that tell it from others."""

    numbers: Numbers
    contents: bytes


def held_mask(
    source: MaskSource, read: Callable[[Any], bytes], spec: ImageSpec, image: tuple[int, int], memory_bytes: float
) -> HeldMask:
    """Read and decode a mask.

    Args:
        source: of the mask.
        read: returns the bytes of a file, or of a part of one.
        spec: how the image becomes a slot.
        image: height and width of the upright image.
        memory_bytes: what decoding it may take.

    Raises:
        MemoryError: there is not enough of it.
        OSError: the file cannot be read now.
        DecodeError: the file is missing, or is no mask of the image.
    """
    data = source if isinstance(source, np.ndarray | DrawnMask) else read(source)
    numbers = decoder.mask_numbers(data, spec, image, memory_bytes=memory_bytes)
    return HeldMask(numbers, contents_of(data if isinstance(data, bytes) else numbers))


@dataclass(frozen=True, slots=True)
class SlotMasks:
    """The masks of one slot: targets, sources, and the arrays that they are written into; none without masks.

    Where slots differ in shape, the arrays are made when the shape of the slot is known.
    """

    dtypes: Mapping[str, np.dtype[Any]] = field(default_factory=dict)
    sources: tuple[MaskSource, ...] = ()
    arrays: list[Numbers] = field(default_factory=list)
    one_shape: bool = True

    def stamp(self) -> int:
        """Return what tells other masks, see `masks_stamp`."""
        return masks_stamp(self.sources)

    def clear(self) -> None:
        """Fill the arrays with what no class has; there are none of a slot without an image where slots differ."""
        if not self.one_shape:
            self.arrays.clear()
        for array in self.arrays:
            array[...] = np.iinfo(array.dtype).max

    def after_jpeg(self) -> bytes:
        """Return the numbers that follow the JPEG of the slot in a log: where slots differ in shape."""
        return b"" if self.one_shape else b"".join(array.tobytes() for array in self.arrays)

    def checksum(self) -> int:
        """Return the xxh3_64 of the numbers, one mask after the other."""
        return _hash(array.tobytes() for array in self.arrays)

    def decode(
        self, load: Callable[[MaskSource], HeldMask], spec: ImageSpec, image: tuple[int, int]
    ) -> tuple[int, str | None]:
        """Load each mask, and write it into its array.

        Args:
            load: reads and decodes one.
            spec: how the image became a slot.
            image: height and width of the upright image.

        Returns:
            The hash of what they hold, one after the other; and what their decoder noticed, or None.

        Raises:
            MemoryError: there is not enough of it.
            OSError: a file cannot be read now.
            DecodeError: a file is missing, or is no mask of the image.
        """
        contents = []
        if not self.one_shape:
            place = spec.place(*image)
            self._make([(place.height, place.width)] * len(self.dtypes))
        for name, source, array in zip(self.dtypes, self.sources, self.arrays, strict=True):
            with told_of_mask(_place_of(source) or repr(name)):
                held = load(source)
                decoder.deposit_mask(held.numbers, array, spec, image, fill=int(np.iinfo(array.dtype).max))
            contents.append(held.contents)
        return _hash(contents), noticed()

    def copy(self, parts: Sequence[FilePart], checksum: int) -> bool:
        """Copy the masks of a slot of another store, and return whether they have their checksum.

        Raises:
            OSError: they cannot be read.
        """
        if not self.one_shape:
            sizes = zip(parts, self.dtypes.values(), strict=True)
            self._make([(part.size // dtype.itemsize,) for part, dtype in sizes])
        for part, array in zip(parts, self.arrays, strict=True):
            if part.size != array.nbytes or part.read_into(array.reshape(-1).view(np.uint8).data) != array.nbytes:
                return False
        return self.checksum() == checksum

    def _make(self, shapes: Iterable[tuple[int, ...]]) -> None:
        self.arrays[:] = (np.empty(shape, dtype) for shape, dtype in zip(shapes, self.dtypes.values(), strict=True))


@contextmanager
def told_of_mask(which: str) -> Iterator[None]:
    """Let the errors of reading and decoding a mask say which mask it is, since they become the reason of its image.

    Raises:
        OSError: the mask cannot be read now.
        DecodeError: it is missing, or is no mask of the image.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise DecodeError(f"mask {which}: there is no such file", kind=Kind.MISSING) from None
    except OSError as error:
        raise OSError(error.errno, f"mask {which}: {error.strerror or error}") from error
    except DecodeError as error:
        raise DecodeError(f"mask {which}: {error}", kind=error.kind) from error


def _place_of(source: MaskSource) -> str:
    """Return the path of a mask; empty if it lies in memory."""
    if isinstance(source, PartOfFile):
        return f"{source.path}/{source.name}"
    return source if isinstance(source, str) else ""


def _hash(parts: Iterable[bytes]) -> int:
    digest = xxhash.xxh3_64()
    for part in parts:
        digest.update(part)
    return int(digest.intdigest())
