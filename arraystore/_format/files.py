"""Files of a store: reserve space, write all bytes or raise, read and write JSON, and survive a power loss."""

import contextlib
import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from arraystore.errors import FormatError

JSON_LIMIT_BYTES = 64 << 20
# Errors that come from the limits of the process, the rights of its user, or the abilities of the volume.
_NO_DAMAGE = (
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM),
    *(errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENODEV),
)


def keep_os_error(error: BaseException) -> None:
    """Raise an error again if it is one of the system that says nothing about the file, such as too many open files.

    Call it before an error of reading becomes a FormatError, whose advice is to build the store again.
    """
    if isinstance(error, OSError) and error.errno in _NO_DAMAGE:
        raise error


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of ``data`` at an offset of a file; a single call to the system may write less."""
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def reserve_file(path: Path, size: int, *, header: bytes | bytearray = b"") -> bool:
    """Make a file ``size`` bytes long with all blocks reserved, so that no later write finds the volume full.

    An existing file keeps its bytes, except for the ``header`` at its start and the bytes beyond ``size``. The result
    says whether the blocks are really reserved: volumes that compress or copy on write may not do it.
    """
    with path.open("r+b" if path.exists() else "w+b") as file:
        write_at(file.fileno(), memoryview(header), 0)
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
        except AttributeError:
            pass  # the system has no posix_fallocate
        os.ftruncate(file.fileno(), size)
        return os.fstat(file.fileno()).st_blocks * 512 >= size


def write_json(path: Path, members: Mapping[str, Any]) -> None:
    """Write JSON as UTF-8 and fsync it; a file name that is not UTF-8 keeps its bytes as escaped surrogates."""
    write_text(path, json.dumps(members, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write ASCII text, and fsync it."""
    with path.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FormatError: the file is missing, too large, or not a JSON object.
        OSError: see `keep_os_error`.
    """
    try:
        large = path.stat().st_size > JSON_LIMIT_BYTES
        members = None if large else json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        keep_os_error(error)
        raise FormatError(f"{path} cannot be read: {error}", source=str(path)) from error
    if large:
        raise FormatError(f"{path} is larger than {JSON_LIMIT_BYTES:,} bytes", source=str(path))
    if not isinstance(members, dict):
        raise FormatError(f"{path} should hold a JSON object", source=str(path))
    return members


def fsync_path(path: Path) -> None:
    """Make the contents of a file, or the names in a folder, last through a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # Some network file systems cannot sync a folder; they write its names at once.
        with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
