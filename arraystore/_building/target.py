"""Where a build puts its store."""

import os
import re
from pathlib import Path

from arraystore.errors import SpecError

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


def target_path(target: str | os.PathLike[str]) -> Path:
    """Return the path of a target, with ``~`` expanded.

    Raises:
        SpecError: its name asks for another format, or it is a URL.
    """
    text = os.fspath(target)
    if _URL.match(text):
        raise SpecError(f"{text} is a URL: build into a local folder, and copy the store when it is finished")
    path = Path(text).expanduser()
    meant = _OTHERS.get(path.suffix.lower())
    if meant is not None:
        raise SpecError(f"the target {text} cannot be a {path.suffix}: {meant}")
    return path
