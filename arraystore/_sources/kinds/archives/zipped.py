"""The members of a zip file, listed from its directory."""

import os
import zipfile
import zlib
from contextlib import closing

from arraystore._sources.kinds.archives.members import DEFLATED_IN_ZIP, STORED_IN_ZIP, Index, OpenArchive
from arraystore.errors import Kind, ManifestError

_METHODS = {zipfile.ZIP_STORED: STORED_IN_ZIP, zipfile.ZIP_DEFLATED: DEFLATED_IN_ZIP}
_METHOD_NAMES = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 98: "PPMd", 99: "AES"}
_ENCRYPTED = 1
_UNIX, _LINK, _KIND = 3, 0o120000, 0o170000


def zip_index(path: str) -> Index:
    """List the members of a zip file in its order. Of members with one name the last one counts.

    Raises:
        ManifestError: the file is missing or damaged.
    """
    with closing(OpenArchive(path)) as archive:
        index = Index(path, archive.stamp)
        try:
            with open(archive.descriptor, "rb", closefd=False) as file, zipfile.ZipFile(file) as directory:
                members = directory.infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, zlib.error, OverflowError) as error:
            raise ManifestError(
                f"{path}: the zip file cannot be listed: {error}", source=path, reason=str(error), kind=Kind.DAMAGED
            ) from error
    for info in members:
        raw = os.fsencode(info.filename)
        if raw.endswith(b"/"):
            continue
        place = (info.header_offset, info.compress_size, info.file_size, _METHODS.get(info.compress_type, 0), info.CRC)
        member, reason = index.add(raw, place), _fault(info)
        if member is not None and reason:
            index.faults[member] = reason
    return index


def _fault(info: zipfile.ZipInfo) -> str:
    """Return why a member cannot be read; empty if it can."""
    if info.flag_bits & _ENCRYPTED:
        return "encrypted in the archive: unpack it"
    if info.compress_type not in _METHODS:
        method = _METHOD_NAMES.get(info.compress_type, f"method {info.compress_type}")
        return f"compressed by {method} in the archive: unpack it, or zip it again without compression"
    if info.create_system == _UNIX and info.external_attr >> 16 & _KIND == _LINK:
        return "a symbolic link in the archive: unpack it"
    return ""
