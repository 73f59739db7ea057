"""The ledger: one row a slot that says what the slot holds. Each row has a check, so a torn row claims nothing.

`arraystore._format.specification` specifies the file. It is read through a mapping, which takes no memory of the
process, and written by system calls, because a write to a mapping of a full volume ends the process.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._common.forks import OwnDescriptor
from arraystore._format.files import reserve_file, write_at
from arraystore._format.slot_file import PAGE_BYTES, cannot_map, npy_header
from arraystore._format.specification import EMPTY
from arraystore._sources.targets.own_columns import MASK_FIELDS
from arraystore.spec import ImageSpec

ENCODED_FIELDS = ("begin", "length")  # of a slot's JPEG
_SIDE_FIELDS = ("slot_height", "slot_width", "slot_orientation")
_CHECK_BYTES = 8  # the first field of a row
_BLOCK_ROWS = 1 << 16


class Ledger:
    """``ledger.npy``, new or as an earlier call left it. Rows that are missing at its end are added and claim nothing.

    Its ``rows``, (N,), of `ledger_dtype`, show the rows that `claim` writes, and are not written by others. They are a
    mapping, or a copy in memory where the volume shares no mappings.
    """

    def __init__(self, path: Path, count: int, spec: ImageSpec, *, masked: bool = False) -> None:
        dtype = ledger_dtype(spec, masked=masked)
        header = npy_header((count,), dtype)
        self._start = len(header)
        self._row_bytes = dtype.itemsize
        reserve_file(path, self._start + count * self._row_bytes, header=header)
        self._file = OwnDescriptor(path, os.O_RDWR)
        try:
            os.fsync(self._file.number)
            self.rows, self._copy = _rows_of(path, dtype, self._start, count)
        except BaseException:
            self._file.close()
            raise

    def claim(self, start: int, rows: npt.NDArray[np.void]) -> None:
        """Write rows from slot ``start`` on, with their checks. The pixels must be durable already."""
        checked = with_checks(rows, start)
        data = checked.view(np.uint8).data
        write_at(self._file.number, data, self._start + start * self._row_bytes)
        if self._copy is not None:
            self._copy[start : start + len(rows)] = checked

    def claim_all(self, runs: Sequence[tuple[int, npt.NDArray[np.void]]]) -> None:
        """Do as `claim` for several runs: for many short ones this takes a fraction of the time."""
        if not runs:
            return
        rows = np.concatenate([rows for _, rows in runs])
        slots = [slot for start, rows in runs for slot in range(start, start + len(rows))]
        rows["check"] = np.where(rows["status"] == EMPTY, 0, _checks(rows, slots))
        at = 0
        for start, each in runs:
            checked = rows[at : at + len(each)]
            write_at(self._file.number, checked.view(np.uint8).data, self._start + start * self._row_bytes)
            if self._copy is not None:
                self._copy[start : start + len(each)] = checked
            at += len(each)

    def withdraw(self, slots: npt.NDArray[np.int64]) -> None:
        """Durably clear the checks of rows, so that they claim nothing; their other fields stay readable."""
        for slot in slots.tolist():
            write_at(self._file.number, memoryview(bytes(_CHECK_BYTES)), self._start + slot * self._row_bytes)
        if self._copy is not None:
            self._copy["check"][slots] = 0
        if slots.size:
            self.sync()

    def sync(self) -> None:
        os.fdatasync(self._file.number)

    def close(self) -> None:
        """Close the file; ``rows`` stays mapped as long as it is referenced."""
        self._file.close()


def _rows_of(
    path: Path, dtype: np.dtype[np.void], start: int, count: int
) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void] | None]:
    """Return the rows as others read them, and the copy to keep up to date where they are not a mapping."""
    try:
        return np.memmap(path, dtype, "r", start, (count,)).view(np.ndarray), None
    except OSError as error:
        if not cannot_map(error):
            raise
    copy = np.fromfile(path, dtype, count, offset=start)
    rows = copy.view()
    rows.flags.writeable = False
    return rows, copy


def read_ledger(path: Path, count: int, spec: ImageSpec, *, masked: bool = False) -> npt.NDArray[np.void]:
    """Return a copy of a ledger's rows for ``count`` slots; rows that are missing claim nothing."""
    rows = np.zeros(count, ledger_dtype(spec, masked=masked))
    data = path.read_bytes()[PAGE_BYTES:][: rows.nbytes]
    rows.view(np.uint8)[: len(data)] = np.frombuffer(data, np.uint8)
    return rows


def with_checks(rows: npt.NDArray[np.void], start: int) -> npt.NDArray[np.void]:
    """Return a copy of the rows from slot ``start`` on with their checks; the row of an empty slot claims nothing."""
    rows = rows.copy()
    rows["check"] = np.where(rows["status"] == EMPTY, 0, _checks(rows, range(start, start + len(rows))))
    return rows


def claimed_rows(rows: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
    """Return for each row of a ledger, from slot 0 on, whether it claims its slot: bool, (N,)."""
    claims = np.zeros(len(rows), bool)
    for start in range(0, len(rows), _BLOCK_ROWS):
        block = rows[start : start + _BLOCK_ROWS]
        claims[start : start + len(block)] = _claims(block, np.arange(start, start + len(block)))
    return claims


def side_fields(spec: ImageSpec) -> tuple[str, ...]:
    """Return the fields of a row that say the shape of its slot, where slots differ in shape; none where they do not.

    They are height and width, and of a source that is kept as it is also the orientation of its JPEG.
    """
    if spec.one_shape:
        return ()
    return _SIDE_FIELDS if spec.encode is not None and spec.encode.source else _SIDE_FIELDS[:2]


def mask_pixels(rows: npt.NDArray[np.void], spec: ImageSpec) -> npt.NDArray[np.int64]:
    """Return how many pixels each mask of a slot has that follows its JPEG in the file that a build appends to: (N,).

    It is 0 where slots have one shape: their masks lie in files of their own.
    """
    if spec.one_shape:
        return np.zeros(len(rows), np.int64)
    pixels: npt.NDArray[np.int64] = rows["slot_height"].astype(np.int64) * rows["slot_width"]
    return pixels


def sides_in(rows: npt.NDArray[np.void], spec: ImageSpec) -> npt.NDArray[np.int32]:
    """Return the `side_fields` of slots: int32, (N, 2) or (N, 3); zeros where a slot has no image."""
    return np.stack([rows[name] for name in side_fields(spec)], axis=1).astype(np.int32)


def chosen_claims(rows: npt.NDArray[np.void], slots: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return for some slots whether the rows of a ledger claim them: bool, (k,)."""
    return _claims(rows[slots], slots)


def _claims(rows: npt.NDArray[np.void], slots: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return whether each of some rows claims its slot."""
    claims: npt.NDArray[np.bool_] = rows["check"] != 0
    written = np.flatnonzero(claims)
    if written.size:
        whole = rows if written.size == len(rows) else rows[written]
        claims[written] = whole["check"] == _checks(whole, slots[written].tolist())
    return claims


def _checks(rows: npt.NDArray[np.void], slots: range | list[int]) -> npt.NDArray[np.uint64]:
    """Return the check of each row. It is never 0, which is the check of a row that was not written."""
    size = rows.dtype.itemsize
    data = memoryview(rows.tobytes())
    starts = range(0, len(data), size)
    digest = xxhash.xxh3_64_intdigest
    checks = [digest(data[at + _CHECK_BYTES : at + size], slot) or 1 for at, slot in zip(starts, slots, strict=True)]
    return np.array(checks, np.uint64)


def name_hash(source: object, masks: Sequence[object] = ()) -> int:
    """Return a hash that tells from which source a slot was filled.

    It is that of the path of a file, or of the values of an array, with the paths of its masks. It is 0 for encoded
    bytes, which the digest of the manifest covers, and for what no slot can be filled from. A mask that is no
    file has no part in it: its stamp tells it.
    """
    data: bytes | memoryview
    if isinstance(source, str):
        data = os.fsencode(source)
    elif isinstance(source, np.ndarray) and source.dtype.kind in "biuf":
        data = np.ascontiguousarray(source).data
    else:
        return 0
    digest = xxhash.xxh3_64(data)
    for mask in masks:
        digest.update(b"\0" + (os.fsencode(mask) if isinstance(mask, str) else b""))
    return digest.intdigest() or 1


def reason_lines(
    start: int, rows: npt.NDArray[np.void], reasons: Mapping[int, str], notes: Mapping[int, str]
) -> Iterator[dict[str, Any]]:
    """Yield the lines of ``reasons.jsonl`` for slots whose rows begin with slot ``start``."""
    for slot, why in reasons.items():
        yield {"slot": slot, "reason": why}
    for slot, note in notes.items():
        name, checksum = noted_key(rows[slot - start])
        yield {"name": name, "checksum": checksum, "note": note}


def read_reasons(path: Path) -> tuple[dict[int, str], dict[tuple[int, int], str]]:
    """Read ``reasons.jsonl``: reasons by slot, notes by `noted_key`. A line that was cut short is passed over."""
    reasons: dict[int, str] = {}
    noted: dict[tuple[int, int], str] = {}
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError, RecursionError):
                members = json.loads(line)
                if "note" in members:
                    noted[int(members["name"]), int(members["checksum"])] = str(members["note"])
                else:
                    reasons[int(members["slot"])] = str(members["reason"])
    return reasons, noted


def noted_key(row: np.void) -> tuple[int, int]:
    """Return what a note is about: these pixels of this source, because an update may move them to another slot."""
    return int(row["name"]), int(row["checksum"])


@cache
def ledger_dtype(spec: ImageSpec, *, masked: bool = False) -> np.dtype[np.void]:
    """Return the type of the row that a build keeps for each slot until the store is published.

    Its fields: check (see `arraystore._format.specification`), status, checksum, height and width of the upright image,
    bytes, mtime (ns) and hash of the source, its `name_hash`, and for each channel the sum of the slot's pixels and of
    their squares. Where slots are encoded, there follow the first byte of the slot's JPEG in the file that the build
    appends to, and its length; then the `side_fields`. Where images have masks, there follow for all masks of the slot
    together their `masks_stamp`, the hash of their files, one after the other, and the checksum of their numbers.
    """
    encoded = [(name, "<u8") for name in ENCODED_FIELDS] if spec.encode is not None else []
    sides = [(name, "<u4") for name in side_fields(spec)]
    masks = [(name, "<u8") for name in MASK_FIELDS] if masked else []
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
            ("name", "<u8"),
            ("sums", "<u8", (spec.channels, 2)),
            *encoded,
            *sides,
            *masks,
        ]
    )
