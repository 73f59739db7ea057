"""Batches made by threads, a bounded number at a time, and handed over in order.

Every wait ends: a thread that fails ends all, and who waits gets its error; who leaves early takes the threads along.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from arraystore.errors import StoreError

__all__ = ["Flow", "Making"]

_log = logging.getLogger(__name__)

_LOOK_S = 1.0
_JOIN_S = 10.0


@dataclass(slots=True)
class Making:
    """A batch that is to be made.

    Attributes:
        pieces: ranges of its rows, at least one; each is filled by one call, in any thread and any order.
        fill: fills a range.
        finish: returns what is handed over, once all is filled; called in the thread that filled the last.
        about: what it is, for errors.
    """

    pieces: Sequence[tuple[int, int]]
    fill: Callable[[int, int], None]
    finish: Callable[[], Any]
    about: str


@dataclass(slots=True)
class _Entry:
    making: Making
    begun: int = 0
    filled: int = 0
    result: Any = None
    ready: bool = False


class Flow:
    """Threads that make batches ahead of the one thread that takes them.

    Args:
        makings: the batches in order; advanced by one thread at a time.
        workers: how many threads fill.
        in_flight: how many batches may be begun and not yet handed over.
        beside: a function that runs in one more thread; it gets this flow, and returns soon after `stop`.
        stopping: is called when it is stopped, or a thread has failed; then all threads are to end soon.
        close: is called once, when the last thread has ended, or if none could begin.
    """

    def __init__(  # noqa: PLR0913 - all is known before it starts
        self,
        makings: Iterator[Making],
        *,
        workers: int,
        in_flight: int,
        beside: Callable[[Flow], None] | None = None,
        stopping: Callable[[], None] = lambda: None,
        close: Callable[[], None] = lambda: None,
    ) -> None:
        self._makings = makings
        self._in_flight = in_flight
        self._stopping = stopping
        self._close = close
        self._line: deque[_Entry] = deque()
        self._opened = 0
        self._opening = False
        self._drained = False
        self._over = False
        self._error: BaseException | None = None
        self._process = os.getpid()
        # One lock; whoever waits for different things is woken apart. It may be entered again by the thread that
        # holds it, for `stop` may be called whenever something is freed.
        self._lock = threading.RLock()
        self._room, self._ready, self._progress = (threading.Condition(self._lock) for _ in range(3))
        targets: list[Callable[[], None]] = [self._work] * workers
        if beside is not None:
            targets.append(lambda: beside(self))
        # They end with the process: what is left running at its end must not hold it up.
        self._threads = [
            threading.Thread(target=self._run, args=(target,), name=f"arraystore-read-{number}", daemon=True)
            for number, target in enumerate(targets)
        ]
        self._alive = 0
        self._closed = False

    def start(self) -> None:
        """Start the threads; whoever calls this sees to it that they are stopped.

        Raises:
            StoreError: a thread could not be started; those that were have ended.
        """
        try:
            for thread in self._threads:
                thread.start()
        except BaseException as error:  # be it an interrupt
            self.stop()
            if isinstance(error, RuntimeError):
                raise StoreError(f"no thread could be started to read: {error}; use fewer workers") from error
            raise

    def take(self) -> Any:
        """Wait for the next batch.

        Raises:
            StopIteration: there is none any more.
            StoreError: this is a fork of the process whose threads make them.
            BaseException: what a thread raised.
        """
        if os.getpid() != self._process:
            raise StoreError("the threads of this iteration are in the process that was forked: begin one of your own")
        with self._lock:
            while True:
                if self._error is not None:
                    error, self._error = self._error, None
                    break
                if self._line and self._line[0].ready:
                    self._room.notify()
                    return self._line.popleft().result
                if self._over or (self._drained and not self._line):
                    raise StopIteration
                self._ready.wait(_LOOK_S)
        self.stop()
        try:
            raise error
        finally:
            del error  # it refers to this call, and would keep its batches until the next collection

    def opened(self, number: int) -> bool:
        """Wait until that many batches have been begun; return False once there is nothing to wait for any more."""
        with self._lock:
            while self._opened < number and not self._over and not self._drained:
                self._progress.wait(_LOOK_S)
            return self._opened >= number and not self._over

    @property
    def begun(self) -> int:
        """How many batches have been begun."""
        return self._opened

    def stop(self) -> None:
        """End the threads, and wait until they have; what they have made is given up. It may be called twice."""
        if os.getpid() != self._process:
            return
        self._end(None)
        with self._lock:
            self._line.clear()
        me = threading.current_thread()
        if me in self._threads:  # freed in the middle of its own work: it ends when that is done
            return
        deadline_s = time.monotonic() + _JOIN_S
        for thread in self._threads:
            with contextlib.suppress(RuntimeError):  # one that was not started, which does nothing if it is later
                thread.join(max(deadline_s - time.monotonic(), 0))
            if thread.is_alive():
                _log.warning("%s is still at work, and ends when that is done", thread.name)
        self._close_behind_the_last()

    def _run(self, target: Callable[[], None]) -> None:
        with self._lock:
            if self._over or self._closed:
                return
            self._alive += 1
        try:
            target()
        except StopIteration as error:  # raised where the batch is waited for, it would pass for the end of the epoch
            told = RuntimeError("what makes a batch raised StopIteration")
            told.__cause__ = error
            self._end(told)
        except BaseException as error:  # noqa: BLE001 - it is raised where the batch is waited for
            self._end(error)
        finally:
            with self._lock:
                self._alive -= 1
            self._close_behind_the_last()

    def _close_behind_the_last(self) -> None:
        with self._lock:
            last = self._alive == 0 and (self._over or self._drained) and not self._closed
            self._closed |= last
        if last:
            self._close()

    def _end(self, error: BaseException | None) -> None:
        with self._lock:
            if not self._over:
                self._error = error
            self._over = True
            for condition in (self._room, self._ready, self._progress):
                condition.notify_all()
        self._stopping()

    def _work(self) -> None:
        while self._step():
            pass

    def _step(self) -> bool:
        # A call of its own, so that no variable of a waiting thread keeps a batch from being given back.
        piece = self._next_piece()
        if piece is None:
            return False
        entry, (start, stop) = piece
        try:
            entry.making.fill(start, stop)
            with self._lock:
                entry.filled += 1
                last = entry.filled == len(entry.making.pieces)
            if last:
                result = entry.making.finish()
                with self._lock:
                    entry.result, entry.ready = result, True
                    self._ready.notify()
        except BaseException as error:
            error.add_note(f"while {entry.making.about} was made")
            raise
        return True

    def _next_piece(self) -> tuple[_Entry, tuple[int, int]] | None:
        with self._lock:
            while not self._over:
                entry = next((entry for entry in self._line if entry.begun < len(entry.making.pieces)), None)
                if entry is not None:
                    entry.begun += 1
                    return entry, entry.making.pieces[entry.begun - 1]
                if self._drained:
                    return None
                if len(self._line) < self._in_flight and not self._opening:
                    self._open()
                else:
                    self._room.wait(_LOOK_S)
            return None

    def _open(self) -> None:
        """Begin the next batch; the lock, which is held, is let go meanwhile: to draw slots may take long."""
        self._opening = True
        self._lock.release()
        try:
            making = next(self._makings, None)
        finally:
            self._lock.acquire()
            self._opening = False
        if self._over:
            return
        if making is None:
            self._drained = True
            self._room.notify_all()
            self._ready.notify_all()
        else:
            self._line.append(_Entry(making))
            self._opened += 1
            self._room.notify(len(making.pieces))
        self._progress.notify_all()
