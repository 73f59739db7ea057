"""Which slots of a store are filled, which are being filled, and which come next."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from arraystore._format.specification import EMPTY, FAILED, STORED
from arraystore._stores.medium import FilledRun

Index = npt.NDArray[np.int64]

# Marks of slots that are being filled, beside the three of a status: by a worker, or by a thread that reads.
WORKER, READER = 3, 4
_LONGEST_RUN_SLOTS = 16
_LOOKED_AT = 1 << 16  # slots at a time


class Marks:
    """The mark of each slot: its status, or who is filling it. Each slot is filled by one thread at a time.

    Attributes:
        changed: a condition; its lock guards the marks. Marks that say that a slot is settled may be read without it.
        left: how many slots are not settled.
        readers: how many threads that read are filling slots.
    """

    def __init__(self, status: npt.NDArray[np.uint8]) -> None:
        self.changed = threading.Condition()
        self._marks = status
        self.left = int(np.count_nonzero(status == EMPTY))
        self.readers = 0
        self._closed = False
        self._urgent: deque[int] = deque()
        self._order: Iterator[Index] | None = None
        self._next: deque[int] = deque()
        self._at = 0

    def status(self) -> npt.NDArray[np.uint8]:
        """Return a copy of the status of each slot."""
        with self.changed:
            return self.status_in_fork()

    def status_in_fork(self) -> npt.NDArray[np.uint8]:
        """Return the same in a forked process, where the lock may be shut for ever."""
        return np.where(self._marks > FAILED, EMPTY, self._marks).astype(np.uint8)

    def missing(self, rows: Index) -> Index:
        """Return those of some slots that are not settled, each once, ascending."""
        if not self.left:
            return np.empty(0, np.int64)
        marks = self._marks[rows]
        return np.unique(rows[(marks != STORED) & (marks != FAILED)])

    def failed(self, rows: Index) -> npt.NDArray[np.bool_]:
        """Return which of some slots have failed."""
        failed: npt.NDArray[np.bool_] = self._marks[rows] == FAILED
        return failed

    def take(self, slots: Index, most: int | None = None) -> list[int]:
        """Take the first of some slots that nobody fills, at most so many, for a thread that reads."""
        with self.changed:
            mine = slots[(self._marks[slots] == EMPTY) & (not self._closed)][:most]
            self._marks[mine] = READER
            return [int(slot) for slot in mine]

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Let workers rest while a thread that reads fills slots: more threads than processors are slower."""
        with self.changed:
            self.readers += 1
        try:
            yield
        finally:
            with self.changed:
                self.readers -= 1

    def take_one(self, slot: int) -> bool:
        """Take a slot, and return whether nobody had it."""
        return bool(self.take(np.array([slot], np.int64)))

    def hurry(self, slots: Index) -> None:
        """Let workers fill these slots first."""
        with self.changed:
            self._urgent.extend(slots[self._marks[slots] == EMPTY].tolist())
            self.changed.notify_all()

    def expect(self, order: Iterator[Index]) -> None:
        """Let workers fill slots in this order from now on."""
        with self.changed:
            self._order, self._next = order, deque()
            self.changed.notify_all()

    def next_runs(self, most: int = 1) -> list[tuple[int, int]]:
        """Take the next slots for a worker: start and stop of a run, or of at most so many slots apart; or none."""
        with self.changed:
            singles: list[tuple[int, int]] = []
            while not self._closed and len(singles) < most and (slot := self._next_single()) is not None:
                self._marks[slot] = WORKER
                singles.append((slot, slot + 1))
            start = None if singles or self._closed else self._next_empty()
            if start is None:
                return singles
            run = self._marks[start : start + _LONGEST_RUN_SLOTS]
            length = int(np.argmax(run != EMPTY)) if (run != EMPTY).any() else len(run)
            run[:length] = WORKER
            self._at = start + length
            return [(start, start + length)]

    def settle(self, runs: Sequence[FilledRun]) -> int:
        """Mark the slots of finished runs, and return how many are settled now; the others keep their marks."""
        with self.changed:
            before = self.left
            for run in runs:
                for slot, status in enumerate(run.rows["status"].tolist(), run.start):
                    if status:
                        self._marks[slot] = status
                        self.left -= 1
            self.changed.notify_all()
            return before - self.left

    def release(self, slots: Index | list[int]) -> None:
        """Let others fill these slots, which nobody has settled."""
        with self.changed:
            self._marks[slots] = EMPTY
            self.changed.notify_all()

    def close(self, limit_s: float) -> bool:
        """Let nobody begin to fill a slot; return whether all threads that read have ended theirs in this time."""
        with self.changed:
            self._closed = True
            self.changed.notify_all()
            return self.changed.wait_for(lambda: not (self._marks == READER).any(), limit_s)

    def release_workers(self) -> None:
        """Let others fill what workers had begun and will not finish."""
        with self.changed:
            self._marks[self._marks == WORKER] = EMPTY
            self.changed.notify_all()

    def reopen(self, slots: Index) -> None:
        """Count settled slots as empty again."""
        with self.changed:
            self._marks[slots] = EMPTY
            self.left += len(slots)

    def _next_single(self) -> int | None:
        while self._urgent:
            slot = self._urgent.popleft()
            if self._marks[slot] == EMPTY:
                return slot
        while self._order is not None:
            while self._next:
                slot = self._next.popleft()
                if self._marks[slot] == EMPTY:
                    return slot
            rows = next(self._order, None)
            if rows is None:
                self._order = None
            else:
                self._next.extend(rows[self._marks[rows] == EMPTY].tolist())
        return None

    def _next_empty(self) -> int | None:
        if not self.left:
            return None
        for first, stop in ((self._at, len(self._marks)), (0, self._at)):
            for at in range(first, stop, _LOOKED_AT):
                empty = self._marks[at : min(at + _LOOKED_AT, stop)] == EMPTY
                if empty.any():
                    return at + int(np.argmax(empty))
        return None
