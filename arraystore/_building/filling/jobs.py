"""Jobs of slots that any thread may make and fill, and the gate that keeps forks out of the middle of an image."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._building.fill import Job, fill_slots
from arraystore._building.workers.reading import loaded
from arraystore._format.slot_file import SlotFile
from arraystore._format.specification import EMPTY
from arraystore._sources.manifest import Manifest
from arraystore._stores.medium import FilledRun
from arraystore.spec import ImageSpec

Pixels = npt.NDArray[np.uint8]

_FORK_WAIT_S = 2.0  # no longer than a large photo takes


class _Gate:
    """Lets no process fork while an image is decoded: locks of the decoders would stay shut in the child."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._forking = False

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Keep forks waiting, for a short while."""
        with self._changed:
            while self._forking:
                self._changed.wait(_FORK_WAIT_S)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def before_fork(self) -> None:
        with self._changed:
            self._forking = True
            self._changed.wait_for(lambda: not self._inside, _FORK_WAIT_S)

    def after_fork(self) -> None:
        with self._changed:
            self._forking = False
            self._changed.notify_all()

    def in_child(self) -> None:
        self.__init__()  # type: ignore[misc]


_gate = _Gate()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_gate.before_fork, after_in_parent=_gate.after_fork, after_in_child=_gate.in_child)


class _GatedJob(Job):
    """A job whose images are decoded inside the gate where threads of this process fill it."""

    __slots__ = ()

    def fill(self, slots: Pixels, stop: threading.Event) -> FilledRun:
        with _gate.inside():
            return super().fill(slots, stop)


@dataclass(frozen=True, slots=True)
class Jobs:
    """Makes the jobs of a store.

    Attributes:
        manifest: its rows.
        spec: of its slots.
        decoders: of the caller; see `arraystore.build`.
        share_bytes: what decoding one image may take beside others.
        most_bytes: what it may take alone.
    """

    manifest: Manifest
    spec: ImageSpec
    decoders: Mapping[Any, Any] | None
    share_bytes: float
    most_bytes: float

    def of(self, start: int, stop: int, *, file: SlotFile | None = None, alone: bool = False) -> Job:
        """Return the job of a run of slots; see `Job` for ``file`` and for what ``alone`` changes."""
        with _loading:  # the caller's data set may not expect several threads
            sources = [loaded(self.manifest.load, slot) for slot in range(start, stop)]
        share = self.most_bytes if alone else self.share_bytes
        sides = self.manifest.sides_of(range(start, stop))
        return _GatedJob(start, sources, self.spec, file, share, self.most_bytes, self.decoders, None, sides)

    def filled(self, start: int, stop: int, slots: Pixels | None = None) -> list[FilledRun]:
        """Fill a run in this thread; images that need much memory one after the other.

        Args:
            start: its first slot.
            stop: one past its last.
            slots: an array of these slots; None where slots are encoded.
        """
        runs = [self._fill(start, stop, slots, alone=False)]
        for number in np.flatnonzero(runs[0].rows["status"] == EMPTY).tolist():
            with _large:
                slot = None if slots is None else slots[number : number + 1]
                runs.append(self._fill(start + number, start + number + 1, slot, alone=True))
        return runs if len(runs) == 1 or stop - start > 1 else runs[1:]

    def _fill(self, start: int, stop: int, slots: Pixels | None, *, alone: bool) -> FilledRun:
        job = self.of(start, stop, alone=alone)
        with _gate.inside():
            return fill_slots(job, job.scratch() if slots is None else slots)


def _renew_locks() -> None:
    global _loading, _large
    _loading, _large = threading.Lock(), threading.Lock()


_loading, _large = threading.Lock(), threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
