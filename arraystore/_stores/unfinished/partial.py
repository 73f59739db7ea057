"""The folder ``TARGET.partial/`` in which a store on disk is built: its lock, plan, ledger, and its publication.

Nothing outside the folder is written before the publication, and only files with names of the format are deleted.

What one step makes durable (fsync), the next step relies on. A build that is killed between any two steps, or whose
machine loses power there, leaves a folder from which the same call continues:

1. The constructor takes the lock and makes a ledger whose rows claim nothing. The medium makes the file of the pixels.
2. `start` makes both files durable, and then writes plan.json. A folder without plan.json holds no work, so wherever
   there is a plan, the files that it speaks of are on disk.
3. `claim` makes the pixels of finished runs durable, then the reasons of the failed slots, then the ledger rows. A
   ledger row that is whole is a claim, so its pixels and its reason must be on disk before the row is written.
4. `withdraw` durably ends the claim on a slot before anything writes to that slot again.
5. When every slot is claimed, the medium writes all other files durably, and `publish` renames, as
   `arraystore._stores.publishing` says. The plan and the ledger are deleted only after the rename is durable: a crash
   before that leaves files too many, and never too few.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.forks import OwnDescriptor
from arraystore._common.limits import check_space, filled_up, free_disk_bytes, is_full, too_small
from arraystore._format.files import fsync_path, read_json
from arraystore._format.ledger import Ledger, claimed_rows, noted_key, read_ledger, read_reasons, reason_lines
from arraystore._format.renaming import Identity, identity_at
from arraystore._format.specification import FAILED, STORED
from arraystore._sources.manifest import Manifest
from arraystore._stores import publishing
from arraystore._stores.medium import FilledRun, Medium
from arraystore._stores.publishing import (
    LEDGER,
    LOCK,
    LOG,
    MOVED,
    PLAN,
    REASONS,
    WORKING,
    clear,
    names_of,
    partial_of,
    remove_partial,
)
from arraystore._stores.unfinished.build_key import BuildKey, Salvage
from arraystore._stores.unfinished.build_lock import Lock
from arraystore._stores.unfinished.followers import end_following
from arraystore._stores.unfinished.slot_files import copy_aside, in_files, put_back, restore_log
from arraystore.errors import FormatError, Option, StoreError, StoreExistsError
from arraystore.spec import ImageSpec

_ENTER_TRIES = 10


class PartialFolder:
    """``TARGET.partial/``, held by this process alone.

    Args:
        target: where the store will be; not a link.
        medium: of the store.
        overwrite: True replaces the store that is there now.
        needed: bytes that the store takes.

    Attributes:
        replaces: device and inode of the store that is there now, or None.
        reasons: see `Draft`, as for ``notes`` and ``same_decoders``.

    Raises:
        StoreExistsError: something is there that may not be replaced.
        SpaceError: the volume is too small.
        StoreError: another build into the target is running, or something is in the way.
    """

    def __init__(self, target: Path, medium: Medium, *, overwrite: bool, needed: int) -> None:
        self.target = target
        self.medium = medium
        self.path = partial_of(target)
        self.reasons: dict[int, str] = {}
        self.notes: dict[int, str] = {}
        self._noted: dict[tuple[int, int], str] = {}  # what `noted_key` gives → note, of an earlier call
        self.same_decoders = True
        self._needed_bytes = needed
        self._pixels = self.path / medium.draft_file
        self._held = ExitStack()
        self._released = False
        self._overwrite = overwrite
        self._resumed = True  # until `begin` finds that there is nothing to take up
        self._moved: list[tuple[int, npt.NDArray[np.void]]] = []  # row → its ledger row, in the order of MOVED
        self.replaces: Identity | None = None
        self._check_target()
        if self.path.is_symlink() or (self.path.exists() and not self.path.is_dir()):
            raise StoreError(f"{self.path} is in the way: it should be a folder; remove it")
        if not (self.path / PLAN).exists():
            check_space(target.parent, needed)
        with self.writing():
            lock = self._enter()
        self._held.callback(lock.release)
        try:
            # Another build may have published, or ended, since the checks above. Now the lock keeps others out.
            self._check_target()
            end_following(self.path, target)
            self.replaces = identity_at(target)
            if self.replaces is not None:
                publishing.finish_tidying(target, medium)
                publishing.keep_private(target, self.path)
        except BaseException:
            self.abandon()
            raise

    def begin(
        self,
        key: BuildKey,
        *,
        fresh: bool = False,
        salvage: Salvage | None = None,
        manifest: Manifest | None = None,
    ) -> None:
        """Make the ledger, or take up the one of an earlier call.

        Args:
            key: of the build.
            fresh: True discards the work of an earlier call.
            salvage: what can be used of the work of a call with other rows; None if there can be no such work.
            manifest: of the build, to tell how the work of another one differs.

        Raises:
            StoreError: the work is that of another build.
        """
        self._needed_bytes = key.needed_bytes(self.medium)
        self._key = key
        restore_log(self.path, self.medium)
        was = None if fresh else self._earlier_plan()
        if was is not None and not key.fits(was) and self._stored_nothing(was):
            was = None  # nothing is lost
        self._resumed = was is not None
        if was is not None:
            if not key.fits(was):
                self._take_over(was, salvage, manifest)
            self.same_decoders = was.get("decoders") == key.decoders
            self.reasons, self._noted = read_reasons(self.path / REASONS)
            # A call that was killed while it published left files of a store. They are written anew: that call may
            # have dropped rows, or have seen other slots fail.
            masks = (f"{name}.npy" for name, _ in key.masks)
            clear(self.path, names_of(self.path, self.medium) - {*WORKING, self._pixels.name, *masks})
        else:
            # The plan goes first: without it, the files that are left count as no work.
            clear(self.path, (PLAN, *(names_of(self.path, self.medium) - {LOCK})))
        with self.writing():
            self._ledger = Ledger(self.path / LEDGER, key.count, key.spec, masked=bool(key.masks))
        self._held.callback(self._ledger.close)
        if self._resumed:
            # The files of pixels and masks may have been truncated, and they are extended again after this.
            self._ledger.withdraw(
                np.flatnonzero(
                    claimed_rows(self._ledger.rows) & ~in_files(self.path, self.medium, key, self._ledger.rows)
                )
            )

    @property
    def ledger(self) -> npt.NDArray[np.void]:
        """One row a slot, as claimed so far; read-only."""
        return self._ledger.rows

    def start(self) -> npt.NDArray[np.bool_]:
        """Make the files that claims rely on durable, and write the plan: from then on a later call continues the work.

        The file of the pixels must exist. Returned are the slots that an earlier call has claimed: bool, (N,).
        """
        with self.writing():
            # They stay open, because the system reports a failed write only to descriptors that were open at that time.
            self._descriptors = []
            for path in [str(self._pixels), *(file.path for file in self._key.mask_files(self.path))]:
                descriptor = OwnDescriptor(path, os.O_RDWR)
                self._held.callback(descriptor.close)
                self._descriptors.append(descriptor)
                os.fsync(descriptor.number)
            with (self.path / REASONS).open("ab") as file_of_reasons:
                if file_of_reasons.tell():
                    file_of_reasons.write(b"\n")  # the last line may have been cut short, and must not take in the next
            fsync_path(self.path)
            if not self._resumed:
                publishing.write_plan(self.path, self._key.to_json())
                fsync_path(self.path.parent)
            self._put_moved()
        claimed = claimed_rows(self._ledger.rows)
        failed = np.flatnonzero(claimed & (self._ledger.rows["status"] == FAILED)).tolist()
        claimed[[slot for slot in failed if slot not in self.reasons]] = False  # to be filled again
        self.reasons = {slot: self.reasons[slot] for slot in failed if slot in self.reasons}
        self.notes = self._notes_of(np.flatnonzero(claimed & (self._ledger.rows["status"] == STORED)))
        return claimed

    def claim(self, runs: list[FilledRun]) -> None:
        """See `Draft`, as for the other methods of a draft."""
        with self.writing():
            self._sync_slots()
            lines = [line for run in runs for line in reason_lines(run.start, run.rows, run.reasons, run.notes)]
            if lines:
                with (self.path / REASONS).open("ab") as file:
                    file.write("".join(json.dumps(line) + "\n" for line in lines).encode("ascii"))
                    file.flush()
                    os.fsync(file.fileno())
            self._ledger.claim_all([(run.start, run.rows) for run in runs])
            self._ledger.sync()

    def withdraw(self, slots: npt.NDArray[np.int64]) -> None:
        self._ledger.withdraw(slots)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn the error of a full volume into a SpaceError with advice.

        Raises:
            SpaceError: the volume is full.
        """
        try:
            yield
        except OSError as error:
            if not is_full(error):
                raise
            if not (self.path / PLAN).exists():  # no work has been done, and `abandon` removes the files
                raise too_small(self.target.parent, self._needed_bytes, error) from error
            raise filled_up(self.target.parent, self._needed_bytes, self.path, error) from error

    def publish(self) -> None:
        """Give the target's name to the finished store, and delete what it replaces and the working files.

        Raises:
            StoreExistsError: something else has taken the name; see `publishing.publish`.
        """
        publishing.publish(self.target, self.medium, self.replaces)
        publishing.tidy(self.target, self.medium)
        self.release()

    def abandon(self) -> None:
        """Delete the folder if it holds no work, and release it; no effect after `release`."""
        if not self._released and not (self.path / PLAN).exists():
            with contextlib.suppress(StoreError, OSError):  # the caller is to get the error of the failure itself
                remove_partial(self.path, self.medium)
        self.release()

    def discard(self) -> None:
        """Delete the folder if this call has begun the work in it, and release it."""
        if not self._resumed:
            with contextlib.suppress(OSError):  # the caller is to get the error of the failure itself
                clear(self.path, [PLAN])
        self.abandon()

    def release(self) -> None:
        """Unlock the folder, and leave its files for another build."""
        self._released = True
        self._held.close()

    def _enter(self) -> Lock:
        """Make the folder if it does not exist, and lock it."""
        for _ in range(_ENTER_TRIES):
            # Another build may rename or remove the folder at any moment.
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode=0o700 if self._overwrite and self.target.exists() else 0o777)
            with contextlib.suppress(FileNotFoundError):
                return Lock(self.path / LOCK, self.target)
        raise StoreError(f"other builds remove {self.path} again and again: wait for them, or choose another target")

    def _check_target(self) -> None:
        if not os.path.lexists(self.target):
            if not self.target.parent.is_dir():
                raise StoreError(f"the folder {self.target.parent} does not exist: make it first")
            return
        if not self._overwrite:
            raise StoreExistsError(
                f"{self.target} exists already",
                advice="choose another name, remove it, or use {0} to replace it when the new store is finished",
                options=[Option("overwrite")],
            )
        if self.target.is_symlink() or not self._is_store():
            raise StoreExistsError(
                f"{self.target} exists and is not a store, so it is not replaced",
                advice="choose another name, or remove it",
            )

    def _is_store(self) -> bool:
        """Return whether a store has the target's name: a folder, or a file of this medium. It may be damaged."""
        if not (self.target.is_dir() if self.medium.is_folder else self.target.is_file()):
            return False
        try:
            return bool(self.medium.contents(self.target).text())
        except FormatError:
            return False

    def _earlier_plan(self) -> dict[str, Any] | None:
        """Return the plan of an earlier call that left work, or None."""
        # Plan and ledger describe the file of the slots. Without one of the three, the others are worth nothing. It has
        # another name if the earlier call made a store of another medium.
        slots = (self._pixels.name, "images.npy", "images.h5", LOG)
        has_slots = any((self.path / name).is_file() for name in slots)
        if not (has_slots and (self.path / PLAN).exists() and (self.path / LEDGER).is_file()):
            return None
        try:
            return read_json(self.path / PLAN)
        except FormatError as error:
            raise StoreError(
                error.message, advice="discard this unfinished build with {0}", options=[Option("fresh")]
            ) from error

    def _stored_nothing(self, was: dict[str, Any]) -> bool:
        """Return whether an earlier call with this plan has claimed no slot with pixels."""
        rows = self._earlier_rows(was)
        return rows is not None and not np.any(claimed_rows(rows) & (rows["status"] == STORED))

    def _earlier_rows(self, was: dict[str, Any]) -> npt.NDArray[np.void] | None:
        """Return the ledger of an earlier call with this plan; None if the plan is damaged."""
        try:
            count, spec = int(was["count"]), ImageSpec.from_dict(was["spec"])
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        if not 0 <= count <= (self.path / LEDGER).stat().st_size:
            return None
        return read_ledger(self.path / LEDGER, count, spec, masked=bool(was.get("masks")))

    def _sync_slots(self) -> None:
        for descriptor in self._descriptors:
            os.fdatasync(descriptor.number)

    def _take_over(self, was: dict[str, Any], salvage: Salvage | None, manifest: Manifest | None) -> None:
        """Keep the claims of a build of other rows that this build can use, and withdraw all others.

        A claim is kept if its slot is to have the same source. The pixels of other slots are copied aside if they
        would have to be decoded again, and `start` puts them into their new slots.

        Raises:
            StoreError: nothing can be taken over.
        """
        key = self._key
        count = was.get("count")
        alike = all(was.get(name) == key.to_json().get(name) for name in ("spec", "masks"))
        if salvage is None or not alike or not isinstance(count, int) or count < 0:
            raise self._of_another(was, manifest)
        masked, count = bool(key.masks), min(count, (self.path / LEDGER).stat().st_size)
        rows = read_ledger(self.path / LEDGER, count, key.spec, masked=masked)
        there = in_files(self.path, self.medium, key, rows)  # they may have been truncated
        claimed = np.flatnonzero(claimed_rows(rows) & there)
        names, wanted_names = rows["name"][claimed], salvage.names()
        inside = claimed < key.count
        stays = inside & (names != 0) & (wanted_names[np.where(inside, claimed, 0)] == names)
        wanted = salvage.decoded.copy()
        wanted[claimed[stays]] = False
        row_of = dict(zip(wanted_names[wanted].tolist(), np.flatnonzero(wanted).tolist(), strict=True))
        apart = [
            (row_of[name], slot)
            for name, slot in zip(names[~stays].tolist(), claimed[~stays].tolist(), strict=True)
            if name in row_of and rows["status"][slot] == STORED
        ]
        # Slots with masks are not moved: they are decoded again. JPEGs stay where they are: their rows say where.
        copied_bytes = len(apart) * (key.spec.slot_bytes if key.spec.encode is None else 0)
        if not masked and copied_bytes < free_disk_bytes(self.path) // 2:
            self._moved = [(row, rows[slot : slot + 1]) for row, slot in apart]
            with self.writing():
                copy_aside(self.path, self.medium, key.spec, [slot for _, slot in apart])
        ledger = Ledger(self.path / LEDGER, count, key.spec, masked=masked)
        try:
            ledger.withdraw(claimed[~stays])
        finally:
            ledger.close()
        publishing.write_plan(self.path, key.to_json())

    def _of_another(self, was: dict[str, Any], manifest: Manifest | None) -> StoreError:
        """Return the error that the folder holds the work of another build, and how that differs."""
        differing = self._key.differences(was, manifest, self._earlier_rows(was))
        return StoreError(
            f"{self.path} holds an unfinished build of something else: {'; '.join(differing)}",
            advice="finish it with the call that began it, or discard it with {0}",
            options=[Option("fresh")],
        )

    def _put_moved(self) -> None:
        """Put the pixels that `_take_over` copied aside into their new slots, and claim these."""
        if self._moved:
            put_back(self.path, self.medium, self._key.spec, [row for row, _ in self._moved])
            self._sync_slots()
            for row, ledger_row in self._moved:
                self._ledger.claim(row, ledger_row)
            self._ledger.sync()
            self._moved = []
        clear(self.path, (MOVED,))

    def _notes_of(self, slots: npt.NDArray[np.int64]) -> dict[int, str]:
        """Return the notes of an earlier call on these slots, which an update may have moved since."""
        rows = self._ledger.rows
        slots = slots[np.isin(rows["name"][slots], [name for name, _ in self._noted])]
        keys = {slot: noted_key(rows[slot]) for slot in slots.tolist()}
        return {slot: self._noted[key] for slot, key in keys.items() if key in self._noted}
