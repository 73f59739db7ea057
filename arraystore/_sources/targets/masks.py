"""Masks as targets: for each image a second one, whose pixels are numbers of classes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.options import public
from arraystore._sources.given import raw_paths
from arraystore._sources.targets.held_masks import ClassMasks, MaskList, check_listed, held_masks
from arraystore._sources.text_list import TextList
from arraystore.errors import Kind, ManifestError

BITS = {"mask": 8, "mask16": 16}  # by the kind of a column


@public
class Masks:
    """A mask for each image: a target whose pixels are numbers of classes, with the geometry of its image.

    The numbers are those in the file: indices into the palette, not its colors, or samples of gray. They are never
    mixed: a resized mask has the nearest pixels. A mask shows what its upright image shows, in as many pixels or at
    another scale; one of another shape is a bad image. The target is (N, H, W), with the height and width of slots, and
    a loader crops and mirrors it with the images. Where slots differ in height and width (``fit="keep"``), it is a
    `Ragged` of the numbers of each mask, one row after the other, and ``store.take([3], "mask")`` has that of slot 3.

    Where a slot has no image (beside a padded one, or in a failed slot), its mask has ``fill``, which should be no
    class. A mask of nothing but 0 and 255 beside whose image there is padding is stored with a note.

    Masks are read from PNG, BMP, GIF, TIFF, PGM and PBM files. Samples of 1, 2 or 4 bits are not scaled. Files with
    colors or alpha are bad images, and so are JPEGs and others whose compression may have changed the numbers.

    Args:
        masks: one a row: paths, where relative ones start from where those of the images do; the bytes of files; arrays
            (H, W) of uint8, uint16 or bool, which is 0 and 1; or images of Pillow, of mode P, L, I;16 or 1, whose
            numbers are those that Pillow has. Or one array (N, H, W). Or a folder, in which the masks have the paths of
            the images from their root on, and another suffix: ``"masks/cat/1.png"`` is that of ``"cat/1.jpg"``. Of an
            image whose path is absolute, only its name counts. If the images lie in an archive, so does the folder.
        root: the folder that relative paths start from instead.
        suffix: of the masks in a folder: what follows the path of an image without its own suffix, such as
            ``"_mask.gif"``.
        bits: 8 or 16. With 8 the target is uint8, and a mask with a number above 255 is a bad image; with 16 it is
            uint16.

    Attributes:
        sources: the masks, one a row; paths as given, or under ``root``; empty for a folder, until a `Manifest` gives
            its paths. Arrays and images are neither copied nor read before their images are.
        folder: the absolute folder; None for a list.
        inner_folder: the folder as it may be named in the archive of the images; None for a list, and for a folder that
            is given by a whole path or under ``root``.
        suffix: of the masks in a folder.
        bits: of a number.

    Raises:
        ManifestError: a path is empty, the first item is no mask, others are of another kind, or there is no such
            number of bits.

    Example:
        >>> masks = Masks(["a.png", "b.png"])
        >>> len(masks), masks.fill
        (2, 255)
        >>> list(Masks("/ds/masks").of_images(["cat/1.jpg"], "/ds/images").sources)
        ['../masks/cat/1.png']
    """

    __slots__ = ("bits", "folder", "inner_folder", "sources", "suffix")

    def __init__(
        self,
        masks: Any,
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
        self.inner_folder: str | None = None
        self.sources: TextList | MaskList = TextList.from_raw(())
        if isinstance(masks, str | os.PathLike):
            self.folder = str(base / Path(masks).expanduser())
            if root is None and not Path(masks).expanduser().is_absolute():
                self.inner_folder = os.path.normpath(masks)
        elif isinstance(masks, TextList | MaskList):
            self.sources = masks
        else:
            self.sources = _listed(masks, None if root is None else base)

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        which = f"of {len(self):,}" if self.folder is None else f"in {self.folder!r}"
        return f"<arraystore.Masks {which}, {self.bits} bits>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.sources, self.folder, self.inner_folder, self.suffix, self.bits)

    def of_images(self, images: Sequence[Any], root: str | None) -> Masks:
        """Return the masks of a folder as paths, one for each image; other masks as they are.

        Args:
            images: the paths of the images.
            root: the folder that relative ones start from; None is the current folder.

        Raises:
            ManifestError: the images have no names, or two would have the same mask.
        """
        if self.folder is None:
            return self
        if not (isinstance(images, TextList | list | tuple) and len(images) and isinstance(images[0], str)):
            what = getattr(images, "noun", "images in memory")
            raise ManifestError(
                f"masks in a folder are found by the paths of their images, but these are {what}",
                kind=Kind.INVALID,
                advice="pass a list of masks, or the folder as it is named inside the archive of the images",
            )
        folder = _relative(self.folder, root or str(Path.cwd()))
        taken: dict[str, str] = {}
        for image in images:
            name = image.rpartition("/")[2] if image.startswith("/") else image
            path = f"{folder}/{name.removesuffix(PurePosixPath(name).suffix)}{self.suffix}"
            if path in taken:
                raise ManifestError(
                    f"{taken[path]!r} and {image!r} would have the same mask, {path!r}: pass a list of masks"
                )
            taken[path] = image
        return Masks(TextList.from_texts(taken), bits=self.bits)

    def with_classes(self, target: str, classes: tuple[str, ...]) -> Masks:
        """Return masks whose numbers mean these classes; as they are where nobody has said what theirs mean.

        Args:
            target: the name of the masks.
            classes: see `mask_classes`.

        Raises:
            ManifestError: a mask has a class that is not among these.
        """
        if not isinstance(self.sources, ClassMasks):
            return self
        sources = self.sources.with_classes(target, classes)
        return Masks(sources, bits=sources.bits)

    @property
    def are_files(self) -> bool:
        """Whether the masks are paths, and not in memory or inside other files."""
        return isinstance(self.sources, TextList)

    @property
    def is_fixed(self) -> bool:
        """Whether `identity` covers what every mask holds."""
        return not isinstance(self.sources, TextList) and self.sources.is_fixed and not self.sources.may_name_files

    def name(self, slot: int) -> str:
        """Return the mask of a slot as text: its path as given, or such as ``"array 12"``."""
        return self.sources[slot] if isinstance(self.sources, TextList) else self.sources.name(slot)

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        """Yield what tells these masks from others: values of JSON, and arrays."""
        if isinstance(self.sources, TextList):
            yield [], (self.sources.offsets, self.sources.blob)
            return
        for header, columns in self.sources.identity():
            yield [*header, len(self)], columns

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the target."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def fill(self) -> int:
        """The number where there is no image: 255, or 65535 of 16 bits."""
        return int(np.iinfo(self.dtype).max)


def _listed(masks: Any, root: Path | None) -> TextList | MaskList:
    """Return the masks of a list, an array, or another sequence; a folder that relative paths start from may be given.

    Raises:
        ManifestError: these are no masks.
    """
    check_listed(masks)
    if getattr(masks, "ndim", 1) == 1:
        # A column of pandas, polars or pyarrow, whose index may be any; or an array of texts or of arrays.
        listed = (getattr(masks, name, None) for name in ("to_pylist", "to_list", "tolist"))
        masks = next((function() for function in listed if function is not None), masks)
    if len(masks) and isinstance(masks[0], str | os.PathLike):
        return TextList.from_raw(raw_paths(masks if root is None else [root / path for path in masks]))
    if root is not None:
        raise ManifestError("root is for masks that are paths: leave it out")
    return held_masks(masks)


def _relative(folder: str, root: str) -> str:
    """Return a folder as a path from a root, so that both may move; the whole path if a link lies on the way.

    The parent of a link is not the folder that has the link: ``..`` would lead beside the folder that it means.
    """
    relative = os.path.relpath(folder, root)
    return relative if os.path.realpath(f"{root}/{relative}") == os.path.realpath(folder) else folder


def _restore(sources: TextList | MaskList, folder: str | None, inner: str | None, suffix: str, bits: int) -> Masks:
    masks = Masks(sources if folder is None else folder, suffix=suffix, bits=bits)
    masks.inner_folder = inner
    return masks
