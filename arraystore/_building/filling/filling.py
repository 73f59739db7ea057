"""The process that fills a store while it is read: it holds the build, claims slots, and publishes the store.

Workers fill ahead of the readers, and a thread that needs a slot which nobody has begun fills it itself. Only this
process writes slots: what followers decode comes through `arraystore._building.filling.exchange`.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._building.bad import bad_images_error, failures_of, too_many
from arraystore._building.build import publication_of
from arraystore._building.checkpoint import Checkpoints
from arraystore._building.fill import load_decoders
from arraystore._building.filling.ahead import TAKEN_SLOTS, Ahead
from arraystore._building.filling.exchange import Inbox
from arraystore._building.filling.jobs import Jobs
from arraystore._building.filling.marks import Marks
from arraystore._building.filling.rooms import plain, room_of
from arraystore._building.options import RunOptions
from arraystore._building.runs import slots_to_fill
from arraystore._common.limits import memory_for_images, usable_cpus
from arraystore._common.progress import Progress, reporting
from arraystore._format.specification import EMPTY
from arraystore._sources.manifest import Manifest
from arraystore._stores.encoded.images import EncodedImages
from arraystore._stores.medium import Draft, FilledRun, Opened, least_slot_bytes
from arraystore._stores.unfinished.build_key import BuildKey
from arraystore._stores.unfinished.filling import Chosen, Filler
from arraystore._stores.unfinished.followers import let_follow
from arraystore._stores.unfinished.partial import PartialFolder
from arraystore.errors import BadImage, StoreError

Pixels = npt.NDArray[np.uint8]
Index = npt.NDArray[np.int64]

_WAIT_LIMIT_S = 0.1
_END_LIMIT_S = 5.0
_HASHED_SLOTS = 256  # at a time


class Filling:
    """A `Filler` that holds the build.

    Args:
        draft: of the store.
        folder: of the build; None in memory. It is released when the filling ends.
        key: of the build.
        manifest: its rows.
        options: all of them, checked.
        bad: ``"raise"`` or ``"keep"``.
        max_bad: see `arraystore.build`.
        follow: returns what fills in another process, where the store is on disk; it can be pickled.
        copy_of: returns the same for a store in memory, from images and the status of each.
    """

    def __init__(
        self,
        draft: Draft,
        folder: PartialFolder | None,
        key: BuildKey,
        manifest: Manifest,
        options: RunOptions,
        *,
        bad: str,
        max_bad: float | None,
        follow: Callable[[], Filler],
        copy_of: Callable[[Pixels | EncodedImages, Pixels], Filler],
    ) -> None:
        self._draft, self._folder, self._key, self._manifest = draft, folder, key, manifest
        self._options, self._bad, self._max_bad = options, bad, max_bad
        self._follow, self._copy = follow, copy_of
        self.identity = key.manifest_digest
        empty = slots_to_fill(draft, manifest)
        status, settled = np.full(key.count, EMPTY, np.uint8), draft.settled.copy()
        settled[empty] = False
        status[settled] = draft.ledger["status"][settled]
        self._marks = Marks(status)
        workers = options["workers"] or usable_cpus()
        in_ram = 0 if folder is not None else key.count * least_slot_bytes(key.spec)
        most = memory_for_images(options["max_memory"], in_ram)
        self._jobs = Jobs(manifest, key.spec, options["decoders"], most / workers, most)
        # What may crash or hang is kept out of this process where the caller asks for it.
        self._reads_itself = not options["processes"] and options["executor"] is None
        self._progress = Progress(total=key.count, done=key.count - len(empty), bad=len(draft.reasons))
        self._error: BaseException | None = None
        self._stopping = self._closed = False
        self._ending = threading.Lock()
        self._opened: Opened | None = None
        self._kept: Pixels | EncodedImages | None = None  # as readers of a finished store read them
        self._ahead = Ahead(self._marks, self._jobs, draft, options, self._progress)
        self._process = os.getpid()
        self._room = room_of(draft, key.spec)
        load_decoders()  # imports that were under way in a thread during a fork would never end in the child
        self._begin_claims()
        self._inbox: Inbox | None = None
        if folder is not None:
            let_follow(folder.path)
            self._inbox = Inbox(folder.path, key.count, key.spec, self._take_sent, self.finish)
        self._driver = threading.Thread(target=self._drive, name="arraystore-filling", daemon=True)
        self._driver.start()

    # --- for readers -------------------------------------------------------------------------------------------------

    @property
    def is_complete(self) -> bool:
        """See `Filler`, as for everything that follows."""
        return not self._marks.left and (not self._closed or self._opened is not None)

    @property
    def kept(self) -> Pixels | EncodedImages | None:
        if self._kept is None and self.is_complete:
            self._kept = self._room.all_images()
        return self._kept

    @property
    def may_fail(self) -> bool:
        return bool(self._draft.reasons) or not self.is_complete or self._error is not None

    @property
    def filled(self) -> int:
        return self._key.count - self._marks.left

    def status(self) -> Pixels:
        return self._marks.status()

    def chosen(self, rows: Index) -> Iterator[Chosen]:
        self._fill(rows)
        kept = self.kept
        if kept is None and self._closed:
            raise self._was_closed()
        yield plain(self._room.images(rows) if kept is None else kept), rows, None

    def failed(self, rows: Index) -> npt.NDArray[np.bool_]:
        self._fill(rows)
        if self._error is not None:  # no epoch goes on as if nothing were wrong
            raise _again(self._error)
        return self._marks.failed(rows)

    def expect(self, order: Iterator[Index]) -> None:
        self._marks.expect(order)

    def check(self) -> None:
        if self._bad == "raise" and self._draft.reasons:
            raise self._bad_images()

    def bad(self) -> list[BadImage]:
        return failures_of(dict(self._draft.reasons), self._manifest)

    def in_fork(self) -> Filler:
        if self._inbox is not None:
            self._inbox.close_in_fork()
        if self._folder is not None:
            return self._follow()
        return self._copy(self._all_images(), self._marks.status_in_fork())

    def sendable(self) -> Callable[[], Filler]:
        if self._closed and self._opened is None:
            raise self._was_closed()
        if self._folder is not None:
            return self._follow
        status = self._marks.status()  # first: what is settled by now can be read
        images = self._all_images()
        return partial(self._copy, images if isinstance(images, EncodedImages) else images.copy(), status)

    def _all_images(self) -> Pixels | EncodedImages:
        return self._room.all_images() if self._kept is None else self._kept

    def _fill(self, rows: Index) -> None:
        """Wait until these slots are settled, and fill those here that nobody has begun."""
        if self.is_complete:
            return
        hurry = not self._reads_itself
        while (missing := self._marks.missing(rows)).size:
            self._raise_if_broken()
            # A few at a time, so that workers help with the batch that is needed first.
            mine = self._marks.take(missing, TAKEN_SLOTS) if self._reads_itself else []
            if mine:
                with self._marks.reading():
                    self.fill_taken([(slot, slot + 1) for slot in mine])
                continue
            if hurry:
                self._marks.hurry(missing)
            with self._marks.changed:
                if self._marks.missing(missing).size:
                    # Only after a while without news it is asked for again: that wakes all, who would ask in turn.
                    hurry = not self._marks.changed.wait(_WAIT_LIMIT_S) and not self._reads_itself

    def _raise_if_broken(self) -> None:
        if self._error is not None:
            raise _again(self._error)
        if self._closed:
            raise self._was_closed()

    def _was_closed(self) -> StoreError:
        return StoreError("the store was closed before all of it was filled: make the same call of build again")

    # --- filling -----------------------------------------------------------------------------------------------------

    def fill_taken(self, runs: Sequence[tuple[int, int]]) -> None:
        """Fill slots that this thread has taken, in this thread."""
        filled: list[FilledRun] = []
        try:
            for start, stop in runs:
                filled += self._room.fill(self._jobs, start, stop)
            self.record(filled)
        except BaseException:
            self._marks.release([slot for start, stop in runs for slot in range(start, stop)])
            raise

    def record(self, runs: Sequence[FilledRun]) -> None:
        """Keep finished runs: their slots can be read from now on, and are claimed soon."""
        draft, state = self._draft, self._progress
        for run in runs:
            if run.pixels is not None or run.encoded:
                draft.put(run)
                run.pixels = None  # a run is kept until it is claimed
            self._room.settle(run)
            draft.reasons.update(run.reasons)
            draft.notes.update(run.notes)
            self._claims.add(run)  # before its slots count as settled, so that what ends the claims comes after it
        with self._marks.changed:
            state.done += self._marks.settle(runs)
            state.bad += sum(len(run.reasons) for run in runs)
            state.source_bytes += sum(int(run.rows["bytes"].sum()) for run in runs)
            is_too_bad = too_many(self._max_bad, state)
        if is_too_bad and self._error is None:
            failures = failures_of(dict(draft.reasons), self._manifest)
            self._error = bad_images_error(
                failures, len(self._manifest), kept=draft.on_disk, tried=state.done, may_drop=False
            )

    def _take_sent(self, run: FilledRun) -> None:
        """Keep a slot that a follower has decoded, unless it is filled or being filled here."""
        if self._stopping or self._error is not None or not self._marks.take_one(run.start):
            return
        try:
            self.record([run])
        except BaseException as error:  # the next reader raises it
            self._marks.release([run.start])
            self._error = self._error or error

    def _drive(self) -> None:
        """Let workers fill, until all is filled or the filling ends; what runs in the driver's thread."""
        try:
            with reporting(self._options["progress"]) as report:
                self._ahead.run(report, self, in_threads=self._reads_itself)
        except BaseException as error:  # the next reader raises it
            self.fail(error)
        finally:
            self._marks.release_workers()

    def fail(self, error: BaseException) -> None:
        """Let the next reader raise an error."""
        if not self._stopping:
            self._error = self._error or error

    def is_over(self) -> bool:
        """Return whether nothing more is to be begun."""
        return self._stopping or self._error is not None

    @property
    def finished(self) -> Opened | None:
        return self._opened

    # --- the end -----------------------------------------------------------------------------------------------------

    def finish(self) -> Opened:
        """Fill what is left, check every slot, publish the store, and open it.

        Raises:
            BadImagesError: some sources could not be stored, and ``bad`` is ``"raise"``; or none could.
            StoreError: the store was closed, or the volume failed.
        """
        with self._ending:
            if self._opened is not None:
                return self._opened
            self._raise_if_broken()
            self._wait_for_all()
            self._check_slots()
            if self._draft.reasons and (self._bad == "raise" or len(self._draft.reasons) == self._key.count):
                raise self._bad_images()
            self._end_filling()
            _ = self.kept  # so that readers need no room that is about to close
            draft = self._draft
            draft.finish(publication_of(draft, self._manifest, self._key.spec, None))
            opened = draft.give_name()
            if self._folder is not None:
                self._folder.release()
            self._close_inbox()
            self._kept, self._opened = opened.array.settled, opened
            self._room.close()
            return opened

    def close(self) -> None:
        """See `Filler`. What is filled is claimed, and the same call goes on from there."""
        if os.getpid() != self._process:
            return
        with self._ending:
            if self._closed:
                return
            self._closed = True
            self._close_inbox()
            if self._opened is not None:
                return
            is_over = False
            try:
                is_over = self._end_filling()
            finally:
                self._kept = None
                self._room.close()
                if self._folder is not None and is_over:  # otherwise a thread that hangs may still write to a slot
                    self._folder.release()

    def _wait_for_all(self) -> None:
        """Wait until every slot is settled and claimed."""
        while self._marks.left:
            self._raise_if_broken()
            with self._marks.changed:
                if self._marks.left:
                    self._marks.changed.wait(_WAIT_LIMIT_S)
        self._driver.join()
        self._raise_if_broken()
        self._claims.__exit__(None, None, None)

    def _check_slots(self) -> None:
        """Compare every slot with its checksum, and fill those again that differ."""
        wrong = self._differing(np.arange(self._key.count))
        if not wrong.size:
            return
        self._draft.withdraw(wrong)
        self._marks.reopen(wrong)
        self._begin_claims()
        self.fill_taken([(slot, slot + 1) for slot in self._marks.take(wrong)])
        self._claims.__exit__(None, None, None)
        still = self._differing(wrong)
        if still.size:
            raise StoreError(
                f"slot {still[0]} does not keep what is written to it: the volume or the memory is damaged",
                slot=int(still[0]),
            )

    def _differing(self, slots: Index) -> Index:
        room, expected = self._room, self._draft.ledger["checksum"]

        def look(start: int) -> list[int]:
            some = slots[start : start + _HASHED_SLOTS].tolist()
            return [slot for slot in some if xxhash.xxh3_64_intdigest(room.bytes_of(slot)) != int(expected[slot])]

        with ThreadPoolExecutor(usable_cpus(), thread_name_prefix="arraystore-check") as threads:
            found = list(threads.map(look, range(0, len(slots), _HASHED_SLOTS)))
        return np.array([slot for each in found for slot in each], np.int64)

    def _begin_claims(self) -> None:
        self._claims = Checkpoints(self._draft, self._key.spec.slot_bytes, at_once=not self._draft.on_disk)
        self._claims.__enter__()

    def _end_filling(self) -> bool:
        """Let nobody write a slot any more, and claim what is filled; return whether all writers have ended."""
        self._stopping = True
        is_over = self._marks.close(_END_LIMIT_S)
        if self._driver is not threading.current_thread():  # the garbage collector may call this anywhere
            self._driver.join(_END_LIMIT_S)
            if self._driver.is_alive() and self._options["processes"]:  # an image hangs in a worker
                self._ahead.kill()
                self._driver.join(_END_LIMIT_S)
            is_over &= not self._driver.is_alive()
        self._claims.__exit__(None, None, None)
        return is_over

    def _close_inbox(self) -> None:
        if self._inbox is not None:
            self._inbox.close()

    def _bad_images(self) -> Exception:
        return bad_images_error(self.bad(), self._key.count, kept=self._draft.on_disk, may_drop=False)


def _again(error: BaseException) -> BaseException:
    """Return a copy of an error: the traceback of the error itself would keep alive whatever meets it."""
    try:
        return copy.copy(error)
    except Exception:  # a class of the caller
        return error
