"""Processes that read a store which another process fills, or has finished; and forks of a process that fills memory.

A follower reads the slots that the ledger claims, decodes the others for itself, and sends those to the filler. It
never writes to the file, and never waits for anybody: where the filler is slow or dead, it decodes.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt

from arraystore._building.bad import bad_images_error, failures_of
from arraystore._building.filling.exchange import Outbox
from arraystore._building.filling.marks import Marks
from arraystore._building.filling.place import Place
from arraystore._building.filling.rooms import chosen_of_both, slot_alone
from arraystore._common.forks import OwnDescriptor
from arraystore._format.ledger import chosen_claims, read_reasons
from arraystore._format.specification import EMPTY, FAILED
from arraystore._stores.encoded.images import EncodedImages
from arraystore._stores.encoded.log import LogImages
from arraystore._stores.medium import FilledRun, Opened
from arraystore._stores.opening import followed, open_store
from arraystore._stores.publishing import REASONS, partial_of
from arraystore._stores.unfinished.filling import Chosen, Filler
from arraystore._stores.unfinished.followers import follow
from arraystore.errors import ArraystoreError, BadImage, Kind, StoreError

Pixels = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int64]

_SILENCE_LIMIT_S = 120.0  # syncing the last slots may take so long
_RETRY_S = 0.05
_RECENT_BYTES = 256 << 20  # of slots that were decoded here, which the filler may not have claimed yet


class Following:
    """A `Filler` of a process that does not hold the build."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.identity = place.key.manifest_digest
        self._status = np.full(place.key.count, EMPTY, np.uint8)
        self._left = place.key.count
        self._jobs = place.jobs()
        self._lock = threading.Lock()
        self._recent: OrderedDict[int, FilledRun] = OrderedDict()
        self._reasons: dict[int, str] = {}
        self._images: Pixels | EncodedImages | None = None
        self._log: LogImages | None = None  # of which `_images` are, where slots are encoded
        self._ledger: npt.NDArray[np.void] | None = None
        self._held: OwnDescriptor | None = None
        self._outbox: Outbox | None = None
        self._opened: Opened | None = None
        self._closed = False
        self._has_failed = False
        self._attach()

    @property
    def is_attached(self) -> bool:
        """Whether the slots that others fill can be read here."""
        return self._images is not None

    @property
    def kept(self) -> Pixels | EncodedImages | None:
        """See `Filler`, as for everything that follows."""
        return self._images

    @property
    def is_complete(self) -> bool:
        return not self._left and self._images is not None and not self._closed

    @property
    def may_fail(self) -> bool:
        return not self.is_complete or self._has_failed

    @property
    def filled(self) -> int:
        if self._ledger is None:
            return self._place.key.count - self._left
        return int(np.count_nonzero(self._ledger["check"]))

    def status(self) -> Pixels:
        self._look(np.arange(self._place.key.count))
        return self._status.copy()

    def chosen(self, rows: Index) -> Iterator[Chosen]:
        """See `Filler`.

        Raises:
            StoreError: the store was closed.
        """
        if self._closed:
            raise StoreError("the store was closed: make the same call of build again")
        if not self.is_complete:
            self._look(rows)
        here = self._status[rows] != EMPTY if self._images is not None else np.zeros(len(rows), bool)
        made = [self._made(slot) for slot in rows[~here].tolist()]
        yield from chosen_of_both(self._images, rows, here, made, self._place.key.spec)

    def failed(self, rows: Index) -> npt.NDArray[np.bool_]:
        if not self.is_complete:
            self._look(rows)
            for slot in rows[self._status[rows] == EMPTY].tolist():
                self._made(slot)
        failed: npt.NDArray[np.bool_] = self._status[rows] == FAILED
        failed |= np.isin(rows, list(self._reasons))
        return failed

    def expect(self, order: Iterator[Index]) -> None:
        """Do nothing: the filler runs ahead, and this process decodes what it needs."""

    def check(self) -> None:
        bad = self.bad() if self._place.bad == "raise" else []
        if bad:
            raise bad_images_error(bad, self._place.key.count, kept=True, may_drop=False)

    def bad(self) -> list[BadImage]:
        reasons = dict(self._reasons)
        if self._place.target is not None and (self._status == FAILED).any():
            told, _ = read_reasons(partial_of(self._place.target) / REASONS)
            failed = np.flatnonzero(self._status == FAILED).tolist()
            reasons = {slot: told.get(slot, "it could not be stored") for slot in failed} | reasons
        return failures_of(reasons, self._place.manifest)

    @property
    def finished(self) -> Opened | None:
        return self._opened

    def finish(self) -> Opened:
        """See `Filler`: ask the process that fills, and wait for the finished store for as long as that goes on.

        Raises:
            BadImagesError: some sources could not be stored, and ``bad`` is ``"raise"``.
            StoreError: that process has ended, or does not get on.
        """
        if self._opened is None and self._outbox is not None:
            self._outbox.ask_to_finish()
        told, waited_s = -1, 0.0
        while self._opened is None:
            alive = self._outbox is not None and self._outbox.is_open
            self._opened = self._published()
            if self._opened is not None:
                break
            if not alive or waited_s > _SILENCE_LIMIT_S:
                self._look(np.arange(self._place.key.count))
                self.check()
                raise StoreError(
                    f"the process that fills {self._place.target} "
                    + ("does not get on" if alive else "has ended, or has not finished it"),
                    source=str(self._place.target),
                    kind=Kind.BUSY,
                    advice="close this store, and make the same call of build again: it goes on from there",
                )
            waited_s = waited_s + _RETRY_S if told == self.filled else 0.0
            told = self.filled
            time.sleep(_RETRY_S)
        self._read_from(self._opened)
        return self._opened

    def _read_from(self, opened: Opened) -> None:
        """Read everything from the finished store from now on."""
        status = opened.array.status
        if status is not None:
            self._images, self._log = opened.array.settled, None
            self._status, self._left = np.array(status), 0
            self._has_failed = bool((self._status == FAILED).any())

    def _published(self) -> Opened | None:
        target = self._place.target
        try:
            opened = None if target is None or not target.exists() else open_store(target)
        except (ArraystoreError, OSError):
            return None
        return opened if opened is not None and self._place.is_finished_as(opened.description) else None

    def close(self) -> None:
        self._closed = self._opened is None
        if self._log is not None:
            self._log.close()
            self._images = None
        if self._outbox is not None:
            self._outbox.close()
        if self._held is not None:
            self._held.close()
        self._recent.clear()

    def in_fork(self) -> Filler:
        return Following(self._place)

    def sendable(self) -> Callable[[], Filler]:
        return partial(Following, self._place)

    # --- where the slots are -----------------------------------------------------------------------------------------

    def _attach(self) -> None:
        """Find the slots that others have filled: in the folder of the build, or in the finished store."""
        target = self._place.target
        if target is None:
            return
        folder = partial_of(target)
        self._held = follow(folder)
        if self._held is not None:
            found = followed(folder, target, self._place.key)
            if found is not None:
                slots, self._ledger = found
                self._log = slots if isinstance(slots, LogImages) else None
                self._images = slots.all_images() if isinstance(slots, LogImages) else slots
                self._outbox = Outbox(folder)
                return
            self._held.close()
        self._opened = self._published()
        if self._opened is not None:
            self._read_from(self._opened)

    def _look(self, rows: Index) -> None:
        """Learn from the ledger which of some slots are claimed by now."""
        if self._ledger is None:
            return
        unknown = np.unique(rows[self._status[rows] == EMPTY])
        if not unknown.size:
            return
        claimed = unknown[chosen_claims(self._ledger, unknown)]
        with self._lock:
            new = claimed[self._status[claimed] == EMPTY]
            if self._log is not None:
                self._log.settle(new, self._ledger[new])
                self._images = self._log.images(new)
            self._status[new] = self._ledger["status"][new]
            self._has_failed |= bool((self._status[new] == FAILED).any())
            self._left -= len(new)
            for slot in new.tolist():
                self._recent.pop(slot, None)

    def _made(self, slot: int) -> FilledRun:
        """Return a slot that is decoded here, unless that was done a short while ago."""
        with self._lock:
            recent = self._recent.get(slot)
        if recent is not None:
            return recent
        run = slot_alone(self._jobs, self._place.key.spec, slot)
        most = max(_RECENT_BYTES // max(_bytes_of(run), 1), 1)
        with self._lock:
            self._recent[slot] = run
            self._reasons.update(run.reasons)
            while len(self._recent) > most:
                self._recent.popitem(last=False)
        if self._outbox is not None and not run.reasons:
            self._outbox.send(run)
        return run


def _bytes_of(run: FilledRun) -> int:
    return sum(map(len, run.encoded)) if run.pixels is None else run.pixels.nbytes


class FilledAlone:
    """A `Filler` of a copy of a store in memory, in a process that was forked or got the copy sent."""

    def __init__(self, place: Place, images: Pixels | EncodedImages, status: Pixels) -> None:
        self._place, self._images = place, images
        self._apart: dict[int, FilledRun] = {}  # slots that were filled here, where they are encoded
        self.identity = place.key.manifest_digest
        self._marks = Marks(status)
        self._had_failed = bool((status == FAILED).any())
        self._jobs = place.jobs()
        self._reasons: dict[int, str] = {}

    @property
    def kept(self) -> Pixels | EncodedImages | None:
        """See `Filler`, as for everything that follows."""
        return self._images

    @property
    def is_complete(self) -> bool:
        return not self._marks.left and not self._apart

    @property
    def may_fail(self) -> bool:
        return self._had_failed or bool(self._reasons) or not self.is_complete

    @property
    def filled(self) -> int:
        return self._place.key.count - self._marks.left

    def status(self) -> Pixels:
        return self._marks.status()

    def chosen(self, rows: Index) -> Iterator[Chosen]:
        self._fill(rows)
        here = np.array([slot not in self._apart for slot in rows.tolist()], bool)
        apart = [self._apart[slot] for slot in rows[~here].tolist()]
        yield from chosen_of_both(self._images, rows, here, apart, self._place.key.spec)

    def failed(self, rows: Index) -> npt.NDArray[np.bool_]:
        self._fill(rows)
        return self._marks.failed(rows)

    def expect(self, order: Iterator[Index]) -> None:
        """Do nothing: this process decodes what it needs."""

    def check(self) -> None:
        if self._place.bad == "raise" and self._reasons:
            raise bad_images_error(self.bad(), self._place.key.count, kept=False, may_drop=False)

    def bad(self) -> list[BadImage]:
        return failures_of(dict(self._reasons), self._place.manifest)

    @property
    def finished(self) -> Opened | None:
        return None

    def finish(self) -> Opened:
        """Raise an error: see `Filler`.

        Raises:
            StoreError: always.
        """
        raise StoreError("this process has a copy of a store in memory: call finish where the store was made")

    def close(self) -> None:
        """Do nothing."""

    def in_fork(self) -> Filler:
        return FilledAlone(self._place, self._images, self._without_apart(self._marks.status_in_fork()))

    def sendable(self) -> Callable[[], Filler]:
        return partial(FilledAlone, self._place, self._images, self._without_apart(self._marks.status()))

    def _without_apart(self, status: Pixels) -> Pixels:
        status[list(self._apart)] = EMPTY
        return status

    def _fill(self, rows: Index) -> None:
        while (missing := self._marks.missing(rows)).size:
            for slot in (mine := self._marks.take(missing)):
                if isinstance(self._images, EncodedImages):
                    run = self._apart[slot] = slot_alone(self._jobs, self._place.key.spec, slot)
                else:
                    run = self._jobs.filled(slot, slot + 1, self._images[slot : slot + 1])[-1]
                self._reasons.update(run.reasons)
                self._marks.settle([run])
            if not mine:
                with self._marks.changed:
                    self._marks.changed.wait(_RETRY_S)
