"""Check every byte of a store without changing any, at the speed of memory.

Each slot has a checksum of its pixels. Every other part of the store has a digest in store.json, and store.json has one
of itself. The check also tests whether the parts fit together. It finds all faults, not only the first.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from arraystore._common.arrow import nulls_in, number_column
from arraystore._common.checks import whole_number
from arraystore._common.digests import digest_of
from arraystore._common.limits import usable_cpus
from arraystore._common.progress import Progress, reporting
from arraystore._common.ragged import OFFSETS, VALUES
from arraystore._format.checking.checksums import Checksums, bytes_in, wrong_masks, wrong_slots
from arraystore._format.checking.result import ReplacedError, Verification
from arraystore._format.contents import COLUMNS, Contents, SlotPixels
from arraystore._format.description import Description, check_codes, check_mask_codes, text_digest
from arraystore._format.files import keep_os_error
from arraystore._format.ledger import side_fields
from arraystore._format.samples import file_masks, has_files, manifest_of
from arraystore._format.slot_file import SlotFile
from arraystore._format.specification import FAILED, STORED
from arraystore._format.target_forms import array_forms, check_offsets, is_ragged, item_totals, targets_in
from arraystore.errors import BadImage, Fault, FormatError, Kind, ManifestError

_LEAST_WORKERS = 4  # also on fewer processors, because threads that wait for a disk use none
_ADVICE = "restore it from a copy, or build the store again"
_MANIFEST_LIMIT_BYTES = 256 << 20  # the manifest is hashed as a whole in memory; a larger one is not checked
Status = npt.NDArray[np.uint8] | None


def verify_contents(
    contents: Callable[[], Contents],
    *,
    workers: int | None,
    progress: bool | Callable[[Progress], None],
    is_current: Callable[[], bool] = lambda: True,
) -> Verification:
    """See `arraystore.verify`.

    Args:
        contents: opens the store; a FormatError that it raises becomes a fault.
        workers: see `arraystore.verify`.
        progress: see `arraystore.verify`.
        is_current: whether the store still has its name. The parts of a store are opened by name, one after the other.

    Raises:
        ReplacedError: the store has been replaced meanwhile, so what was found says nothing about either store.
        SpecError: workers is less than 1.
    """
    if workers is not None:
        whole_number("workers", workers, 1)
    with reporting(progress) as report:
        check = _Check(report, is_current)
        try:
            with check.finding():
                check.run(contents(), workers or max(_LEAST_WORKERS, usable_cpus()))
        except Exception:  # parts of two stores may lead to any error
            check.stay()
            raise
        check.stay()
        return check.verification()


@dataclass(frozen=True, slots=True)
class _Finding:
    """A block whose FormatError becomes a fault of a part."""

    check: _Check
    part: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, FormatError):
            self.check.fault(Fault(error.message, error.advice or _ADVICE, error.options, error.kind), self.part)
        return isinstance(error, FormatError)


class _Check:
    """One check of one store, with its findings so far."""

    def __init__(self, report: Callable[[Progress], None], is_current: Callable[[], bool]) -> None:
        self._report, self._is_current = report, is_current
        self._progress = Progress(total=0, unit="B")
        self._bytes = self._slots = self._failed = 0
        self._faults: list[Fault] = []
        self._notes: list[str] = []
        self._damaged: tuple[BadImage, ...] = ()
        self._wrong_masks: dict[int, str] = {}
        self._faulty: set[str] = set()  # the names of parts with a fault
        self._changed_masks: dict[str, str] = {}  # the name of a part → the message of a fault
        self._identity = ""
        self._contents: Contents  # set by `run`

    def finding(self, part: str = "") -> _Finding:
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
            identity=self._identity,
            repairable=self._is_repairable(),
        )

    def _is_repairable(self) -> bool:
        damage = [fault.repairable for fault in self._faults] or self._damaged
        with suppress(FormatError):
            return bool(damage) and all(damage) and has_files(self._contents.table("samples", ["source"]))
        return False

    def run(self, contents: Contents, workers: int) -> None:
        self._contents = contents
        description: Description | None = None
        slots: SlotPixels | None = None
        present = contents.present()
        with self.finding():
            description = self._description()
        with self.finding():
            slots, messages = contents.slots(None if description is None else (description.count, *description.shape))
            for message in messages:
                self.fault(Fault(message, "a repair of the store makes the file anew", repairable=True))
        if description is not None:
            count = description.count
        elif slots is not None:
            count = slots.shape[0]
        else:
            return
        self._progress.total = 0 if slots is None else bytes_in(slots)
        self._check_parts(present, description, count)
        status = self._status(description)
        checksums = self._checksums(count)
        if description is not None:
            self._check_codes(description)
            self._check_samples(count, status)
            self._check_masks(description)
            self._check_manifest(description)
        if slots is None or checksums is None:
            self._notes.append("no slot could be checked")
            return
        self._check_slots(slots, status, checksums, workers)
        self._progress.done = self._progress.total
        self._report(self._progress)

    def stay(self) -> None:
        """Raise a ReplacedError if the store has been replaced."""
        if not self._is_current():
            raise ReplacedError

    def fault(self, fault: Fault, part: str = "") -> None:
        self.stay()
        self._faults.append(fault)
        self._faulty.add(part)

    def _tally(self, count: int) -> None:
        self._bytes += count
        self._progress.done = min(self._bytes, self._progress.total)
        self._report(self._progress)

    def _description(self) -> Description:
        """Return the contents of store.json.

        Raises:
            FormatError: it cannot be read, or has changed.
        """
        place, text = self._contents.where("store.json"), self._contents.text()
        self._bytes += len(text)
        self._identity = digest_of([text])
        try:
            members = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{place} cannot be read: {error}", source=place) from error
        if not isinstance(members, dict):
            raise FormatError(f"{place} should hold a JSON object", source=place)
        description = Description.from_json(members, place)
        digest = members.get("digest")
        if digest is None and not description.digests:
            if self._contents.has_digests:
                self._notes.append(f"{place} has no digests, so only the pixels and the fit of the parts were checked")
        elif digest is None or not description.digests or text_digest(text, digest) != digest:
            raise FormatError(f"{place} has changed since it was written: its digest is wrong", source=place)
        return description

    def _check_parts(self, present: list[str], description: Description | None, count: int) -> None:
        """Check each part: that it exists, its dtype, its shape, its length and its digest."""
        contents = self._contents
        targets = {} if description is None else description.targets
        digests = {} if description is None else description.digests
        of_targets = array_forms(targets, count)
        forms = {contents.target(key): form for key, form in of_targets.items()}
        forms |= {contents.status: ("|u1", (count,)), contents.checksums: ("<u8", (count,))}
        forms |= {} if description is None else contents.forms(description)
        totals = {contents.target(key): total for key, total in item_totals(targets).items()}
        # Offsets of masks that differ in shape are no masks: no slot could be found without them.
        keys = [key for key in of_targets if key.removesuffix(VALUES) in (description.masks if description else ())]
        masks = {contents.target(key) for key in keys}
        ours = {*contents.needed(of_targets), *digests, *filter(contents.is_ours, present)}
        for part in sorted(ours & set(present)):
            with self.finding(part):
                self._progress.total += contents.size(part) if digests else 0
        for part in sorted(ours - self._faulty):
            with self.finding(part):
                if part not in present:
                    raise FormatError(f"{contents.where(part)} is missing")
                if part in forms:
                    (dtype, shape), expected = contents.form(part), forms[part]
                    if (dtype, shape) != expected:
                        raise FormatError(
                            f"{contents.where(part)} holds {dtype} of shape {shape}, not {expected[0]} of shape "
                            f"{expected[1]}"
                        )
                if digests:
                    self._check_digest(part, digests, masks)
                if part in totals:
                    check_offsets(contents.array(part), totals[part], contents.where(part))
        others = sorted(set(present) - ours)
        if others and description is not None:
            self._notes.append(f"{contents.place} also holds other files or datasets: {', '.join(others)}")

    def _check_digest(self, part: str, digests: Any, masks: set[str]) -> None:
        where = self._contents.where(part)
        if part not in digests:
            raise FormatError(f"{where} has no digest in store.json, so it cannot be checked")
        if (found := digest_of(self._tallied(self._contents.blocks(part)))) != digests[part]:
            message = f"{where} has changed since it was stored: its digest is {found}, it was {digests[part]}"
            if part not in masks:
                raise FormatError(message)
            self._changed_masks[part] = message  # `_check_masks` finds the slots

    def _tallied(self, blocks: Iterator[bytes | memoryview]) -> Iterator[bytes | memoryview]:
        for block in blocks:
            yield block
            self._tally(len(block))

    def _status(self, description: Description | None) -> Status:
        """Return the status of each slot, or None where it is damaged."""
        part, where = self._contents.status, self._contents.where(self._contents.status)
        status: Status = None
        if part in self._faulty:
            return None
        with self.finding(part):
            status = self._contents.array(part)
            odd = np.flatnonzero((status != STORED) & (status != FAILED))
            if len(odd):
                found = f"slot {odd[0]} the status {status[odd[0]]}"
                raise FormatError(f"{where} gives {found}, which is neither 1 (stored) nor 2 (failed)")
            self._failed = int(np.count_nonzero(status == FAILED))
            if description is not None and self._failed != description.failed:
                raise FormatError(
                    f"{where} says that {self._failed:,} slots failed, store.json says {description.failed:,}"
                )
        return None if part in self._faulty else status

    def _checksums(self, count: int) -> Checksums | None:
        """Return the checksums, even if their digest is wrong, because most of them may still be right."""
        part = self._contents.checksums
        try:
            return self._contents.array(part) if self._contents.form(part) == ("<u8", (count,)) else None
        except FormatError:  # `_check_parts` has recorded the fault
            return None

    def _check_codes(self, description: Description) -> None:
        """Check that every class code has a name."""
        for name, names in description.classes.items():
            what = "item" if is_ragged(description.targets.get(name, {})) else "slot"
            part = self._contents.target(name if what == "slot" else name + VALUES)
            if part in self._faulty:
                continue
            with self.finding(part):
                if name not in description.targets:
                    raise FormatError(f"store.json names the classes of {name!r}, which is not a target")
                where, codes = self._contents.where(part), self._contents.array(part)
                if name in description.masks:
                    check_mask_codes(where, codes, names, description.masks[name])
                else:
                    check_codes(where, codes, names, what)

    def _check_samples(self, count: int, status: Status) -> None:
        """Check that samples has all columns, one row per slot, and a reason for exactly the slots that failed."""
        contents = self._contents
        if contents.column("reason") in self._faulty:
            return
        with self.finding(contents.column("reason")):
            table = contents.table("samples", ["reason"])
            where = contents.where(contents.column("reason"))
            if table is None or table.num_rows != count:
                rows = 0 if table is None else table.num_rows
                raise FormatError(f"{where} should have {count:,} rows, but it has {rows:,}")
            missing = sorted(set(COLUMNS) - set(contents.column_names()))
            if missing:
                raise FormatError(f"{where} lacks the columns {', '.join(missing)}")
            if status is None:
                return
            odd = np.flatnonzero(nulls_in(table["reason"]) == (status == FAILED))
            if len(odd):
                found = f"no reason for slot {odd[0]}, which failed"
                if status[odd[0]] == STORED:
                    found = f"a reason why slot {odd[0]} failed, but its status is 1, stored"
                raise FormatError(f"{where} has {found}")

    def _check_manifest(self, description: Description) -> None:
        """Check the digest of the manifest, if the store holds all that it was built from."""
        contents = self._contents
        are_files = description.from_files and description.masks_are_files
        if self._faults or not are_files or contents.table("dropped", []) is not None:
            return
        with_files = file_masks(description.masks, contents.column_names())
        forms = array_forms(description.targets, description.count)
        keys = [key for key in forms if key.partition("/")[0] not in with_files]
        if sum(map(contents.size, contents.needed(keys))) > _MANIFEST_LIMIT_BYTES:
            return
        with self.finding():
            samples = contents.table("samples", contents.column_names())
            targets = targets_in({key: contents.array(contents.target(key)) for key in keys}, contents.place)
            try:
                manifest = manifest_of(samples, targets, description.classes, description.masks)
            except ManifestError as error:
                raise FormatError(f"the parts of {contents.place} do not fit together: {error.message}") from error
            if manifest is not None and manifest.digest != description.manifest_digest:
                raise FormatError(
                    f"the sources, targets and texts of {contents.place} are not those of the build: their digest is "
                    f"{manifest.digest}, it was {description.manifest_digest}"
                )

    def _check_masks(self, description: Description) -> None:
        """Find the slots whose masks have changed; a change outside them is a fault.

        Where slots differ in height and width, each mask must have as many numbers as its slot has pixels.
        """
        contents, sides = self._contents, side_fields(description.spec)
        for name in description.masks if sides else ():
            part = contents.target(name + OFFSETS)
            if not {part, contents.shapes} & self._faulty:
                with self.finding(part):
                    pixels = contents.array(contents.shapes)[:, :2].astype(np.int64).prod(axis=1)
                    if not np.array_equal(np.diff(contents.array(part)), pixels):
                        raise FormatError(f"{contents.where(part)} does not fit the height and width of each slot")
        if self._changed_masks:
            with self.finding():
                self._wrong_masks = wrong_masks(self._contents, description)
        for part, message in {} if self._wrong_masks else self._changed_masks.items():
            self.fault(Fault(message, _ADVICE), part)

    def _check_slots(self, slots: SlotPixels, status: Status, checksums: Checksums, workers: int) -> None:
        claim = "they were stored with"
        if self._contents.checksums in self._faulty:
            claim = f"{self._contents.where(self._contents.checksums)}, which is damaged itself, says"

        def report(count: int, found: int) -> None:
            self._progress.bad = found
            self._tally(count)

        try:
            wrong = wrong_slots(slots, checksums, workers=workers, claim=claim, report=report)
        except OSError as error:
            keep_os_error(error)
            raise FormatError(f"{self._contents.place}: the pixels cannot be read: {error}") from error
        if status is not None:
            failed = np.flatnonzero(status == FAILED)
            is_encoded = not isinstance(slots, SlotFile | np.ndarray)
            empty = b"" if is_encoded or not len(failed) else np.zeros(slots.shape[1:], np.uint8).data
            for slot in failed[checksums[failed] != xxhash.xxh3_64_intdigest(empty)].tolist():
                wrong.setdefault(
                    slot, f"it failed, so {'it should be empty' if is_encoded else 'its pixels should be zeros'}"
                )
        wrong = {slot: why for slot, why in self._wrong_masks.items() if slot < len(checksums)} | wrong
        self._slots = len(checksums)
        self._damaged = tuple(self._named(dict(sorted(wrong.items()))))

    def _named(self, wrong: dict[int, str]) -> Iterator[BadImage]:
        """Yield the damaged slots, with their sources where these can be read."""
        sources: list[str | bytes] = ["unknown"] * len(wrong)
        if wrong and self._contents.column("source") not in self._faulty:
            with suppress(FormatError, IndexError):  # a fault of samples is recorded by `_check_samples`
                table = self._contents.table("samples", ["source"])
                if table is not None:
                    sources = table["source"].take(number_column(np.array([*wrong]))).to_pylist()
        for (slot, reason), source in zip(wrong.items(), sources, strict=True):
            yield BadImage(slot, os.fsdecode(source), reason, Kind.DAMAGED)
