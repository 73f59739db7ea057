"""Find the slots whose pixels do not have their checksums, with many threads, at the speed of memory.

A file is read and not mapped: a damaged disk or a truncated file is then an error to report, and does not kill the
process. Each thread has a small buffer, so the bytes are still in the processor's cache when they are hashed.
"""

import math
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._common.digests import BLOCK_BYTES
from arraystore._common.ragged import OFFSETS, VALUES
from arraystore._format.contents import Contents, SlotPixels
from arraystore._format.description import Description
from arraystore._format.samples import file_masks
from arraystore._format.slot_file import EncodedFile, EncodedSlots, FilePart, SlotFile
from arraystore._format.target_forms import check_offsets, is_ragged

Checksums = npt.NDArray[np.uint64]

_LONGEST_RUN_SLOTS = 4096  # each slot of the buffer has a view, which takes more memory than a slot of a few bytes
_REPORT_EVERY_S = 0.1


def wrong_slots(
    slots: SlotPixels,
    checksums: Checksums,
    *,
    workers: int,
    claim: str,
    report: Callable[[int, int], None],
) -> dict[int, str]:
    """Return the slots whose pixels cannot be read or have another checksum, with the reasons.

    ``claim`` is the text in a reason before the checksum that a slot should have. ``report`` is called in the calling
    thread with the bytes that were read since the last call, and the number of slots found so far.
    """
    with _opened(slots) as file:
        return _Pass(file, checksums, claim).run(workers, report)


def bytes_in(slots: SlotPixels) -> int:
    """Return how many bytes the slots have as they are kept."""
    if isinstance(slots, SlotFile):
        return math.prod(slots.shape)
    return int(slots.offsets[-1]) if isinstance(slots, EncodedFile) else slots.nbytes


def mask_parts(contents: Contents, description: Description, name: str) -> Callable[[int], FilePart | Any]:
    """Return the function of a slot that gives where the numbers of its mask lie: in a file, or an array.

    Raises:
        FormatError: the masks cannot be read.
    """
    if not is_ragged(description.targets[name]):
        rows = contents.rows(contents.target(name))
        return rows.part if isinstance(rows, SlotFile) else lambda slot: rows[slot]
    values = contents.rows(contents.target(name + VALUES))
    offsets: npt.NDArray[np.int64] = contents.array(contents.target(name + OFFSETS))
    check_offsets(offsets, values.shape[0], contents.where(contents.target(name + OFFSETS)))
    if not isinstance(values, SlotFile):
        return lambda slot: values[offsets[slot] : offsets[slot + 1]]
    path, item_bytes, start = values.path, values.slot_bytes, values.offset
    ends = offsets * item_bytes + start
    return lambda slot: FilePart(path, int(ends[slot]), int(ends[slot + 1] - ends[slot]))


def _read(part: FilePart) -> memoryview:
    data = memoryview(bytearray(part.size))
    return data[: part.read_into(data)]


def wrong_masks(contents: Contents, description: Description) -> dict[int, str]:
    """Return the slots whose masks do not have the checksum of all of them, with the reasons.

    Raises:
        FormatError: the checksums or the masks cannot be read.
    """
    names = sorted(file_masks(description.masks, contents.column_names()))
    table = contents.table("samples", ["mask_checksum"]) if names else None
    if table is None:
        return {}
    masks = [mask_parts(contents, description, name) for name in names]
    wrong = {}
    for slot, expected in enumerate(table["mask_checksum"].to_pylist()):
        digest = xxhash.xxh3_64()
        for part_of in masks:
            part = part_of(slot)
            digest.update(_read(part) if isinstance(part, FilePart) else part.tobytes())
        if digest.intdigest() != expected:
            wrong[slot] = f"its mask has checksum {digest.intdigest():016x}, it was stored with {expected:016x}"
    return wrong


class _SlotsInFile:
    def __init__(self, slots: SlotFile, descriptor: int) -> None:
        self.count = slots.shape[0]
        self.slot_bytes = math.prod(slots.shape[1:])
        self.run_slots = max(1, min(_LONGEST_RUN_SLOTS, BLOCK_BYTES // self.slot_bytes))
        self._descriptor = descriptor
        self._offset = slots.offset
        self._local = threading.local()

    def checksums(self, start: int, stop: int) -> Checksums:
        """Return the checksums of a run of at most ``run_slots`` slots."""
        begin = self._offset + start * self.slot_bytes
        if self.slot_bytes > BLOCK_BYTES:
            return np.array([self._checksum_of_large(begin)], np.uint64)
        buffer, views = self._memory()
        count = stop - start
        self._read(buffer[: count * self.slot_bytes], begin)
        return np.fromiter(map(xxhash.xxh3_64_intdigest, views[:count]), np.uint64, count)

    def _memory(self) -> tuple[memoryview, list[memoryview]]:
        """Return this thread's buffer, and a view of each slot in it; both are made once for each thread."""
        local, size = self._local, self.slot_bytes
        if not hasattr(local, "buffer"):
            local.buffer = memoryview(bytearray(min(BLOCK_BYTES, self.run_slots * size)))
            local.views = [local.buffer[i * size : (i + 1) * size] for i in range(self.run_slots)]
        return local.buffer, local.views

    def _checksum_of_large(self, begin: int) -> int:
        buffer, _ = self._memory()
        digest = xxhash.xxh3_64()
        for offset in range(0, self.slot_bytes, BLOCK_BYTES):
            block = buffer[: self.slot_bytes - offset]
            self._read(block, begin + offset)
            digest.update(block)
        return int(digest.intdigest())

    def _read(self, buffer: memoryview, offset: int) -> None:
        done = 0
        while done < len(buffer):
            count = os.preadv(self._descriptor, [buffer[done:]], offset + done)
            if count == 0:
                raise EOFError("the file ends before their last byte")
            done += count


class _EncodedInFile:
    """JPEGs in a file; a run of them is read at once."""

    def __init__(self, slots: EncodedFile, descriptor: int) -> None:
        self.count = len(slots.offsets) - 1
        total = int(slots.offsets[-1])
        self.slot_bytes = -(-total // max(self.count, 1))  # on average
        self.run_slots = max(1, min(_LONGEST_RUN_SLOTS, BLOCK_BYTES // max(1, self.slot_bytes)))
        self._slots = slots
        self._descriptor = descriptor

    def checksums(self, start: int, stop: int) -> Checksums:
        bounds = self._slots.offsets[start : stop + 1].tolist()
        size = bounds[-1] - bounds[0]
        if size > 4 * BLOCK_BYTES:
            return np.fromiter(map(self._checksum, range(start, stop)), np.uint64, stop - start)
        data = memoryview(os.pread(self._descriptor, size, self._slots.offset + bounds[0]))
        if len(data) < size:
            raise EOFError("the file ends before their last byte")
        jpegs = (data[begin - bounds[0] : end - bounds[0]] for begin, end in pairwise(bounds))
        return np.fromiter(map(xxhash.xxh3_64_intdigest, jpegs), np.uint64, stop - start)

    def _checksum(self, slot: int) -> int:
        part = self._slots.part(slot)
        digest = xxhash.xxh3_64()
        for begin in range(part.begin, part.begin + part.size, BLOCK_BYTES):
            wanted = min(BLOCK_BYTES, part.begin + part.size - begin)
            data = os.pread(self._descriptor, wanted, begin)
            if len(data) < wanted:
                raise EOFError("the file ends before their last byte")
            digest.update(data)
        return int(digest.intdigest())


class _EncodedInMemory:
    def __init__(self, slots: EncodedSlots) -> None:
        self.count = slots.shape[0]
        self.slot_bytes = -(-slots.nbytes // max(self.count, 1))  # on average
        self.run_slots = max(1, min(_LONGEST_RUN_SLOTS, BLOCK_BYTES // max(1, self.slot_bytes)))
        self._slots = slots

    def checksums(self, start: int, stop: int) -> Checksums:
        jpegs = map(self._slots.bytes_of, range(start, stop))
        return np.fromiter(map(xxhash.xxh3_64_intdigest, jpegs), np.uint64, stop - start)


class _SlotsInMemory:
    def __init__(self, images: npt.NDArray[np.uint8]) -> None:
        self.count = len(images)
        self.slot_bytes = images[:1].nbytes
        self.run_slots = max(1, min(_LONGEST_RUN_SLOTS, BLOCK_BYTES // max(1, self.slot_bytes)))
        self._images = images

    def checksums(self, start: int, stop: int) -> Checksums:
        return np.fromiter(map(xxhash.xxh3_64_intdigest, self._images[start:stop]), np.uint64, stop - start)


_Slots = _SlotsInFile | _EncodedInFile | _SlotsInMemory | _EncodedInMemory


@contextmanager
def _opened(slots: SlotPixels) -> Iterator[_Slots]:
    if isinstance(slots, np.ndarray):
        yield _SlotsInMemory(slots)
        return
    if not isinstance(slots, SlotFile | EncodedFile):
        yield _EncodedInMemory(slots)
        return
    descriptor = os.open(slots.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield _EncodedInFile(slots, descriptor) if isinstance(slots, EncodedFile) else _SlotsInFile(slots, descriptor)
    finally:
        os.close(descriptor)


class _Pass:
    """One pass over all slots; its threads take run after run in the order of the file."""

    def __init__(self, slots: _Slots, checksums: Checksums, claim: str) -> None:
        self._slots = slots
        self._checksums = checksums
        self._claim = claim
        self._runs = iter(range(0, slots.count, slots.run_slots))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._read_bytes = 0
        self._wrong: dict[int, str] = {}

    def run(self, workers: int, report: Callable[[int, int], None]) -> dict[int, str]:
        workers = min(workers, -(-self._slots.count // self._slots.run_slots))
        reported = 0
        with ThreadPoolExecutor(workers, thread_name_prefix="arraystore-verify") as pool:
            pending = {pool.submit(self._work) for _ in range(workers)}
            try:
                while pending:
                    done, pending = wait(pending, timeout=_REPORT_EVERY_S)
                    for future in done:
                        future.result()
                    now = self._read_bytes
                    report(now - reported, len(self._wrong))
                    reported = now
            finally:
                self._stop.set()  # has an effect only if an error or Ctrl-C ends the pass early
        return dict(sorted(self._wrong.items()))

    def _work(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                start = next(self._runs, None)
            if start is None:
                return
            stop = min(start + self._slots.run_slots, self._slots.count)
            wrong = self._check(start, stop)
            with self._lock:
                self._wrong.update(wrong)
                self._read_bytes += (stop - start) * self._slots.slot_bytes

    def _check(self, start: int, stop: int) -> dict[int, str]:
        try:
            found = self._slots.checksums(start, stop)
        except (OSError, EOFError) as error:
            if stop - start == 1:
                why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                return {start: f"its pixels cannot be read: {why}"}
            # One by one, so that a bad sector costs only its own slot.
            return {slot: why for one in range(start, stop) for slot, why in self._check(one, one + 1).items()}
        expected = self._checksums[start:stop]
        return {
            start + i: f"its pixels have checksum {found[i]:016x}, {self._claim} {expected[i]:016x}"
            for i in np.flatnonzero(found != expected).tolist()
        }
