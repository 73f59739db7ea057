"""Which files and folders of a tree hold sources, by their names, or by first bytes where a name says nothing."""

import json
import os
import re
from collections.abc import Collection
from io import FileIO
from pathlib import Path

from arraystore._sources.formats import FORMATS, IMAGE_SUFFIXES

_IMAGE_SUFFIXES = frozenset(suffix.encode() for suffix in IMAGE_SUFFIXES)

# Files of these kinds are left out unopened. Raw photographs begin like a TIFF, whose first page is a thumbnail; the
# last line is of files that are still being written, or copies.
_OTHER_SUFFIXES = frozenset(
    b"txt md rst csv tsv json jsonl ndjson xml yaml yml toml ini cfg html htm pdf doc docx xls xlsx log lst names "
    b"py ipynb sh m r js css npy npz h5 hdf5 hdf mat pkl pickle pt pth ckpt onnx safetensors parquet arrow feather "
    b"db sqlite lmdb mdb tfrecord zarr zip tar gz tgz bz2 xz zst 7z rar md5 sha1 sha256 idx aae xmp thm lnk url "
    b"mp3 wav flac mp4 mov avi mkv webm m4v mpg mpeg 3gp svg psd ai eps ply obj stl pcd las nii dcm "
    b"dng cr2 cr3 crw nef nrw arw sr2 srf orf rw2 raf pef srw 3fr fff iiq rwl x3f erf mef mos kdc dcr raw "
    b"part partial crdownload download tmp temp bak old orig swp".split()
)

# Folders that systems and programs put beside the user's own, in lower case.
_SYSTEM_FOLDERS = frozenset(
    (
        b"@eadir", b"@recycle", b"@recently-snapshot", b"#recycle", b"#snapshot", b"#trash", b"__macosx",
        b"$recycle.bin", b"recycler", b"recycled", b"system volume information", b"found.000", b"lost+found",
        b"__pycache__", b"network trash folder", b"temporary items",
    )
)  # fmt: skip

SNIFFED_BYTES = 24
_BOX_BRANDS = re.compile(rb".{4}ftyp(?:avi[fs]|hei[cxms]|hev[cxms]|mif[12]|msf1|jxl )", re.DOTALL)
_BITMAP = re.compile(rb"BM.{4}.{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL)
_PORTABLE = re.compile(rb"P[1-6]\s+[\d#]|P7\n(?:WIDTH|#)")
_JPEG_XL = re.compile(rb"\xff\x0a|.{4}JXL \r\n\x87\n", re.DOTALL)
# The first bytes of these formats are too common, in texts and videos, to tell an image.
_VAGUE = ("formats.bmp", "formats.netpbm", "formats.isobmff")
_SIGNATURES = (
    *(form.signature for form in FORMATS if form.module not in _VAGUE),
    _BOX_BRANDS,
    _BITMAP,
    _PORTABLE,
    _JPEG_XL,
)

_DESCRIPTION = b"store.json"
_PARTIAL_ENTRIES = frozenset((b"plan.json", b"ledger.npy", b"lock"))
OWN_ENTRIES = _PARTIAL_ENTRIES | {_DESCRIPTION}
_STORE_JSON_START_BYTES = 4096


def suffix_of(name: bytes) -> bytes:
    """Return the suffix of a file's name, in lower case and without the dot; empty where it has none."""
    stem, _, suffix = name.rpartition(b".")
    return suffix.lower() if stem else b""


def has_image_suffix(name: bytes) -> bool:
    """Return whether a file of this name has the suffix of an image."""
    return suffix_of(name) in _IMAGE_SUFFIXES


def tells_nothing(name: bytes) -> bool:
    """Return whether only the first bytes of a file of this name can tell if it is an image."""
    suffix = suffix_of(name)
    return suffix not in _OTHER_SUFFIXES and not suffix.endswith(b"~") and suffix not in _IMAGE_SUFFIXES


def begins_like_an_image(path: bytes, more: tuple[bytes, ...] = ()) -> bool:
    """Return whether a file begins like an image of a known format, or with one of ``more``.

    It is False where the file cannot be read.
    """
    try:
        with FileIO(os.fsdecode(path)) as file:
            start = file.read(max(SNIFFED_BYTES, *map(len, more)) if more else SNIFFED_BYTES)
    except OSError:
        return False
    return start.startswith(more) or starts_an_image(start)


def starts_an_image(start: bytes) -> bool:
    """Return whether the first `SNIFFED_BYTES` of a file are those of an image of a known format."""
    return any(signature.match(start) for signature in _SIGNATURES)


def is_system_folder(name: bytes) -> bool:
    """Return whether a folder of this name belongs to a system or a program."""
    return name.lower() in _SYSTEM_FOLDERS


def is_own_folder(folder: Path, entries: Collection[bytes]) -> bool:
    """Return whether a folder is a store, or what a build left of one, from the names of `OWN_ENTRIES` that it has."""
    if folder.name.endswith((".partial", ".replaced")) and not _PARTIAL_ENTRIES.isdisjoint(entries):
        return True
    if _DESCRIPTION not in entries:
        return False
    try:
        with (folder / "store.json").open("rb") as file:
            start = file.read(_STORE_JSON_START_BYTES)
    except OSError:
        return False
    return re.match(rb'\s*\{\s*"format":\s*' + json.dumps("arraystore").encode(), start) is not None
