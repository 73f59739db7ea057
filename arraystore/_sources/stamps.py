"""The stamps of sources, their size and time of change, which tell changed files without reading them; and hashes."""

import os
import stat
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

# Of an image as in the ledger, the time in nanoseconds; and the `masks_stamp` of its masks, 0 where it has none.
STAMP = np.dtype([("bytes", "<u8"), ("mtime", "<i8"), ("masks", "<u8")])
_FILES_A_CHUNK = 1024
_READ_BYTES = 1 << 20
_SLOW_STAT_S = 1e-4  # a slower stat is a round trip to another machine
_THREADS = 32
# Whole microseconds whose nanoseconds fit in int64: the years from 1677 to 2262. Volumes and archives hold other times.
_LAST_NS = (2**63 - 1) // 1000 * 1000


def stamp_of(info: os.stat_result) -> tuple[int, int]:
    """Return the size in bytes and the time of change in nanoseconds, each as near as a `STAMP` can hold it."""
    return max(info.st_size, 0), min(max(info.st_mtime_ns, -_LAST_NS), _LAST_NS)


def file_stamp(path: str) -> tuple[int, int]:
    """Return the `stamp_of` a regular file; zeros for anything else."""
    try:
        info = os.stat(path)
    except (OSError, ValueError):
        return 0, 0
    return stamp_of(info) if stat.S_ISREG(info.st_mode) else (0, 0)


def file_stamps(
    path_of: Callable[[int], str],
    rows: npt.NDArray[np.int64],
    masks_of: Callable[[int], int] = lambda _row: 0,
) -> npt.NDArray[np.void]:
    """Return the stamp of each row's file, with the `masks_stamp` that a function gives: dtype `STAMP`, one a row.

    Several threads call the functions.
    """

    def look(chunk: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
        return [(*file_stamp(path_of(row)), masks_of(row)) for row in chunk.tolist()]

    chunks = [rows[at : at + _FILES_A_CHUNK] for at in range(0, len(rows), _FILES_A_CHUNK)]
    began_s = time.perf_counter()
    first = look(chunks[0]) if chunks else []
    # Many threads pay on a network file system; on a local one they would only slow each other down.
    rest: Iterable[list[tuple[int, int, int]]] = map(look, chunks[1:])
    if time.perf_counter() - began_s > len(first) * _SLOW_STAT_S:
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="arraystore-stat") as pool:
            rest = list(pool.map(look, chunks[1:]))
    return np.fromiter(chain(first, *rest), STAMP, len(rows))


def file_hash(path: str) -> int:
    """Return the xxh3_64 of the bytes of a regular file; 0 where it cannot be read."""
    digest = xxhash.xxh3_64()
    return int(digest.intdigest()) if feed_file(digest, path) else 0


def feed_file(digest: Any, path: str) -> bool:
    """Add the bytes of a regular file to a digest, and return whether it could be read."""
    if file_stamp(path) == (0, 0):  # reading a FIFO might never end
        return False
    try:
        with FileIO(path) as file:
            while data := file.read(_READ_BYTES):
                digest.update(data)
    except OSError:
        return False
    return True


def file_hashes(path_of: Callable[[int], str], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return the `file_hash` of each row's file: uint64, one a row; several are read at once."""
    return row_hashes(lambda row: file_hash(path_of(row)), rows)


def row_hashes(hash_of: Callable[[int], int], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return the hash that a function gives for each row: uint64, one a row; several threads call it."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="arraystore-hash") as pool:
        return np.fromiter(pool.map(hash_of, rows.tolist()), np.uint64, len(rows))
