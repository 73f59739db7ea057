"""The table of the media on disk, and which of them a path means. RAM, which has no path, is in `opening`."""

import os
from pathlib import Path

from arraystore._stores.hdf5 import HDF5
from arraystore._stores.medium import Medium
from arraystore._stores.npy import NPY

# The first medium must be a folder: it serves targets and folders that no other medium recognizes.
MEDIA: tuple[Medium, ...] = (NPY, HDF5)


def medium_of(target: str | os.PathLike[str]) -> Medium:
    """Return the medium that the suffix of a target asks for."""
    suffix = Path(target).suffix.lower()
    return next((medium for medium in MEDIA if suffix in medium.suffixes), MEDIA[0])


def medium_at(path: Path) -> Medium | None:
    """Return the medium of the store at a path; None if nothing lies there. The store may still be damaged."""
    if path.is_dir():
        folders = (medium for medium in MEDIA if medium.is_folder)
        return next((medium for medium in folders if (path / medium.pixels).exists()), MEDIA[0])
    if not path.is_file():
        return None
    named = medium_of(path)
    return named if not named.is_folder else next(medium for medium in MEDIA if not medium.is_folder)
