"""The frames of one loader: which one an epoch reads, and the next one, which is made meanwhile."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from arraystore._augmenting.augment import Augment
from arraystore._common.forks import lock_across_forks
from arraystore._common.wording import readable
from arraystore._format.contents import JSON_ENTRY
from arraystore._format.files import read_json
from arraystore._frames.choosing import class_codes
from arraystore._frames.control import Control
from arraystore._frames.making import SLOT, Making, check_options
from arraystore._frames.options import FrameOptions
from arraystore._frames.samples import declared_numbers
from arraystore._frames.schedule import Schedule, Span
from arraystore._frames.sheets import draw_sheet
from arraystore._ordering.ranks import ranks
from arraystore._reading.slot_arrays import SlotArrays
from arraystore._reading.store import Store
from arraystore.errors import ArraystoreError, FormatError, Kind, Option, SpaceError

_log = logging.getLogger(__name__)

_WAIT_S = 0.5
_REMOVAL_S = 30.0  # within which rank 0 has removed a frame that a change has replaced

# One for all loaders, because one of their own would stay shut in a process that is forked while it is held.
_switching = lock_across_forks()


@dataclass(frozen=True, eq=False)
class _Made:
    """One frame that is made, or being made, for this process.

    Attributes:
        span: what it is.
        store: it.
        slots: it with its targets, as a loader reads it.
    """

    span: Span
    store: Store
    slots: SlotArrays


class Frames:
    """See `arraystore._reading.frames.Frames`, also for what its methods do.

    Args:
        frame: the options of the frames.
        slots: that the samples are made of.
        options: all options of the loader.
        targets: the names of the targets in its batches.

    Attributes:
        augment: what is left to be done when a batch is read.
        identity: of what the samples are made of and with.
        stopped: whether the training was asked to stop.

    Raises:
        SpecError: an option of the loader does not go with frames, or these do not go with its slots.
        SpaceError: two frames take more than ``keep`` allows.
    """

    def __init__(
        self, frame: FrameOptions, slots: SlotArrays, options: Mapping[str, Any], targets: tuple[str, ...]
    ) -> None:
        check_options(frame, slots, options, targets)
        frame = frame.with_absolute_paths()
        augment, made_with = _divided(options["augment"])
        self.augment: Augment | None = augment
        transform = options["transform"] if frame.augment else None
        self._making = Making(frame, slots, targets, options["seed"], made_with if frame.augment else None, transform)
        self.identity: str = self._making.identity
        numbers = declared_numbers(transform)
        self._schedule = Schedule(Span(0, 0, frame.epochs, frame.per_class, 0, numbers))
        self._rank, world_size = ranks(options["rank"], options["world_size"])
        self._patience_s = _REMOVAL_S if world_size > 1 else 0.0
        control = options["control"]
        self._control = (
            None if control is None else Control(control, numbers, self._wrong_count, self._rank, world_size)
        )
        self.stopped: bool = False
        self._unread = 0  # the first epoch at whose end the control file was not read
        self._current: _Made | None = None
        self._next: _Made | None = None
        self._error: tuple[Span, BaseException] | None = None  # of the next one
        self._thread: threading.Thread | None = None  # begins the next one
        too_large = self._too_large(self._schedule.at(0))
        if too_large is not None:
            raise SpaceError(
                too_large[0],
                advice="allow more, keep frames in a folder, or make them smaller with {0}",
                options=[Option("per_class", 100)],
                needed_bytes=too_large[1],
                free_bytes=frame.most_bytes or 0,
            )

    @property
    def store(self) -> Store | None:
        """See `arraystore._reading.frames.Frames`, as for everything that follows."""
        return None if self._current is None else self._current.store

    def count(self, epoch: int) -> int:
        return self._making.count(self._schedule.at(epoch))

    def template(self, epoch: int) -> SlotArrays:
        return self._making.template(self._schedule.at(epoch))

    def slots(self, epoch: int) -> SlotArrays:
        span = self._schedule.at(epoch)
        while True:
            with _switching:
                if self._current is not None and self._current.span == span:
                    return self._current.slots
                thread = self._thread
                if thread is None:
                    made, self._next = self._next, None
                    error, self._error = self._error, None
                    break
            thread.join(_WAIT_S)
        if error is not None and error[0] == span:
            raise error[1]
        if made is not None and made.span != span:
            self._discard(made)
            made = None
        made = self._begun(span) if made is None else made
        with _switching:
            before, self._current = self._current, made
        if before is not None:
            before.slots.expect(lambda: iter(()))  # the order of its last epoch would keep it in memory
        frame = self._making.frame
        if before is not None and frame.folder is not None:
            _start(self._finish, before, span.number - 2)
        if frame.samples and self._rank == 0:
            _start(_draw, frame.sheet_folder / f"frame-{span.number:04d}.png", self._making, span)
        return made.slots

    def make_ahead(self, epoch: int) -> None:
        with _switching:
            current = self._current
            busy = self._thread is not None or self._next is not None or self._error is not None
            if current is None or busy or current.slots.is_filling or current.span != self._schedule.at(epoch):
                return
            self._thread = _start(self._make_next, self._schedule.at(current.span.stop))

    def ended(self, epoch: int) -> None:
        if self._control is None or epoch < self._unread:
            return
        self._unread = epoch + 1
        asked = self._control.read(epoch, self._schedule.settings() | {"stop": self.stopped})
        self.stopped = asked.pop("stop", self.stopped)
        if asked:
            self._schedule.change(epoch, asked)

    def keep_count(self, why: str) -> None:
        if self._control is not None:
            self._control.keep_count(why)

    def state(self) -> list[Any]:
        return [[epoch, changes] for epoch, changes in self._schedule.changes]

    def restore(self, state: list[Any], epoch: int) -> None:
        self._schedule.restore(state)
        self._unread = epoch

    def _begun(self, span: Span) -> _Made:
        return _Made(span, *self._making.begin(span, self._patience_s))

    def _make_next(self, span: Span) -> None:
        """Begin the next frame; in a thread of its own."""
        made, raised = None, None
        try:
            made = self._begun(span)
        except BaseException as error:  # the change to that frame raises it
            raised = error
        with _switching:
            self._next, self._thread = made, None
            self._error = None if raised is None else (span, raised)

    def _finish(self, made: _Made, old: int) -> None:
        """Publish a frame in the folder, which other processes may still read, and remove the one before it."""
        try:
            made.store.finish()
        except ArraystoreError as error:
            # Another process may have removed it meanwhile, or ended in the middle of it.
            by_others = isinstance(error, FormatError) or error.kind is Kind.BUSY
            level = logging.INFO if by_others else logging.WARNING
            _log.log(level, "frame %d was not finished: %s", made.span.number, error)
        made.store.close()
        path = self._making.path(old)
        if path is not None and self._rank == 0 and _is_frame(path):
            shutil.rmtree(path, ignore_errors=True)

    def _discard(self, made: _Made) -> None:
        """Drop a frame that a change has replaced before it was read."""
        path = self._making.path(made.span.number)
        made.store.close()
        if path is not None and self._rank == 0:
            for each in (path, path.with_name(path.name + ".partial")):
                shutil.rmtree(each, ignore_errors=True)

    def _too_large(self, span: Span) -> tuple[str, int] | None:
        """Return why two frames like this one are more than ``keep`` allows, and their bytes; None if they are not."""
        limit, count = self._making.frame.most_bytes, self._making.count(span)
        needed = 2 * count * int(np.prod(self._making.shape(span)))
        if limit is None or needed <= limit:
            return None
        return f"two frames of {count:,} samples take {readable(needed)}, and keep allows {readable(limit)}", needed

    def _wrong_count(self, per_class: int | None) -> str | None:
        """Return why so many samples of each class cannot be made; None if they can."""
        if per_class is not None and class_codes(self._making.base) is None:
            return "needs labels, one whole number for each slot"
        too_large = self._too_large(replace(self._schedule.at(0), per_class=per_class))
        return None if too_large is None else f"is too much: {too_large[0]}"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_current": None, "_next": None, "_error": None, "_thread": None}


def _divided(augment: Augment | None) -> tuple[Augment | None, Augment | None]:
    """Return what of an augmentation is left to do when batches are read, and what samples are made with."""
    if augment is None:
        return None, None
    left = Augment(dtype=augment.dtype, normalize=augment.normalize, layout=augment.layout)
    made_with = replace(augment, dtype="uint8", normalize=False, layout=None)
    return None if left.is_identity else left, None if made_with.is_identity else made_with


def _is_frame(path: Path) -> bool:
    """Return whether a finished frame lies at a path, and nothing else that happens to have its name."""
    try:
        return SLOT in read_json(path / JSON_ENTRY)["targets"]
    except (FormatError, OSError, KeyError, TypeError):
        return False


def _start(target: Callable[..., None], *arguments: Any) -> threading.Thread:
    thread = threading.Thread(target=target, args=arguments, name="arraystore-frames", daemon=True)
    thread.start()
    return thread


def _draw(path: Path, making: Making, span: Span) -> None:
    """Draw the contact sheet of a frame; in a thread of its own, so that no batch waits for it."""
    try:
        draw_sheet(path, making.samples(span), making.base, count=making.frame.samples, seed=making.seed)
    except Exception as error:  # a training goes on without it
        _log.warning("%s was not drawn: %s", path, error)
