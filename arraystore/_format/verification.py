"""Prove that a store is whole: every byte of it, at the speed of memory, without changing one.

The pixels have a checksum a slot; all else has the digests in store.json, which has one of itself. Whether the parts fit
each other is checked beside them. All faults are found, not only the first.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._common.digests import digest_of
from arraystore._common.limits import usable_cpus
from arraystore._common.progress import Progress, reporting
from arraystore._common.public import public
from arraystore._format.checksums import checksum_of_zeros, wrong_slots
from arraystore._format.contents import COLUMNS, Contents, SlotPixels
from arraystore._format.samples import manifest_of
from arraystore._format.specification import FAILED, STORED, Description, seal_of
from arraystore.errors import BadImage, FormatError, SpecError

__all__ = ["Verification", "verify_contents"]

# Threads that wait for a disk take no core.
_LEAST_WORKERS = 4
_MEND = "restore it from a copy, or build the store again"
# The manifest is hashed as a whole; beyond this it would not be a small part of memory.
_MANIFEST_LIMIT_BYTES = 256 << 20
Status = npt.NDArray[np.uint8] | None
Checksums = npt.NDArray[np.uint64]


@public
@dataclass(frozen=True, slots=True)
class Verification:
    """What a check of a store found.

    Attributes:
        slots: how many slots were checked; 0 where damage elsewhere makes that impossible.
        failed: how many of them have status 2, which is no damage.
        bytes: how many bytes were read.
        seconds: how long it took.
        damaged: the slots whose pixels cannot be read or are not those that were stored, with reasons.
        faults: what is wrong with anything else, a sentence each, with what to do.
        notes: what is worth knowing and no damage.
    """

    slots: int
    failed: int
    bytes: int
    seconds: float
    damaged: tuple[BadImage, ...] = ()
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the store is whole."""
        return not self.damaged and not self.faults


def verify_contents(
    contents: Callable[[], Contents], *, workers: int | None, progress: bool | Callable[[Progress], None]
) -> Verification:
    """Read every byte of a store and say whether it is whole; see `arraystore.verify`.

    Args:
        contents: opens the store's contents; its FormatError is a fault.
        workers: see `arraystore.verify`.
        progress: see `arraystore.verify`.

    Raises:
        SpecError: workers is less than 1.
    """
    if workers is not None and workers < 1:
        raise SpecError(f"workers must be at least 1, not {workers!r}")
    with reporting(progress) as report:
        check = _Check(report)
        with check.finding():
            check.run(contents(), workers or max(_LEAST_WORKERS, usable_cpus()))
        return check.verification()


class _Finding:
    """A block whose FormatError is a fault that a check has found."""

    def __init__(self, check: _Check, part: str) -> None:
        self._check = check
        self._part = part

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if isinstance(error, FormatError):
            self._check.fault(str(error), self._part)
            return True
        return False


class _Check:
    """One check of one store, and what it has found so far."""

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self._report = report
        self._progress = Progress(total=0, unit="B")
        self._bytes = 0
        self._slots = 0
        self._failed = 0
        self._faults: list[str] = []
        self._notes: list[str] = []
        self._damaged: tuple[BadImage, ...] = ()
        self._faulty: set[str] = set()  # parts
        self._parts: Contents

    def finding(self, part: str = "") -> _Finding:
        """Make a fault, of a part, of what a block raises."""
        return _Finding(self, part)

    def verification(self) -> Verification:
        return Verification(
            slots=self._slots,
            failed=self._failed,
            bytes=self._bytes,
            seconds=self._progress.seconds,
            damaged=self._damaged,
            faults=tuple(self._faults),
            notes=tuple(self._notes),
        )

    def run(self, parts: Contents, workers: int) -> None:
        """Check a store.

        Raises:
            FormatError: nothing of it can be read.
        """
        self._parts = parts
        description: Description | None = None
        slots: SlotPixels | None = None
        present = parts.present()
        with self.finding():
            description = self._description()
        with self.finding():
            slots, faults = parts.slots(None if description is None else (description.count, *description.shape))
            for fault in faults:
                self.fault(fault)
        if description is not None:
            count = description.count
        elif slots is not None:
            count = slots.shape[0]
        else:
            return
        self._progress.total = 0 if slots is None else math.prod(slots.shape)
        self._check_parts(present, description, count)
        status = self._status(description)
        checksums = self._checksums(count)
        if description is not None:
            self._check_codes(description)
            self._check_samples(count, status)
            self._check_manifest(description)
        if slots is None or checksums is None:
            self._notes.append("no slot could be checked")
            return
        self._check_slots(slots, status, checksums, workers)
        self._progress.done = self._progress.total
        self._report(self._progress)

    def fault(self, message: str, part: str = "") -> None:
        advised = ";" in message or "pip install" in message  # messages from elsewhere say themselves what to do
        self._faults.append(message if advised else f"{message}; {_MEND}")
        self._faulty.add(part)

    def _tally(self, count: int) -> None:
        self._bytes += count
        self._progress.done = min(self._bytes, self._progress.total)
        self._report(self._progress)

    def _description(self) -> Description:
        """Return store.json, if it can be believed."""
        place, text = self._parts.where("store.json"), self._parts.text()
        self._bytes += len(text)
        try:
            members = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{place} cannot be read: {error}", source=place) from error
        if not isinstance(members, dict):
            raise FormatError(f"{place} should hold a JSON object", source=place)
        description = Description.from_json(members, place)
        digest = members.get("digest")
        if digest is None and not description.digests:
            if self._parts.has_digests:
                self._notes.append(
                    f"{place} has no digests, so only the pixels, and whether all else fits, could be checked"
                )
        elif digest is None or not description.digests or seal_of(text, digest) != digest:
            raise FormatError(f"{place} has changed since it was written: its digest is another", source=place)
        return description

    def _check_parts(self, present: list[str], description: Description | None, count: int) -> None:
        """Check that each part is there, has the dtype, shape and length that it should, and its digest."""
        parts = self._parts
        targets = {} if description is None else description.targets
        digests = {} if description is None else description.digests
        forms: dict[str, Any] = {parts.target(name): form for name, form in targets.items()}
        forms[parts.status] = {"dtype": "|u1", "shape": [count]}
        forms[parts.checksums] = {"dtype": "<u8", "shape": [count]}
        ours = {*parts.needed(targets), *digests, *filter(parts.is_ours, present)}
        for part in sorted(ours & set(present)):
            with self.finding(part):
                self._progress.total += parts.size(part) if digests else 0
        for part in sorted(ours - self._faulty):
            with self.finding(part):
                if part not in present:
                    raise FormatError(f"{parts.where(part)} is missing")
                if part in forms:
                    dtype, shape = parts.form(part)
                    expected = forms[part]["dtype"], tuple(forms[part]["shape"])
                    if (dtype, shape) != expected:
                        raise FormatError(
                            f"{parts.where(part)} holds {dtype} of shape {shape}, not {expected[0]} of shape "
                            f"{expected[1]}"
                        )
                if digests:
                    self._check_digest(part, digests)
        others = sorted(set(present) - ours)
        if others and description is not None:
            self._notes.append(f"{parts.place} also holds what is no part of a store: {', '.join(others)}")

    def _check_digest(self, part: str, digests: Any) -> None:
        where = self._parts.where(part)
        if part not in digests:
            raise FormatError(f"{where} has no digest in store.json, so nothing says whether it is whole")
        found = digest_of(self._tallied(self._parts.blocks(part)))
        if found != digests[part]:
            raise FormatError(f"{where} has changed since it was stored: its digest is {found}, it was {digests[part]}")

    def _tallied(self, blocks: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        for block in blocks:
            yield block
            self._tally(len(block))

    def _status(self, description: Description | None) -> Status:
        """Return the status of each slot, where it can be believed."""
        part, where = self._parts.status, self._parts.where(self._parts.status)
        status: Status = None
        if part in self._faulty:
            return None
        with self.finding(part):
            status = self._parts.array(part)
            odd = np.flatnonzero((status != STORED) & (status != FAILED))
            if len(odd):
                what = f"slot {odd[0]} the status {status[odd[0]]}, which is neither 1 (stored) nor 2 (failed)"
                raise FormatError(f"{where} gives {what}")
            self._failed = int(np.count_nonzero(status == FAILED))
            if description is not None and self._failed != description.failed:
                raise FormatError(
                    f"{where} says that {self._failed:,} slots failed, store.json says {description.failed:,}"
                )
        return None if part in self._faulty else status

    def _checksums(self, count: int) -> Checksums | None:
        """Return the checksums, also where their digest says that some are not those that were stored."""
        part = self._parts.checksums
        try:
            return self._parts.array(part) if self._parts.form(part) == ("<u8", (count,)) else None
        except FormatError:  # `_check_parts` has said so
            return None

    def _check_codes(self, description: Description) -> None:
        """Check that every code of a class has a name."""
        for name, names in description.classes.items():
            part = self._parts.target(name)
            if part in self._faulty:
                continue
            with self.finding(part):
                if name not in description.targets:
                    raise FormatError(f"store.json names the classes of {name!r}, which is no target")
                codes = self._parts.array(part)
                if codes.dtype.kind not in "iu" or codes.ndim != 1:
                    raise FormatError(f"{self._parts.where(part)} should hold a code a slot, it holds {codes.dtype}")
                odd = np.flatnonzero((codes < 0) | (codes >= len(names)))
                if len(odd):
                    raise FormatError(
                        f"{self._parts.where(part)} gives slot {odd[0]} the code {codes[odd[0]]}, but there are "
                        f"{len(names):,} classes"
                    )

    def _check_samples(self, count: int, status: Status) -> None:
        """Check that samples has its columns and a row a slot, and a reason for each that failed and for no other."""
        parts = self._parts
        if parts.column("reason") in self._faulty:
            return
        with self.finding(parts.column("reason")):
            table = parts.table("samples", ["reason"])
            where = parts.where(parts.column("reason"))
            if table is None or table.num_rows != count:
                rows = 0 if table is None else table.num_rows
                raise FormatError(f"{where} should have {count:,} rows, it has {rows:,}")
            missing = sorted(set(COLUMNS) - set(parts.column_names()))
            if missing:
                raise FormatError(f"{where} lacks the columns {', '.join(missing)}")
            if status is None:
                return
            odd = np.flatnonzero(table["reason"].is_null().to_numpy() == (status == FAILED))
            if len(odd):
                what = "no reason for slot {}, which failed"
                if status[odd[0]] == STORED:
                    what = "a reason why slot {} failed, but its status is 1, stored"
                raise FormatError(f"{where} has {what.format(odd[0])}")

    def _check_manifest(self, description: Description) -> None:
        """Check that sources, targets and texts make the manifest that was built, where all of it is in the store."""
        parts = self._parts
        if self._faults or parts.dropped():
            return
        if sum(map(parts.size, parts.needed(description.targets))) > _MANIFEST_LIMIT_BYTES:
            return
        with self.finding():
            samples = parts.table("samples", parts.column_names())
            targets = {name: parts.array(parts.target(name)) for name in description.targets}
            manifest = manifest_of(samples, targets, description.classes)
            if manifest is not None and manifest.digest != description.manifest_digest:
                raise FormatError(
                    f"the sources, targets and texts of {parts.place} do not make the manifest that was built: their "
                    f"digest is {manifest.digest}, it was {description.manifest_digest}"
                )

    def _check_slots(self, slots: SlotPixels, status: Status, checksums: Checksums, workers: int) -> None:
        """Check every slot's pixels."""
        claim = "they were stored with"
        if self._parts.checksums in self._faulty:
            claim = f"{self._parts.where(self._parts.checksums)}, which is damaged itself, says"

        def report(count: int, found: int) -> None:
            self._progress.bad = found
            self._tally(count)

        try:
            wrong = wrong_slots(slots, checksums, workers=workers, claim=claim, report=report)
        except OSError as error:
            raise FormatError(f"{self._parts.place}: the pixels cannot be read: {error}") from error
        if status is not None:
            failed = np.flatnonzero(status == FAILED)
            zeros = checksum_of_zeros(math.prod(slots.shape[1:])) if len(failed) else 0
            for slot in failed[checksums[failed] != zeros].tolist():
                wrong.setdefault(slot, "it failed, so its pixels should be zeros")
        self._slots = len(checksums)
        self._damaged = tuple(self._named(dict(sorted(wrong.items()))))

    def _named(self, wrong: dict[int, str]) -> Iterator[BadImage]:
        """Yield the damaged slots with their sources, where these can be read."""
        sources: list[str | bytes] = ["unknown"] * len(wrong)
        if wrong and self._parts.column("source") not in self._faulty:
            with suppress(
                FormatError, IndexError
            ):  # the slots are what is damaged; what samples lacks is said elsewhere
                table = self._parts.table("samples", ["source"])
                sources = sources if table is None else table["source"].take(list(wrong)).to_pylist()
        for (slot, reason), source in zip(wrong.items(), sources, strict=True):
            yield BadImage(slot, os.fsdecode(source), reason)
