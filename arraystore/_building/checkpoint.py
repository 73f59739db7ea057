"""Claims finished runs while others are filled, so that a killed build loses about a second of work.

Syncing pixels waits for the volume; here it waits in a thread of its own, and the workers go on.
"""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

from arraystore._stores.medium import Draft, FilledRun

__all__ = ["Checkpoints"]

# How often: seldom enough that the syncing costs nothing, often enough that little is lost.
_INTERVAL_S = 1.0
# How much may be filled and not claimed: a volume slower than the decoders would otherwise fall behind without end, and
# an interruption has to wait until this much is written.
_UNCLAIMED_BYTES = 512 << 20
_LOOK_S = 0.1


class Checkpoints:
    """Hands finished runs to `Draft.claim`, in the background for a draft on disk; a context manager.

    Leaving it claims everything that was added, however the build ends.

    Args:
        draft: what is being filled.

    Raises:
        SpaceError: on leaving: the volume is full. What was claimed before stays claimed.
        OSError: on leaving: it failed.
    """

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._slot_bytes = draft.slots[:1].nbytes
        self._runs: list[FilledRun] = []
        self._bytes = 0
        self._changed = threading.Condition()
        self._closing = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="arraystore-checkpoint", daemon=True)

    def add(self, run: FilledRun) -> None:
        """Claim a run soon; its pixels are written. Waits where the volume cannot keep up.

        Raises:
            SpaceError: the volume is full. What was claimed before stays claimed.
            OSError: it failed.
        """
        if self._draft.file is None:
            self._draft.claim([run])
            return
        with self._changed:
            self._runs.append(run)
            self._bytes += len(run.rows) * self._slot_bytes
            while self._bytes > _UNCLAIMED_BYTES and self._error is None:
                self._changed.notify_all()
                self._changed.wait(_LOOK_S)
            if self._error is not None:
                raise self._error

    def __enter__(self) -> Self:
        if self._draft.file is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _work(self) -> None:
        claimed_s = time.monotonic()
        while True:
            with self._changed:
                while not self._due(time.monotonic() - claimed_s):
                    self._changed.wait(_LOOK_S)
                if not self._runs:
                    return
                runs, size = self._runs, self._bytes
                self._runs = []
            try:
                self._draft.claim(runs)
            except BaseException as error:  # noqa: BLE001 - it is raised where the build waits for this thread
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return  # after an error nothing may be claimed: the system forgets which pages it failed to write
            claimed_s = time.monotonic()
            with self._changed:
                self._bytes -= size
                self._changed.notify_all()

    def _due(self, waited_s: float) -> bool:
        if self._closing:
            return True
        return bool(self._runs) and (waited_s >= _INTERVAL_S or self._bytes > _UNCLAIMED_BYTES)
