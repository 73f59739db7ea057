"""The errors of a volume that is full: of bytes, of files, or by somebody's quota."""

import errno
import os
from pathlib import Path

from arraystore._common.limits import free_disk_bytes
from arraystore.errors import SpaceError

_FULL_VOLUME = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_full(error: OSError) -> bool:
    """Return whether an error of the system says that a volume takes no more."""
    return not isinstance(error, SpaceError) and error.errno in _FULL_VOLUME


def too_small(folder: Path, needed: int, cause: OSError | None = None) -> SpaceError:
    """Return the error of a volume that has no room for the store.

    Args:
        folder: where the store shall be.
        needed: bytes that the store takes.
        cause: what the system said, if it has refused a write.
    """
    free = free_disk_bytes(folder)
    message = _full_beside_bytes(folder, cause) if free >= needed else None
    return SpaceError(
        message
        or f"the store needs {needed / 1e9:.2f} GB, {free / 1e9:.2f} GB are free on the volume of {folder}: "
        "free some space, choose another volume, or a smaller size",
        needed_bytes=needed,
        free_bytes=free,
    )


def filled_up(folder: Path, needed: int, kept: Path, cause: OSError) -> SpaceError:
    """Return the error of a volume that filled up during a build, whose work is ``kept``; else as `too_small`."""
    free = free_disk_bytes(folder)
    full = _full_beside_bytes(folder, cause) if free >= needed else None
    told = full or f"the volume of {folder} filled up, {free / 1e9:.2f} GB are free: what is done"
    middle = f". What is done is kept in {kept}, and the same call continues from there" if full else None
    return SpaceError(
        told + (middle or f" is kept in {kept}; free some space, and the same call continues from there"),
        needed_bytes=needed,
        free_bytes=free,
    )


def _full_beside_bytes(folder: Path, cause: OSError | None) -> str | None:
    """Return what a volume with enough free bytes lacks, with advice; None if that is not known."""
    volume = os.statvfs(folder)
    if volume.f_files and not volume.f_favail:
        return (
            f"the volume of {folder} has no room for another file, though bytes are free (it is out of inodes): "
            "delete some files there, or choose another volume"
        )
    if cause is None:
        return None
    return (
        f"the volume of {folder} refuses to take more, though bytes are free ({cause.strerror}): "
        "ask for a larger quota or file size limit, or choose another volume"
    )
