"""Claim finished runs while others are filled, so that a killed build loses about a second of work.

A claim must wait until the volume has written the pixels. A thread of its own waits, while the workers continue.
"""

import threading
import time
from typing import Protocol, Self

from arraystore._stores.medium import FilledRun

# Seldom enough that fsync costs nothing, often enough that little work is lost.
_CLAIM_EVERY_S = 1.0
# If more than this is filled and not claimed, the build waits for the volume. Without a limit, a volume slower than the
# decoders would fall ever further behind, and an interrupted build would take as long to end.
_UNCLAIMED_LIMIT_BYTES = 512 << 20
_WAIT_LIMIT_S = 0.1


class Claims(Protocol):
    """What can claim finished runs, such as a `Draft`."""

    def claim(self, runs: list[FilledRun]) -> None:
        """Make the pixels of the runs durable, and then the rows that claim them."""


class Checkpoints:
    """A context manager that hands finished runs to `Draft.claim`; unless ``at_once``, in the background.

    On leaving it, all runs that were added get claimed, even if the build has failed.

    The order that makes claims safe: a worker writes the pixels of a run; `add` takes the run; `Draft.claim` makes the
    pixels durable, and then writes the rows. After an error of `claim`, nothing more is claimed; `add` or the end of
    the block raises the error, and earlier claims stay.
    """

    def __init__(self, draft: Claims, slot_bytes: int, *, at_once: bool = False) -> None:
        self._draft = draft
        self._slot_bytes = slot_bytes
        self._runs: list[FilledRun] = []
        self._bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._error: BaseException | None = None
        # None where nothing has to be made durable. A thread that is never started keeps what it was to run, and so the
        # slots of a build in memory would live until a collection.
        self._thread: threading.Thread | None = None
        if not at_once:
            self._thread = threading.Thread(target=self._work, name="arraystore-checkpoint", daemon=True)

    def add(self, run: FilledRun) -> None:
        """Claim a run soon. Its pixels must be written by now. The call waits if the volume cannot keep up."""
        if self._thread is None:
            self._draft.claim([run])
            return
        with self._changed:
            self._runs.append(run)
            if self._slot_bytes:
                self._bytes += len(run.rows) * self._slot_bytes
            else:  # sources that are kept as they are
                self._bytes += int(run.rows["length"].sum())
            while self._bytes > _UNCLAIMED_LIMIT_BYTES and self._error is None:
                self._changed.notify_all()
                self._changed.wait(_WAIT_LIMIT_S)
            if self._error is not None:
                raise self._error

    def __enter__(self) -> Self:
        if self._thread is not None:
            self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread is not None and self._thread.ident is not None:
            self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _work(self) -> None:
        claimed_s = time.monotonic()
        while True:
            with self._changed:
                while not self._due(time.monotonic() - claimed_s):
                    self._changed.wait(_WAIT_LIMIT_S)
                if not self._runs:
                    return
                runs, size = self._runs, self._bytes
                self._runs = []
            try:
                self._draft.claim(runs)
            except BaseException as error:  # `add` or `__exit__` raises it in the build's thread
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                # Nothing may be claimed after an error: the system reports only once that it failed to write a page,
                # and a later fsync succeeds without it.
                return
            claimed_s = time.monotonic()
            with self._changed:
                self._bytes -= size
                self._changed.notify_all()

    def _due(self, waited_s: float) -> bool:
        if self._closing:
            return True
        return bool(self._runs) and (waited_s >= _CLAIM_EVERY_S or self._bytes > _UNCLAIMED_LIMIT_BYTES)
