"""Batches made by threads, a bounded number at a time, and handed over in order.

If one thread fails, all stop and the consumer gets its error. Leaving the loop early stops the threads.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from arraystore.errors import StoreError

_log = logging.getLogger(__name__)

_LONGEST_WAIT_S = 1.0  # a waiting thread looks at the state again after this time, notified or not
_STOP_WAIT_S = 10.0  # a thread that still runs after this time is left alone


class Batch(ABC):
    """One batch, which threads fill a piece at a time.

    Args:
        pieces: ranges of its rows, at least one; each is filled by one call, in any thread and any order.
        about: what is made, for errors.

    Attributes:
        begun: how many pieces threads have taken.
        filled: how many pieces are filled.
        result: what the consumer gets.
        ready: whether the result is there.
    """

    def __init__(self, pieces: Sequence[tuple[int, int]], about: str) -> None:
        self.pieces = pieces
        self.about = about
        self.begun = self.filled = 0
        self.result: Any = None
        self.ready = False

    @abstractmethod
    def fill(self, start: int, stop: int) -> None:
        """Fill a range of rows."""

    @abstractmethod
    def finish(self) -> Any:
        """Return what the consumer gets; called once, in the thread that filled the last piece."""


class Pipeline:
    """Threads that make batches ahead of the one thread that takes them.

    Args:
        batches: the batches in order; one thread at a time asks for the next.
        workers: how many threads fill.
        in_flight: how many batches may be begun and not yet taken.
        also_run: runs in one more thread; it gets this pipeline, and must return soon after `stop`.
        on_stop: is called when the pipeline is stopped or a thread has failed; long calls should end soon then.
        on_end: is called once, when the last thread has ended, or if no thread could start.
    """

    def __init__(
        self,
        batches: Iterator[Batch],
        *,
        workers: int,
        in_flight: int,
        also_run: Callable[[Pipeline], None] | None = None,
        on_stop: Callable[[], None] = lambda: None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._batches = batches
        self._in_flight = in_flight
        self._on_stop = on_stop
        self._on_end = on_end
        self._queue: deque[Batch] = deque()  # begun and not yet taken
        self._begun = 0
        self._beginning = False  # a thread is asking for the next batch
        self._all_begun = False
        self._stopped = False
        self._error: BaseException | None = None
        self._process = os.getpid()
        # One lock with three conditions, so that a thread is woken only for what it waits for. The lock is reentrant
        # because the garbage collector may call `stop` in a thread that holds it.
        self._lock = threading.RLock()
        self._can_work, self._batch_ready, self._batch_begun = (threading.Condition(self._lock) for _ in range(3))
        targets: list[Callable[[], None]] = [self._work] * workers
        if also_run is not None:
            targets.append(lambda: also_run(self))
        # Daemons: a thread that is stuck in a function of the user must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._run, args=(target,), name=f"arraystore-read-{number}", daemon=True)
            for number, target in enumerate(targets)
        ]
        self._alive = 0
        self._ended = False

    def start(self) -> None:
        """Start the threads; the caller must `stop` them.

        Raises:
            StoreError: a thread could not be started; the others have ended.
        """
        try:
            for thread in self._threads:
                thread.start()
        except BaseException as error:  # KeyboardInterrupt too
            self.stop()
            if isinstance(error, RuntimeError):
                raise StoreError(f"no thread could be started to read: {error}; use fewer workers") from error
            raise

    def take(self) -> Any:
        """Wait for the next batch.

        Raises:
            StopIteration: there are no more batches.
            StoreError: this process was forked from the one whose threads make the batches.
            BaseException: the error of a thread.
        """
        if os.getpid() != self._process:
            raise StoreError("the threads of this iteration are in the process that was forked: begin one of your own")
        with self._lock:
            while True:
                if self._error is not None:
                    error, self._error = self._error, None
                    break
                if self._queue and self._queue[0].ready:
                    self._can_work.notify()
                    return self._queue.popleft().result
                if self._stopped or (self._all_begun and not self._queue):
                    raise StopIteration
                self._batch_ready.wait(_LONGEST_WAIT_S)
        self.stop()
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame; the cycle would keep batches alive until a collection

    def wait_begun(self, number: int) -> bool:
        """Wait until so many batches have been begun; return False if that will not happen any more."""
        with self._lock:
            while self._begun < number and not self._stopped and not self._all_begun:
                self._batch_begun.wait(_LONGEST_WAIT_S)
            return self._begun >= number and not self._stopped

    @property
    def begun(self) -> int:
        """How many batches have been begun."""
        return self._begun

    def stop(self) -> None:
        """Stop the threads and wait until they have ended; discard their batches. It may be called twice."""
        if os.getpid() != self._process:
            return
        self._halt(None)
        with self._lock:
            self._queue.clear()
        me = threading.current_thread()
        if me in self._threads:  # the garbage collector called this in one of the threads, which ends by itself
            return
        deadline_s = time.monotonic() + _STOP_WAIT_S
        for thread in self._threads:
            with contextlib.suppress(RuntimeError):  # it has not been started
                thread.join(max(deadline_s - time.monotonic(), 0))
            if thread.is_alive():
                _log.warning("%s is still at work, and ends when that is done", thread.name)
        self._end_after_last_thread()

    def _run(self, target: Callable[[], None]) -> None:
        with self._lock:
            if self._stopped or self._ended:
                return
            self._alive += 1
        try:
            target()
        except StopIteration as error:  # where the batch is taken, it would look like the end of the epoch
            wrapped = RuntimeError("a function that makes a batch raised StopIteration")
            wrapped.__cause__ = error
            self._halt(wrapped)
        except BaseException as error:  # `take` raises it
            self._halt(error)
        finally:
            with self._lock:
                self._alive -= 1
            self._end_after_last_thread()

    def _end_after_last_thread(self) -> None:
        with self._lock:
            last = self._alive == 0 and (self._stopped or self._all_begun) and not self._ended
            self._ended |= last
        if last:
            self._on_end()

    def _halt(self, error: BaseException | None) -> None:
        with self._lock:
            if not self._stopped:
                self._error = error
            self._stopped = True
            for condition in (self._can_work, self._batch_ready, self._batch_begun):
                condition.notify_all()
        self._on_stop()

    def _work(self) -> None:
        while self._fill_piece():
            pass

    def _fill_piece(self) -> bool:
        # A function of its own: when it returns, no variable of a waiting thread keeps a batch alive.
        piece = self._next_piece()
        if piece is None:
            return False
        batch, (start, stop) = piece
        try:
            batch.fill(start, stop)
            with self._lock:
                batch.filled += 1
                last = batch.filled == len(batch.pieces)
            if last:
                result = batch.finish()
                with self._lock:
                    batch.result, batch.ready = result, True
                    self._batch_ready.notify()
        except BaseException as error:
            error.add_note(f"while {batch.about} was made")
            raise
        return True

    def _next_piece(self) -> tuple[Batch, tuple[int, int]] | None:
        with self._lock:
            while not self._stopped:
                batch = next((batch for batch in self._queue if batch.begun < len(batch.pieces)), None)
                if batch is not None:
                    batch.begun += 1
                    return batch, batch.pieces[batch.begun - 1]
                if self._all_begun:
                    return None
                if len(self._queue) < self._in_flight and not self._beginning:
                    self._begin_batch()
                else:
                    self._can_work.wait(_LONGEST_WAIT_S)
            return None

    def _begin_batch(self) -> None:
        """Begin the next batch. The caller holds the lock; it is released meanwhile, as drawing slots may take long."""
        self._beginning = True
        self._lock.release()
        try:
            batch = next(self._batches, None)
        finally:
            self._lock.acquire()
            self._beginning = False
        if self._stopped:
            return
        if batch is None:
            self._all_begun = True
            self._can_work.notify_all()
            self._batch_ready.notify_all()
        else:
            self._queue.append(batch)
            self._begun += 1
            self._can_work.notify(len(batch.pieces))
        self._batch_begun.notify_all()
