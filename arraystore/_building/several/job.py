"""One run for several stores: each source is read once, and decoded once for all slots made of the same pixels.

For each store there is an ordinary `Job`, which writes that store's slot and row. The jobs share the image in between,
so every store gets the bytes that a build of it alone makes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import numpy as np

from arraystore._building import fill
from arraystore._building.fill import Job, Pixels
from arraystore._building.masks import HeldMask, MaskJob
from arraystore._building.workers.reading import Source
from arraystore._common.lazy import lazy
from arraystore._decoding import notes
from arraystore._format.slot_file import SlotFile
from arraystore._format.specification import EMPTY
from arraystore._sources.targets.mask_sources import MaskSource
from arraystore._stores.medium import FilledRun
from arraystore.spec import ImageSpec

if TYPE_CHECKING:
    from arraystore._decoding import decode
    from arraystore._decoding.decode import Decoded
else:  # it takes half a second
    decode = lazy("arraystore._decoding.decode")

T = TypeVar("T")


class Share(NamedTuple):
    """What one store gets of a run.

    Attributes:
        number: of the store in its build.
        name: of the store, for messages.
        spec: of its slots.
        file: see `Job`, as for ``masks``.
        masks: those of its slots.
    """

    number: int
    name: str
    spec: ImageSpec
    file: SlotFile | None
    masks: MaskJob | None


@dataclass(slots=True)
class JointRun(FilledRun):
    """The results of one run in several stores. A slot was left empty in all of these stores, or in none.

    Attributes:
        rows: those of the first store, which tell the state of each slot in all of them.
        reasons: slot → why its source could not be stored in some of the stores.
        encoded: the JPEGs of all of them.
        numbers: of the stores.
        parts: the result of each.
    """

    numbers: tuple[int, ...] = ()
    names: tuple[str, ...] = ()
    parts: tuple[FilledRun, ...] = ()

    @classmethod
    def of(cls, shares: Sequence[tuple[int, str]], parts: Sequence[FilledRun]) -> Self:
        """Return what the runs of stores, of which the numbers and names are given, are together."""
        numbers, names = tuple(number for number, _ in shares), tuple(name for _, name in shares)
        return cls(
            parts[0].start,
            parts[0].rows,
            joint_reasons(names, [part.reasons for part in parts]),
            traces=[trace for part in parts for trace in part.traces],
            encoded=[jpeg for part in parts for jpeg in part.encoded],
            numbers=numbers,
            names=names,
            parts=tuple(parts),
        )

    def until(self, count: int) -> Self:
        """See `FilledRun`."""
        return self.with_parts([part.until(count) for part in self.parts])

    def since(self, first: int) -> Self:
        """See `FilledRun`."""
        return self.with_parts([part.since(first) for part in self.parts])

    def with_parts(self, parts: Sequence[FilledRun]) -> Self:
        """Return the same with other results of the stores."""
        return self.of(list(zip(self.numbers, self.names, strict=True)), parts)


def joint_reasons(names: Sequence[str], reasons: Sequence[Mapping[int, str]]) -> dict[int, str]:
    """Return why sources could not be stored in some store: slot → reason, with the store's name if others differ."""
    joint = {}
    for slot in sorted(set().union(*reasons)):
        told = {name: each[slot] for name, each in zip(names, reasons, strict=True) if slot in each}
        if len(told) == len(names) and len(set(told.values())) == 1:
            joint[slot] = next(iter(told.values()))
        else:
            joint[slot] = "; ".join(f"in {name}: {reason}" for name, reason in told.items())
    return joint


class SharedImage:
    """The image of one slot, for the jobs of several stores. What one of them has made, the others take.

    Args:
        specs: by which each job decodes.
    """

    def __init__(self, specs: Sequence[ImageSpec]) -> None:
        self._specs = specs
        self._slots: Sequence[Pixels] = ()
        self._made: dict[Any, Any] = {}

    def begin(self, slots: Sequence[Pixels]) -> None:
        """Turn to the next image, whose pixels go to these slots."""
        self._slots = slots
        self._made.clear()

    def once(self, what: Any, make: Callable[[], T]) -> T:
        """Return or raise what the first call for the same thing has returned or raised."""
        if what not in self._made:
            try:
                self._made[what] = make()
            except Exception as error:  # it is raised below
                self._made[what] = error
        made: T = _returned(self._made[what])
        return made

    def decode(self, job: int, data: Any, memory_bytes: float) -> tuple[Pixels, Decoded]:
        """Decode the image into the slots of a job and of those that follow it; see `Job.decode`."""
        if ("decoded", job) not in self._made:
            each = decode.decode_each(data, self._slots[job:], self._specs[job:], memory_bytes=memory_bytes)
            self._made |= {("decoded", number): made for number, made in enumerate(each, job)}
        made: tuple[Pixels, Decoded] = _returned(self._made["decoded", job])
        return made


def _returned(made: Any) -> Any:
    if isinstance(made, Exception):
        raise made
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class _StoreJob(Job):
    """The job of one store, which gets at images by way of the others."""

    number: int  # among the jobs of the run
    image: SharedImage

    def read(self, source: Source) -> tuple[Any, int, int]:
        """See `Job`, as for the other methods."""
        return self.image.once(("read", self.spec.max_pixels), lambda: Job.read(self, source))

    def decoded_by_caller(self, source: Source, data: Any) -> Any:
        return self.image.once("decoded by caller", lambda: Job.decoded_by_caller(self, source, data))

    def decode(self, data: Any, slot: Pixels) -> tuple[Pixels, Decoded]:
        del slot  # it is one of the slots that the image was begun with
        return self.image.decode(self.number, data, self.memory_bytes)

    def mask(self, source: MaskSource, image: tuple[int, int]) -> HeldMask:
        def make() -> tuple[HeldMask, list[str]]:
            held = Job.mask(self, source, image)
            return held, notes.taken()

        earlier = notes.taken()  # of other masks
        what = ("mask", id(source), self.spec.max_pixels, self.spec.levels)
        held, noticed = self.image.once(what, make)
        for text in (*earlier, *noticed):
            notes.notice(text)
        return held


@dataclass(frozen=True, slots=True, kw_only=True)
class JointJob(Job):
    """One run to fill in several stores. The spec is that of one of them.

    Attributes:
        shares: what each store gets.
    """

    shares: tuple[Share, ...] = field(default=())

    @property
    def slot_files(self) -> tuple[SlotFile, ...]:
        """See `Job`, as for the methods."""
        return tuple(share.file for share in self.shares if share.file is not None)

    def empty_run(self) -> JointRun:
        return self._joined([job.empty_run() for job in self._jobs()])

    def parts(self, every_s: float) -> Iterator[FilledRun]:
        jobs = self._jobs()
        rooms = [fill.room_of(job) for job in jobs]
        settle = _Settling(jobs, rooms)
        for filled in fill.timed_parts(self.empty_run(), settle, every_s):
            yield filled.with_parts([fill.delivered(*each) for each in zip(jobs, filled.parts, rooms, strict=True)])

    def fill(self, slots: Any, stop: threading.Event) -> FilledRun:
        """Fill the run in threads; ``slots`` are those of each store of the build."""
        jobs, filled = self._jobs(), self.empty_run()
        own = slice(self.start, self.start + len(self.sources))
        encoded = [job.spec.encode is not None for job in jobs]
        rooms = [
            job.scratch() if is_encoded else slots[share.number][own]
            for job, share, is_encoded in zip(jobs, self.shares, encoded, strict=True)
        ]
        settle = _Settling(jobs, rooms)
        for i in range(len(self.sources)):
            if stop.is_set():
                break
            settle(i, filled.rows[i], filled)
        return filled.with_parts(filled.parts)

    def failed(self, reason: str) -> FilledRun:
        return self._joined([job.failed(reason) for job in self._jobs()])

    def _joined(self, parts: Sequence[FilledRun]) -> JointRun:
        return JointRun.of([(share.number, share.name) for share in self.shares], parts)

    def _jobs(self) -> list[_StoreJob]:
        image = SharedImage([share.spec.decoded for share in self.shares])
        return [
            _StoreJob(
                self.start,
                self.sources,
                share.spec,
                share.file,
                self.memory_bytes,
                self.most_memory_bytes,
                self.decoders,
                share.masks,
                self.sides,
                number=number,
                image=image,
            )
            for number, share in enumerate(self.shares)
        ]


class _Settling:
    """Fills one slot in each store, as `timed_parts` asks for it."""

    def __init__(self, jobs: Sequence[_StoreJob], rooms: Sequence[Pixels]) -> None:
        self._jobs, self._rooms = jobs, rooms

    def __call__(self, i: int, row: np.void, filled: JointRun) -> None:
        del row
        slots = [room[i % len(room)] for room in self._rooms]
        self._jobs[0].image.begin(slots)
        slot = self._jobs[0].start + i
        at = slot - filled.start
        for job, pixels, part in zip(self._jobs, slots, filled.parts, strict=True):
            fill.fill_slot(job, i, pixels, part.rows[at], part)
        if any(part.rows["status"][at] == EMPTY for part in filled.parts):
            # It needs more memory than its share for one of the stores, so it is filled later, alone, in all of them.
            for part in filled.parts:
                _leave(part, at)


def _leave(part: FilledRun, at: int) -> None:
    """Make a slot of a run as if it was not filled."""
    part.rows[at] = np.zeros((), part.rows.dtype)
    part.reasons.pop(part.start + at, None)
    part.notes.pop(part.start + at, None)
    if part.encoded:
        part.encoded[at] = b""
