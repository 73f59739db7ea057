"""What every kind of source becomes: a list of sources that lie anywhere, and its targets."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from arraystore._common.ragged import Target
from arraystore._sources.given import path_of
from arraystore._sources.targets.masks import Masks
from arraystore.errors import ManifestError
from arraystore.spec import ImageSpec


class SourceList(Sequence[Any], ABC):
    """The sources of a manifest, in order, where they are neither paths nor objects that the caller holds.

    It pickles without open files.

    Attributes:
        noun: what the sources are, in the plural.
        may_name_files: whether some sources may be paths of files, whose content `identity` cannot cover.
    """

    noun: ClassVar[str] = "images"
    may_name_files: bool = False

    @abstractmethod
    def __getitem__(self, slot: Any) -> Any:
        """Return the source of one slot, as a worker takes it.

        Raises:
            DecodeError: this source cannot be given.
        """

    @abstractmethod
    def name(self, slot: int) -> str:
        """Return the source of a slot as text."""

    @abstractmethod
    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        """Yield what tells these sources from others: values of JSON, and arrays."""

    @property
    def is_fixed(self) -> bool:
        """Whether `identity` covers what every source holds that is no file.

        Then an unfinished build of the same identity needs no source again.
        """
        return True

    def keeps_place(self, spec: ImageSpec) -> bool:
        """Return whether ``spec`` says which part of the image whose size is recorded a slot shows."""
        return True

    def are_files(self, spec: ImageSpec) -> bool:
        """Return whether the names are paths, and a file there, decoded by ``spec``, would give the same pixels."""
        return False


@dataclass(slots=True)
class Found:
    """What a kind of source finds; the names are as in `Manifest`.

    Attributes:
        place: the name of the source, for messages.
        origin: the path that gives all of this again, with the options that the caller gave.
        source_pixels: see `Manifest`, as for ``mask_fills``, ``source_sides`` and ``source_options``.
    """

    sources: Any
    root: str | None = None
    targets: dict[str, Target] = field(default_factory=dict)
    classes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    texts: dict[str, Sequence[str]] = field(default_factory=dict)
    masks: dict[str, Masks] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    place: str = "the source"
    origin: str | None = None
    source_pixels: Mapping[str, str] = field(default_factory=dict)
    mask_fills: Mapping[str, int] = field(default_factory=dict)
    source_sides: npt.NDArray[np.int64] | None = None
    source_options: Mapping[str, Any] = field(default_factory=dict)

    def add_classes(self, names: Sequence[str]) -> None:
        """Make the target ``"labels"`` of the name of each source's class; the codes are those of the sorted names."""
        classes, codes = np.unique(np.asarray(names, object), return_inverse=True)
        self.targets["labels"] = codes.astype(np.int64)
        self.classes["labels"] = tuple(classes.tolist())


def checked_root(root: str | os.PathLike[str] | None) -> str | None:
    """Return the absolute folder that relative paths start from; None for None.

    Raises:
        ManifestError: it is no folder.
    """
    if root is None:
        return None
    path = str(Path(path_of(root, "root")).absolute())
    if not Path(path).is_dir():
        message = f"{path}: root is not a folder: pass the folder that relative paths start from"
        raise ManifestError(message, source=path)
    return path
