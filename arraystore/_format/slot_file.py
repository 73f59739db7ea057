"""Arrays in files: where the slots lie, how they are mapped and written, and the .npy format."""

import errno
import math
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from arraystore._format.files import keep_os_error, write_at
from arraystore.errors import FormatError

PAGE_BYTES = 4096
PIXELS_OFFSET = PAGE_BYTES  # so that slots of a multiple of 4 KiB share no page, and direct I/O is possible
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_UINT8 = np.dtype(np.uint8)
_CANNOT_MAP = (errno.ENODEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


@dataclass(frozen=True, slots=True)
class FilePart:
    """A range of bytes of a file."""

    path: str
    begin: int
    size: int

    def read_into(self, buffer: memoryview) -> int:
        """Read the bytes, and return how many there were; fewer where the file was cut short."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            done = 0
            while done < self.size and (count := os.preadv(descriptor, [buffer[done : self.size]], self.begin + done)):
                done += count
            return done
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class SlotFile:
    """Where slots lie in a file. A worker in another process gets it to map the slots there.

    If the volume has not reserved every byte and is full, a write to a mapping ends the process (SIGBUS). Slots are
    then written by `write`, which raises an error. So they are where the volume cannot map a file to be written.
    """

    path: str
    offset: int
    shape: tuple[int, ...]
    reserved: bool = True

    @property
    def slot_bytes(self) -> int:
        return math.prod(self.shape[1:])

    @property
    def stored(self) -> int:
        """How many slots the file has room for as it is; 0 if it does not exist."""
        path = Path(self.path)
        return max(path.stat().st_size - self.offset, 0) // self.slot_bytes if path.is_file() else 0

    def write(self, start: int, pixels: npt.NDArray[np.uint8]) -> None:
        """Write C-order ``pixels`` into the slots from ``start`` on."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            write_at(descriptor, np.ascontiguousarray(pixels).data.cast("B"), self.byte_of(start))
        finally:
            os.close(descriptor)

    def read(self, slot: int) -> bytes:
        """Return the bytes of a slot, read by system calls; fewer where the file was cut short."""
        data = bytearray(self.slot_bytes)
        return bytes(data[: self.part(slot).read_into(memoryview(data))])

    def part(self, slot: int) -> FilePart:
        """Return where the bytes of a slot lie."""
        return FilePart(self.path, self.byte_of(slot), self.slot_bytes)

    def byte_of(self, slot: int) -> int:
        """Return the offset of a slot in bytes."""
        return self.offset + slot * self.slot_bytes

    def map(self, *, writable: bool = False, start: int = 0, count: int | None = None) -> npt.NDArray[np.uint8]:
        """Map ``count`` slots from ``start``, or all; uint8, (count, *slot_shape); the mapping ends with the array."""
        shape = (self.shape[0] - start if count is None else count, *self.shape[1:])
        advice = "repair the store, or build it again"
        return map_array(Path(self.path), _UINT8, self.byte_of(start), shape, writable=writable, advice=advice)


@dataclass(frozen=True, slots=True, eq=False)
class EncodedFile:
    """Where slots lie in a file that are of different lengths: JPEGs, one after the other.

    Attributes:
        path: of the file.
        offset: of the first slot's first byte.
        offsets: uint64, (N + 1,): where each slot begins, counted from there; the last is the end of the last slot.
        shape: that the decoded slots would have as one array; None for sides that differ.
    """

    path: str
    offset: int
    offsets: npt.NDArray[np.uint64]
    shape: tuple[Any, ...]

    def part(self, slot: int) -> FilePart:
        """Return where the bytes of a slot lie."""
        begin, end = self.offsets[slot : slot + 2].tolist()
        return FilePart(self.path, self.offset + begin, end - begin)


class EncodedSlots(Protocol):
    """Slots of different lengths in memory."""

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shape that the decoded slots would have as one array; None for sides that differ."""

    @property
    def nbytes(self) -> int:
        """The bytes of all slots."""

    def bytes_of(self, row: int) -> memoryview:
        """Return the bytes of a slot."""


def npy_header(shape: Sequence[int], dtype: np.dtype[Any] = _UINT8, *, size: int = PIXELS_OFFSET) -> bytes:
    """Return the header of a C-order .npy file, ``size`` bytes long."""
    sides = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    kind = np.lib.format.dtype_to_descr(dtype)
    text = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': ({sides}), }}".encode("ascii")
    length = size - len(_NPY_MAGIC) - 2
    return _NPY_MAGIC + length.to_bytes(2, "little") + text.ljust(length - 1) + b"\n"


def npy_form(path: Path) -> tuple[np.dtype[Any], tuple[int, ...], bool, int]:
    """Return what the header of a .npy file says: dtype, shape, Fortran order or not, and the offset of the values.

    Raises:
        FormatError: this is no .npy file.
    """
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = reader(file)
            return dtype, tuple(shape), bool(fortran), file.tell()
    except Exception as error:  # NumPy parses the header as Python, so damage can raise any error of Python's parser
        keep_os_error(error)
        raise FormatError(f"{path} is not a .npy file that can be read: {error!s:.200}", source=str(path)) from error


def npy_slots(path: Path) -> SlotFile:
    """Return where the slots of a uint8 .npy file lie, read from its header.

    Raises:
        FormatError: this is no .npy file, or not one of uint8 in C order.
    """
    dtype, shape, fortran, offset = npy_form(path)
    if fortran or dtype != np.uint8:
        raise FormatError(f"{path} should hold uint8 in C order, it holds {dtype}", source=str(path))
    return SlotFile(str(path), offset, shape)


def byte_rows(path: Path) -> SlotFile:
    """Return where the rows of a .npy file in C order lie; the bytes of a row are one axis.

    Raises:
        FormatError: this is no .npy file.
    """
    dtype, (count, *sides), _, offset = npy_form(path)
    return SlotFile(str(path), offset, (count, math.prod(sides) * dtype.itemsize))


def map_array(
    path: Path,
    dtype: np.dtype[Any],
    offset: int,
    shape: tuple[int, ...],
    *,
    writable: bool = False,
    advice: str = "copy or write it again",
) -> npt.NDArray[Any]:
    """Map an array that lies in a file in C order.

    Raises:
        FormatError: the file is too short for the array, or no array can have that shape.
        OSError: see `map_file`.
    """
    size, needed = path.stat().st_size, offset + math.prod(shape) * dtype.itemsize
    if needed > size:
        raise FormatError(
            f"{path} is {size:,} bytes long, but {dtype} of shape {shape} needs {needed:,}: the file was cut short",
            source=str(path),
            advice=advice,
        )
    try:
        if needed == offset:
            return np.empty(shape, dtype)
        return map_file(path, dtype, offset, shape, writable=writable)
    except (ValueError, OverflowError) as error:
        raise FormatError(f"{path} cannot be mapped as {dtype} of shape {shape}: {error}", source=str(path)) from error


def map_file(
    path: str | Path,
    dtype: np.dtype[Any],
    offset: int,
    shape: tuple[int, ...],
    order: Literal["C", "F"] = "C",
    *,
    writable: bool = False,
) -> np.memmap[Any, Any]:
    """Map an array of a file.

    Some volumes, such as those of FUSE, share no mappings. There the array gets a private one, which is only read, and
    must not be used for a file that changes.

    Raises:
        OSError: the file cannot be opened, or the volume cannot map it.
    """
    try:
        return np.memmap(path, dtype, "r+" if writable else "r", offset, shape, order)
    except OSError as error:
        if writable or not cannot_map(error):
            raise
    try:
        array: np.memmap[Any, Any] = np.memmap(path, dtype, "c", offset, shape, order)
    except OSError as error:
        if not cannot_map(error):
            raise
        message = "its volume cannot map files into memory, which arraystore needs: copy or build it on another volume"
        raise OSError(error.errno, message, str(path)) from error
    array.flags.writeable = False
    return array


def expect_random(array: npt.NDArray[Any]) -> None:
    """Let the system read no more of a mapped array than what is asked for; nothing happens to one in memory."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, "MADV_RANDOM"):
        base.madvise(mmap.MADV_RANDOM)


def cannot_map(error: OSError) -> bool:
    """Return whether an error says that a volume has no mappings of the kind that was asked for."""
    return error.errno in _CANNOT_MAP


def write_npy(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a small array as .npy, and fsync it."""
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def read_npy(path: Path, rows: int) -> npt.NDArray[Any]:
    """Map a .npy file that must have ``rows`` rows; read-only. Where the volume cannot map, it is read.

    Raises:
        FormatError: the file is missing, damaged, cut short, or has another number of rows.
        OSError: see `keep_os_error`.
    """
    try:
        array = _load_npy(path, mapped=rows > 0)
    except Exception as error:  # see npy_form
        keep_os_error(error)
        raise FormatError(f"{path} cannot be read: {error!s:.200}", source=str(path)) from error
    if array.ndim == 0 or array.shape[0] != rows:
        raise FormatError(f"{path} should have {rows:,} rows, its shape is {array.shape}", source=str(path))
    return array


def _load_npy(path: Path, *, mapped: bool) -> npt.NDArray[Any]:
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
    except OSError as error:
        if not (mapped and cannot_map(error)):
            raise
        array = np.load(path, allow_pickle=False)
        array.flags.writeable = False
    return array
