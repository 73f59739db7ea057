"""Every byte on disk that is not a pixel. This text is the specification of format version 1.

A store is a folder::

    train.store/
      store.json        what this is (below)
      images.npy        the pixels
      status.npy        uint8 (N,): 1 stored, 2 failed (its pixels are zeros); 0 is empty, never in a published store
      checksums.npy     uint64 (N,): xxh3_64, seed 0, of each slot's bytes
      TARGET.npy        one file for each target, axis 0 = N; `labels.npy` holds the main one
      samples.parquet   row i describes slot i
      dropped.parquet   only where bad sources were dropped: `row` in the manifest, `source`, `bytes`, `mtime`, `reason`

or one HDF5 file with the same names: datasets `images`, `status`, `checksums` and `targets/NAME`, groups `samples` and
`dropped` with one dataset a column, and a scalar string dataset `store.json`.

**images.npy** is a NumPy file, format 1.0: uint8, C order, shape (N, C, H, W), or (N, H, W, C) where `layout` is NHWC.
Its header MUST be the one that NumPy writes, padded with spaces so that the pixels start at byte 4096, a page, and slot
i starts at 4096 + i x slot bytes. The file MUST end with the last slot. In HDF5, `images` MUST be contiguous, allocated
early and without filters, and starts at a multiple of 4096; its byte offset is `dset.id.get_offset()`. The HDF5 file
has a superblock of version 2 and MUST end where that says.

**store.json** is UTF-8 JSON of at most 64 MiB, an object with these members; a reader MUST refuse a `format_version`
that it does not know and MUST ignore members that it does not know:

    format            "arraystore"
    format_version    1
    writer            name and version of the program that wrote it
    count             N
    shape             [C, H, W] or [H, W, C]: the shape of one slot, as `layout` has it
    spec              how images became slots: the fields of ImageSpec
    targets           name → {"dtype", "shape"}
    classes           name of a target → names of its codes, code 0 first
    mean, std         a number a channel, 0 to 255, over all stored slots
    manifest_digest   xxh3_128, hexadecimal, of the manifest that was built, before any row was dropped
    root              the folder that relative sources start from, or null
    failed            how many slots have status 2
    origin            the folder or table that alone says all that was built, or null; optional
    digests           name → xxh3_128, hexadecimal, of all in the store that is neither a pixel nor this text; optional
    digest            xxh3_128, hexadecimal, of this text, with these 32 digits as zeros; where there are `digests`

**Digests** have seed 0 and prove what `checksums` does not. In a folder the names are those of all files but images.npy
and store.json, and a digest is of the file's bytes. In HDF5 the names are those of all datasets but `images` and
`store.json`, such as `status`, `targets/labels` and `samples/source`, and a digest is of these bytes: a line of ASCII
JSON, `["<u8", [12]]` and a line feed, with the type as NumPy writes it ("string" for strings) and the shape; then the
values in C order, in that type's bytes, or for strings of each its length as uint64, little endian, and its bytes.
The 32 digits of `digest` are where they last occur in the text. HDF5's own structure has HDF5's own checksums, but for
its global heaps; what no reader goes by is covered by nothing: attributes, gaps between parts, padding in a heap.

**samples.parquet** columns: `source` (string; binary where a name is not valid UTF-8), `label` (string, only where the
labels have classes), `height` and `width` (uint32, of the upright image, 0 if it failed), `bytes` (uint64, of the
encoded source), `mtime` (timestamp in µs, UTC; null where the source is no file), `hash` (uint64, xxh3_64 of the
encoded source; null where it was an array or could not be read), `reason` (string, null unless the slot failed), and
then one column for each text of the manifest.

**Under construction** a store lies in `TARGET.partial/`, beside these files, which go when it is published:

    plan.json         what is being built; the folder counts as begun once this has its name
    ledger.npy        a row a slot (`ledger_dtype`): what is known of it, sealed by a check of its own
    reasons.jsonl     {"slot": i, "reason": text}, a line for each slot that failed
    lock              held by the build that is running: {"host", "pid"}

A row of the ledger *claims* its slot if its `check` is the xxh3_64 of the row's other bytes, with the slot's number as
the seed. So rows may be torn or lost at any byte: what is not whole claims nothing, and nothing else is needed to read
the ones that are. The order of writing is fixed:

1. pixels of finished runs, then fsync of their file;
2. lines of `reasons.jsonl`, then fsync;
3. rows of the ledger, then fsync;
4. when every slot is claimed, all other files, each with fsync, then fsync of the folder;
5. one rename, then fsync of the folder around it. The files above are removed after it.

A claim is withdrawn (its check zeroed, then fsync) before its slot is written again. A file of a published store is
never changed in place.

What that promises. *A killed process*: every claimed slot is taken over by the next call, which decodes only the
others; a claim follows its pixels within about a second, so that much work is done twice. *Power loss*: the same,
on a volume that keeps what it has synced; the target is the whole new store, or what was there before. *A file system
that does not keep its word*: damage is found by `verify`, since each slot has a checksum.

Nothing is pickled; every array is read with `allow_pickle=False`; sizes are checked against the file before mapping.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore.digests import DIGITS, seal
from arraystore.errors import FormatError, SpecError
from arraystore.spec import ImageSpec

__all__ = [
    "EMPTY",
    "FAILED",
    "FORMAT_VERSION",
    "PAGE_BYTES",
    "PIXELS_OFFSET",
    "STORED",
    "Description",
    "SlotFile",
    "fsync_path",
    "ledger_dtype",
    "map_array",
    "npy_form",
    "npy_header",
    "read_json",
    "read_npy",
    "write_at",
    "write_json",
    "write_npy",
]

EMPTY, STORED, FAILED = 0, 1, 2
FORMAT_VERSION = 1
PAGE_BYTES = 4096
PIXELS_OFFSET = PAGE_BYTES  # slots of a multiple of 4 KiB then share no page, and direct I/O is possible
_JSON_LIMIT_BYTES = 64 << 20
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_UINT8 = np.dtype(np.uint8)


def ledger_dtype(channels: int) -> np.dtype[np.void]:
    """The row that a build keeps for each slot until the store is published.

    Fields: check (see the module's text), status, checksum, height and width of the upright image, bytes, mtime (ns)
    and hash of the source, and for each channel the sum of the slot's pixels and of their squares.
    """
    return np.dtype(
        [
            ("check", "<u8"),
            ("status", "u1"),
            ("checksum", "<u8"),
            ("height", "<u4"),
            ("width", "<u4"),
            ("bytes", "<u8"),
            ("mtime", "<i8"),
            ("hash", "<u8"),
            ("sums", "<u8", (channels, 2)),
        ]
    )


@dataclass(frozen=True, slots=True)
class SlotFile:
    """Where slots lie in a file, as a worker in another process needs to know it.

    Attributes:
        path: the file.
        offset: byte at which slot 0 starts.
        shape: (N, *slot_shape).
        reserved: whether the volume has set aside every byte. Where it has not, a store to a mapping may end the
            process (SIGBUS) when the volume is full, so slots are written with `write`, which raises.
    """

    path: str
    offset: int
    shape: tuple[int, ...]
    reserved: bool = True

    @property
    def slot_bytes(self) -> int:
        """Bytes of one slot."""
        return math.prod(self.shape[1:])

    def write(self, start: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Write C-order ``pixels`` into the slots from ``start`` on.

        Raises:
            OSError: the volume is full or failed.
        """
        with open(self.path, "r+b", buffering=0) as file:  # noqa: PTH123 - a Path costs as much again, for each slot
            write_at(file.fileno(), np.ascontiguousarray(pixels).data.cast("B"), self.byte_of(start))

    def byte_of(self, slot: int) -> int:
        """Return the byte of the file at which a slot starts."""
        return self.offset + slot * self.slot_bytes

    def map(self, *, writable: bool = False, start: int = 0, count: int | None = None) -> npt.NDArray[np.uint8]:
        """Map ``count`` slots from ``start``, or all; uint8, (count, *slot_shape); the mapping ends with the array.

        Raises:
            FormatError: the file is too short for them.
        """
        count = self.shape[0] - start if count is None else count
        begin, end = self.byte_of(start), self.byte_of(start + count)
        size = Path(self.path).stat().st_size
        if end > size:
            raise FormatError(
                f"{self.path} is {size:,} bytes long, but slots up to {start + count:,} "
                f"need {end:,}: the file was cut short; build the store again",
                source=self.path,
            )
        if count == 0:
            return np.empty((0, *self.shape[1:]), np.uint8)
        return np.memmap(self.path, np.uint8, "r+" if writable else "r", offset=begin, shape=(count, *self.shape[1:]))


@dataclass(frozen=True, slots=True)
class Description:
    """What store.json says; see the module's text for each member."""

    count: int
    shape: tuple[int, ...]
    spec: ImageSpec
    targets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    manifest_digest: str = ""
    root: str | None = None
    failed: int = 0
    writer: str = ""
    origin: str | None = None
    digests: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the members of store.json, but for its own digest."""
        head = {"format": "arraystore", "format_version": FORMAT_VERSION, "writer": self.writer}
        rest = {key: value for key, value in asdict(self).items() if key not in ("writer", "spec", "digests")}
        return head | rest | {"spec": self.spec.to_dict()} | ({"digests": dict(self.digests)} if self.digests else {})

    def to_text(self) -> str:
        """Return store.json; with digests its last member is its own."""
        return seal(self.to_json()) if self.digests else json.dumps(self.to_json(), indent=2) + "\n"

    @classmethod
    def from_json(cls, members: Mapping[str, Any], source: str) -> Description:
        """Read the members of store.json.

        Raises:
            FormatError: this is no store, or a newer one, or a member is missing or makes no sense.
        """
        if members.get("format") != "arraystore":
            raise FormatError(f"{source} does not describe an arraystore store", source=source)
        version = members.get("format_version")
        if version != FORMAT_VERSION:
            raise FormatError(
                f"{source} has format version {version!r}, this arraystore reads {FORMAT_VERSION}: "
                "upgrade with pip install -U arraystore",
                source=source,
            )
        for name, fits in _MEMBERS.items():
            if name not in members or not fits(members[name]):
                what = f"{name} is {members[name]!r:.200}" if name in members else f"it has no {name}"
                raise FormatError(f"{source} is damaged: {what}; build the store again", source=source)
        for name, fits in _OPTIONAL.items():
            if name in members and not fits(members[name]):
                raise FormatError(
                    f"{source} is damaged: {name} is {members[name]!r:.200}; build the store again", source=source
                )
        try:
            spec = ImageSpec.from_dict(members["spec"])
        except (SpecError, TypeError) as error:
            raise FormatError(f"{source} is damaged: {error}; build the store again", source=source) from error
        description = cls(
            count=members["count"],
            shape=tuple(members["shape"]),
            spec=spec,
            targets=members["targets"],
            classes={key: tuple(names) for key, names in members["classes"].items()},
            mean=tuple(members["mean"]),
            std=tuple(members["std"]),
            manifest_digest=members["manifest_digest"],
            root=members["root"],
            failed=members["failed"],
            writer=members["writer"],
            origin=members.get("origin"),
            digests=members.get("digests", {}),
        )
        if description.shape != spec.slot_shape:
            raise FormatError(
                f"{source} is damaged: shape {description.shape} is not that of the spec's slots, {spec.slot_shape}; "
                "build the store again",
                source=source,
            )
        return description


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(item, kinds) and not isinstance(item, bool) for item in value
    )


def _is_form(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("dtype"), str) and _is_list(value.get("shape"), int)


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and len(value) == DIGITS and set(value) <= set("0123456789abcdef")


def _is_file_name(name: str) -> bool:
    return bool(name) and not name.startswith(".") and not any(part in name for part in ("/", "\\", "\0"))


# Nothing that a damaged or hostile store.json says may lead to anything but a FormatError.
_MEMBERS: dict[str, Callable[[Any], bool]] = {
    "writer": lambda value: isinstance(value, str),
    "count": _is_count,
    "shape": lambda value: _is_list(value, int),
    "spec": lambda value: isinstance(value, dict),
    "targets": lambda value: (
        isinstance(value, dict) and all(map(_is_file_name, value)) and all(map(_is_form, value.values()))
    ),
    "classes": lambda value: isinstance(value, dict) and all(_is_list(names, str) for names in value.values()),
    "mean": lambda value: _is_list(value, (int, float)),
    "std": lambda value: _is_list(value, (int, float)),
    "manifest_digest": lambda value: isinstance(value, str),
    "root": lambda value: value is None or isinstance(value, str),
    "failed": _is_count,
}
_OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "digests": lambda value: isinstance(value, dict) and bool(value) and all(map(_is_digest, value.values())),
    "digest": _is_digest,
    "origin": lambda value: value is None or isinstance(value, str),
}


def npy_header(shape: Sequence[int], dtype: np.dtype[Any] = _UINT8, *, size: int = PIXELS_OFFSET) -> bytes:
    """Return the header of a C-order .npy file, ``size`` bytes long."""
    sides = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    kind = np.lib.format.dtype_to_descr(dtype)
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': ({sides}), }}".encode("ascii")
    length = size - len(_NPY_MAGIC) - 2
    return _NPY_MAGIC + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n"


def npy_form(path: Path) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """Return dtype, shape, whether it is in Fortran's order, and the first value's byte, as a .npy file's header says.

    Raises:
        FormatError: this is no .npy file.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = reader(file)
            return dtype, tuple(shape), bool(fortran), file.tell()
    except Exception as error:  # numpy parses the header as Python, so damage can raise whatever Python's parser does
        raise FormatError(f"{path} is not a .npy file that can be read: {error}", source=str(path)) from error


def npy_slots(path: Path) -> SlotFile:
    """Return where the slots of a uint8 .npy file lie, read from its header.

    Raises:
        FormatError: this is no .npy file, or not one of uint8 in C order.
    """
    dtype, shape, fortran, offset = npy_form(path)
    if fortran or dtype != np.uint8:
        raise FormatError(f"{path} should hold uint8 in C order, it holds {dtype}", source=str(path))
    return SlotFile(str(path), offset, shape)


def map_array(path: Path, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Map an array that lies in a file in C order; read only.

    Raises:
        FormatError: the file is too short for it, or no array can have that shape.
        OSError: the file cannot be read.
    """
    size, needed = path.stat().st_size, offset + math.prod(shape) * dtype.itemsize
    if needed > size:
        raise FormatError(
            f"{path} is {size:,} bytes long, but {dtype} of shape {shape} needs {needed:,}: the file was cut short; "
            "copy or write it again",
            source=str(path),
        )
    try:
        if needed == offset:
            return np.empty(shape, dtype)
        return np.memmap(path, dtype, "r", offset=offset, shape=shape)
    except (ValueError, OverflowError) as error:
        raise FormatError(f"{path} cannot be mapped as {dtype} of shape {shape}: {error}", source=str(path)) from error


def write_npy(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a small array as .npy, and fsync it."""
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def read_npy(path: Path, rows: int) -> npt.NDArray[Any]:
    """Map a .npy file that must have ``rows`` rows; read only.

    Raises:
        FormatError: it is missing, damaged, cut short, or has another number of rows.
    """
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if rows else None, allow_pickle=False)
    except Exception as error:  # see npy_slots
        raise FormatError(f"{path} cannot be read: {error}", source=str(path)) from error
    if array.ndim == 0 or array.shape[0] != rows:
        raise FormatError(f"{path} should have {rows:,} rows, its shape is {array.shape}", source=str(path))
    return array


def write_at(descriptor: int, data: memoryview, offset: int) -> None:
    """Write all of ``data`` at a byte of a file: one call to the system may write less.

    Raises:
        OSError: the volume is full or failed.
    """
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


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
        FormatError: it is missing, too large, or no JSON object.
    """
    try:
        large = path.stat().st_size > _JSON_LIMIT_BYTES
        members = None if large else json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{path} cannot be read: {error}", source=str(path)) from error
    if large:
        raise FormatError(f"{path} is larger than {_JSON_LIMIT_BYTES:,} bytes", source=str(path))
    if not isinstance(members, dict):
        raise FormatError(f"{path} should hold a JSON object", source=str(path))
    return members


def fsync_path(path: Path) -> None:
    """Make a file's contents, or a folder's entries, last through a power loss."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # Some network file systems cannot sync a folder; they write its entries through.
        with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
