"""Masks as targets: a second image file for each image, whose pixels are numbers of classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from arraystore._common.public import public
from arraystore._sources.given import raw_paths
from arraystore._sources.text_list import TextList
from arraystore.errors import ManifestError

BITS = {"mask": 8, "mask16": 16}  # by the kind of a column


@public
class MaskFiles:
    """A mask for each image: a target whose pixels are numbers of classes, with the geometry of its image.

    The numbers are those in the file: indices into the palette, not its colors, or samples of gray. They are never
    mixed: a resized mask has the nearest pixels. A mask shows what its image shows, in as many pixels or at another
    scale. Where a slot has no image (beside a padded one, or in a failed slot), its mask has ``fill``, which is no
    class. The target is (N, H, W), with the height and width of slots, and a loader crops and mirrors it with the
    images.

    Masks are read from PNG, BMP, GIF, TIFF, PGM and PBM files. Samples of 1, 2 or 4 bits are not scaled. Files with
    colors or alpha are bad images, and so are JPEGs and others whose compression may have changed the numbers.

    Args:
        paths: one a row. Relative ones start from where those of the images do.
        root: the folder that relative paths start from instead.
        bits: 8 or 16. With 8 the target is uint8, and a mask with a number above 255 is a bad image; with 16 it is
            uint16.

    Attributes:
        paths: as given, or under ``root``.
        bits: of a number.

    Raises:
        ManifestError: an item is not a path or is empty, or there is no such number of bits.

    Example:
        >>> masks = MaskFiles(["a.png", "b.png"])
        >>> len(masks), masks.fill
        (2, 255)
    """

    __slots__ = ("bits", "paths")

    def __init__(
        self, paths: Sequence[str | os.PathLike[str]], *, root: str | os.PathLike[str] | None = None, bits: int = 8
    ) -> None:
        if isinstance(paths, str | bytes | os.PathLike) or not hasattr(paths, "__len__"):
            raise ManifestError(f"MaskFiles takes a list of paths, one for each image, not a {type(paths).__name__}")
        if bits not in BITS.values():
            raise ManifestError(f"bits must be 8 or 16, not {bits!r}")
        if root is not None:
            folder = Path(root).expanduser().absolute()
            paths = [folder / path for path in paths]
        self.paths: TextList = paths if isinstance(paths, TextList) else TextList.from_raw(raw_paths(paths))
        self.bits: int = bits

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"<arraystore.MaskFiles of {len(self):,}, {self.bits} bits>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.paths, self.bits)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the target."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def fill(self) -> int:
        """The number where there is no image: 255, or 65535 of 16 bits."""
        return int(np.iinfo(self.dtype).max)


def _restore(paths: TextList, bits: int) -> MaskFiles:
    return MaskFiles(paths, bits=bits)
