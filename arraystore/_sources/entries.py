"""Which files and folders of a tree hold sources, by their names, or by first bytes where a name says nothing."""

import json
import os
import re
from collections.abc import Callable, Collection, Iterable
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

_SNIFFED_BYTES = 24
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


class ImageFiles:
    """Tells which files are images: by the suffix, or by the first bytes where a name says nothing.

    Every kind of source that looks at files asks it, so that a file is an image in all of them or in none.

    Args:
        decoders: suffixes (``".dcm"``) or first bytes (``b"SIMPLE"``) of further files, which functions of the caller
            decode; None for none.
    """

    def __init__(self, decoders: Iterable[str | bytes] | None = None) -> None:
        keys = [*(decoders or ())]
        self._ends = tuple(f".{key.lstrip('.')}".lower().encode() for key in keys if isinstance(key, str))
        self._begins = tuple(key for key in keys if isinstance(key, bytes))
        self._start_bytes = max([_SNIFFED_BYTES, *map(len, self._begins)])

    def are_named(self, name: bytes) -> bool:
        """Return whether a file is an image by its name alone."""
        return has_image_suffix(name) or name.lower().endswith(self._ends)

    def have_suffix(self, suffix: bytes) -> bool:
        """Return whether this, in lower case and without the dot, is a suffix of images; it may have a dot inside."""
        return suffix in _IMAGE_SUFFIXES or b"." + suffix in self._ends

    def hold(self, name: bytes, read_start: Callable[[int], bytes]) -> bool:
        """Return whether a file is an image.

        Args:
            name: of the file.
            read_start: returns so many of its first bytes, fewer where it is shorter, and none where it cannot be read.
                It is called only if the name says nothing.
        """
        if self.are_named(name):
            return True
        suffix = suffix_of(name)
        if suffix in _OTHER_SUFFIXES or suffix.endswith(b"~"):
            return False
        start = read_start(self._start_bytes)
        return start.startswith(self._begins) or any(signature.match(start) for signature in _SIGNATURES)


def start_of(path: bytes, count: int) -> bytes:
    """Return the first ``count`` bytes of a file; fewer where it is shorter, none where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not stop the listing
    except OSError:
        return b""
    try:
        return os.read(descriptor, count)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def is_system_folder(name: bytes) -> bool:
    """Return whether a folder of this name belongs to a system or a program."""
    return name.lower() in _SYSTEM_FOLDERS


def is_own_folder(folder: Path, entries: Collection[bytes]) -> bool:
    """Return whether a folder is a store, or what a build left of one, from the names of `OWN_ENTRIES` that it has."""
    if folder.name.endswith((".partial", ".replaced")) and not _PARTIAL_ENTRIES.isdisjoint(entries):
        return True
    return _DESCRIPTION in entries and describes_store(folder)


def describes_store(folder: Path) -> bool:
    """Return whether the store.json of a folder begins like that of a store; False where it has none."""
    try:
        with (folder / "store.json").open("rb") as file:
            start = file.read(_STORE_JSON_START_BYTES)
    except OSError:
        return False
    return re.match(rb'\s*\{\s*"format":\s*' + json.dumps("arraystore").encode(), start) is not None
