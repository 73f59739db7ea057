"""The table of the media on disk, and which of them a path means, or none. RAM, which has no path, is in `opening`."""

import os
import re
from pathlib import Path

from arraystore._common.checks import expanded
from arraystore._sources.entries import describes_store
from arraystore._stores.encoded.hdf5 import ENCODED_HDF5, keeps_jpegs
from arraystore._stores.encoded.medium import ENCODED
from arraystore._stores.hdf5 import HDF5
from arraystore._stores.medium import Medium
from arraystore._stores.npy import NPY
from arraystore.errors import FormatError, Kind, Option, SpecError
from arraystore.spec import ImageSpec

# The first medium must be a folder: it serves targets and folders that no other medium recognizes.
MEDIA: tuple[Medium, ...] = (NPY, ENCODED, HDF5, ENCODED_HDF5)
_OF_JPEGS = {NPY.name: ENCODED, HDF5.name: ENCODED_HDF5}  # what targets ask for whose slots are encoded
_SIGNATURE_BYTES = max(len(medium.signature) for medium in MEDIA)


def medium_of(target: str | os.PathLike[str], spec: ImageSpec | None = None) -> Medium:
    """Return the medium that the suffix of a target asks for, and the spec of its slots.

    Raises:
        SpecError: no such medium keeps JPEGs.
    """
    suffix = Path(target).suffix.lower()
    medium = next((medium for medium in MEDIA if suffix in medium.suffixes), MEDIA[0])
    if spec is None or spec.encode is None:
        return medium
    if medium.name not in _OF_JPEGS:
        raise SpecError(
            f"the target {target} asks for a {medium.label}, which keeps no JPEGs",
            advice=f"leave out the suffix {suffix}, or store pixels with {{0}}",
            options=[Option("encode", "none")],
        )
    return _OF_JPEGS[medium.name]


def medium_at(path: Path) -> Medium | None:
    """Return the medium of the store at a path; None if nothing lies there. The store may still be damaged."""
    if path.is_dir():
        folders = (medium for medium in MEDIA if medium.is_folder)
        return next((medium for medium in folders if (path / medium.pixels).exists()), MEDIA[0])
    if not path.is_file():
        return None
    named = medium_of(path)
    if named.is_folder:
        named = next(medium for medium in MEDIA if not medium.is_folder)
    return ENCODED_HDF5 if named is HDF5 and keeps_jpegs(path) else named


def store_at(source: object) -> Path | None:
    """Return the path of the store that the source of a build names; None if it names something else.

    The first bytes of what lies there tell, so the store may still be damaged. A folder that holds a store is never one
    of images, so the two cannot be confused.
    """
    if not isinstance(source, str | os.PathLike):
        return None
    try:
        path = expanded(source)
        if path.is_dir():
            return path if describes_store(path) else None
        if not path.is_file():
            return None
        with path.open("rb") as file:
            start = file.read(_SIGNATURE_BYTES)
    except Exception:  # an object of the caller may raise anything; what it is no path of, others say
        return None
    signatures = [medium.signature for medium in MEDIA if medium.signature]
    return path if start.startswith(tuple(signatures)) else None


# Names that ask for a file of another format, or for another place, and what to pass for what was meant.
_OTHERS = {
    ".npy": "a store is a folder with images.npy in it: leave out the suffix",
    ".npz": "a store is a folder of .npy files: leave out the suffix",
    ".zarr": "Zarr is not written: end the name in .h5, or leave out the suffix",
    ".tfrecord": "TFRecord is not written: end the name in .h5, or leave out the suffix",
    ".tfrecords": "TFRecord is not written: end the name in .h5, or leave out the suffix",
    ".parquet": "Parquet is not written: end the name in .h5, or leave out the suffix",
    ".csv": "no table is written: end the name in .h5, or leave out the suffix",
    ".zip": "no archive is written: end the name in .h5, or leave out the suffix",
    ".tar": "no archive is written: end the name in .h5, or leave out the suffix",
    ".pt": "PyTorch's files are not written: end the name in .h5, or leave out the suffix",
    ".lmdb": "LMDB is not written: end the name in .h5, or leave out the suffix",
}
_URL = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+:/")


def store_path(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a store, with ``~`` expanded.

    Raises:
        FormatError: it is a URL.
    """
    text = os.fspath(path)
    if _URL.match(text) and not os.path.lexists(text):
        raise FormatError(
            f"{text} is a URL, and stores are opened from local paths",
            source=text,
            kind=Kind.UNSUPPORTED,
            advice="copy the store to this machine first",
        )
    return expanded(text).absolute()


def target_path(target: str | os.PathLike[str]) -> Path:
    """Return the path of a target, with ``~`` expanded.

    Raises:
        SpecError: its name asks for another format, or it is a URL.
    """
    text = os.fspath(target)
    if _URL.match(text):
        raise SpecError(f"{text} is a URL: build into a local folder, and copy the store when it is finished")
    path = expanded(text)
    if text.startswith("~") and path == Path(text):
        raise SpecError(f"{text} is in the home folder of no user: write the whole path, or ./{text}")
    meant = _OTHERS.get(path.suffix.lower())
    if meant is not None:
        raise SpecError(f"the target {text} cannot be a {path.suffix}: {meant}")
    return path
