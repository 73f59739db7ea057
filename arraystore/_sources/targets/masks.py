"""Masks as targets: a second image file for each image, whose pixels are numbers of classes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path, PurePosixPath
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
    mixed: a resized mask has the nearest pixels. A mask shows what its upright image shows, in as many pixels or at
    another scale; one of another shape is a bad image. The target is (N, H, W), with the height and width of slots, and
    a loader crops and mirrors it with the images.

    Where a slot has no image (beside a padded one, or in a failed slot), its mask has ``fill``, which should be no
    class. A mask of nothing but 0 and 255 beside whose image there is padding is stored with a note.

    Masks are read from PNG, BMP, GIF, TIFF, PGM and PBM files. Samples of 1, 2 or 4 bits are not scaled. Files with
    colors or alpha are bad images, and so are JPEGs and others whose compression may have changed the numbers.

    Args:
        paths: one a row, where relative ones start from where those of the images do; or a folder, in which the masks
            have the paths of the images from their root on, and another suffix: ``"masks/cat/1.png"`` is that of
            ``"cat/1.jpg"``. Of an image whose path is absolute, only its name counts.
        root: the folder that relative paths start from instead.
        suffix: of the masks in a folder: what follows the path of an image without its own suffix, such as
            ``"_mask.gif"``.
        bits: 8 or 16. With 8 the target is uint8, and a mask with a number above 255 is a bad image; with 16 it is
            uint16.

    Attributes:
        paths: as given, or under ``root``; empty for a folder, until a `Manifest` gives them.
        folder: the absolute folder; None for a list of paths.
        suffix: of the masks in a folder.
        bits: of a number.

    Raises:
        ManifestError: an item is not a path or is empty, or there is no such number of bits.

    Example:
        >>> masks = MaskFiles(["a.png", "b.png"])
        >>> len(masks), masks.fill
        (2, 255)
        >>> list(MaskFiles("/ds/masks").of_images(["cat/1.jpg"], "/ds/images").paths)
        ['../masks/cat/1.png']
    """

    __slots__ = ("bits", "folder", "paths", "suffix")

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]] | str | os.PathLike[str],
        *,
        root: str | os.PathLike[str] | None = None,
        suffix: str = ".png",
        bits: int = 8,
    ) -> None:
        if bits not in BITS.values():
            raise ManifestError(f"bits must be 8 or 16, not {bits!r}")
        base = Path.cwd() if root is None else Path(root).expanduser().absolute()
        self.bits: int = bits
        self.suffix: str = suffix
        self.folder: str | None = None
        self.paths: TextList = TextList.from_raw(())
        if isinstance(paths, str | os.PathLike):
            self.folder = str(base / Path(paths).expanduser())
        elif isinstance(paths, TextList):
            self.paths = paths
        else:
            if isinstance(paths, bytes | AbstractSet | Mapping) or not hasattr(paths, "__len__"):
                raise ManifestError(f"masks are a list of paths, one for each image, not a {type(paths).__name__}")
            self.paths = TextList.from_raw(raw_paths(paths if root is None else [base / path for path in paths]))

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        which = f"of {len(self):,}" if self.folder is None else f"in {self.folder!r}"
        return f"<arraystore.MaskFiles {which}, {self.bits} bits>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.paths, self.folder, self.suffix, self.bits)

    def of_images(self, images: Sequence[Any], root: str | None) -> MaskFiles:
        """Return the masks of a folder as paths, one for each image; masks that are paths already as they are.

        Args:
            images: the paths of the images.
            root: the folder that relative ones start from; None is the current folder.

        Raises:
            ManifestError: the images have no names, or two would have the same mask.
        """
        if self.folder is None:
            return self
        if not len(images) or not isinstance(images[0], str):
            raise ManifestError(
                "images in memory have no names that masks in a folder could have: pass a list of masks"
            )
        folder = os.path.relpath(self.folder, root or Path.cwd())
        taken: dict[str, str] = {}
        for image in images:
            name = image.rpartition("/")[2] if image.startswith("/") else image
            path = f"{folder}/{name.removesuffix(PurePosixPath(name).suffix)}{self.suffix}"
            if path in taken:
                raise ManifestError(
                    f"{taken[path]!r} and {image!r} would have the same mask, {path!r}: pass a list of masks"
                )
            taken[path] = image
        return MaskFiles(TextList.from_texts(taken), bits=self.bits)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the target."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def fill(self) -> int:
        """The number where there is no image: 255, or 65535 of 16 bits."""
        return int(np.iinfo(self.dtype).max)


def _restore(paths: TextList, folder: str | None, suffix: str, bits: int) -> MaskFiles:
    return MaskFiles(paths if folder is None else folder, suffix=suffix, bits=bits)
