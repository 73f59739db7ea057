"""Worker processes that compute items, one for each thread that asks; a process that dies is replaced."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any

import numpy as np

from arraystore._sequences.answers import HEAD, NUMBER, received
from arraystore._sequences.step import Step
from arraystore._workers.buffers import BufferPool
from arraystore._workers.child import Child, ending, sigint_held
from arraystore._workers.messages import Raised, WithFunctions, pack, unpack
from arraystore.errors import Kind, StoreError

START_LIMIT_S = 300.0
_TRIES = 2
_CODE = "import sys; sys.path[:] = sys.argv[1:]; from arraystore._sequences.answers import work; work()"
_LEAST_BLOCK_BYTES = 1 << 12
_MOST_POOLS = 4


class Children:
    """Computes items of a sequence in worker processes. Each thread that asks has a process of its own.

    Args:
        step: the last step of the sequence.
        timeout_s: the seconds that an item may take; None for any.
        spare: how many unused buffers of one size are kept.

    Raises:
        StoreError: the sequence cannot be sent to another process.
    """

    def __init__(self, step: Step, timeout_s: float | None, spare: int) -> None:
        self._step = step
        self._timeout_s = timeout_s
        self._blocks = _Blocks(spare)
        self._own = threading.local()
        # Reentrant, because the garbage collector may end a loop, and so call `halt`, in a thread that holds it.
        self._lock = threading.RLock()
        self._all: set[_Answerer] = set()
        self._closed = False
        self._process = os.getpid()
        try:
            self._sequence = pack(WithFunctions.of(step))
        except Exception as error:
            raise StoreError(
                f"the sequence cannot be sent to worker processes: {error}",
                kind=Kind.INVALID,
                advice="use threads, or functions and classes that have a name at the top of a module",
            ) from error

    def compute(self, i: int) -> Any:
        """Return an item, in memory that is used again when nothing refers to it.

        Raises:
            LazyError: it cannot be computed, or its process died twice.
            StoreError: a process cannot be started, or cannot read the sequence.
        """
        why = ""
        for _ in range(_TRIES):
            child = self._child()
            try:
                child.prepare(self._sequence, self._timeout_s)
                answer = child.ask(i, self._blocks)
            except TimeoutError:
                self._drop(child, 0)
                limit = f"{self._timeout_s:g} s (timeout_s)" if child.is_ready else f"{START_LIMIT_S:g} s to start"
                why = f"took longer than {limit}"
                continue
            except OSError:
                why = f"died ({ending(self._drop(child, 1))})"
                continue
            except BaseException:
                # Half an answer may be left in the socket, and must not become the beginning of the next one.
                with suppress(StoreError):
                    self._drop(child, 0)
                raise
            if isinstance(answer, Raised):
                raise answer.rebuilt()
            return answer[0]
        died = StoreError(f"the worker process that computed it {why}, twice", kind=Kind.CRASHED)
        raise self._step.failed(i, died) from died

    def halt(self) -> None:
        """Kill all processes, so that whoever waits for one gets an error. It does nothing in a fork."""
        if os.getpid() != self._process:
            return
        with self._lock:
            self._closed = True
            every = [*self._all]
        for child in every:
            child.process.kill()

    def close(self) -> None:
        """Kill all processes and wait until they have ended, when no thread asks any more."""
        if os.getpid() != self._process:
            return
        self.halt()
        for child in self._all:
            with suppress(StoreError):  # it is killed, and ends as soon as its volume answers
                child.end(0)
            child.socket.close()
        self._all.clear()

    def _child(self) -> _Answerer:
        child: _Answerer | None = getattr(self._own, "child", None)
        if child is None:
            with self._lock, sigint_held():
                self._check_open()
                child = self._own.child = _Answerer()
                self._all.add(child)
        return child

    def _drop(self, child: _Answerer, patience_s: float) -> int:
        """End a process that is of no more use, and return its exit status."""
        with self._lock:
            self._check_open()
            self._own.child = None
            self._all.discard(child)
        status = child.end(patience_s)
        child.socket.close()
        return status

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the loop was left")


class _Answerer(Child):
    """A worker process that answers one question at a time."""

    def __init__(self) -> None:
        super().__init__(_CODE)
        self.is_ready = False

    def prepare(self, sequence: tuple[memoryview, ...], timeout_s: float | None) -> None:
        """Send the sequence, and wait until the process has read it; from then on each item has its time.

        Raises:
            OSError: see `ask`.
        """
        if self.is_ready:
            return
        self.socket.settimeout(START_LIMIT_S)
        for part in sequence:
            self.socket.sendall(part)
        received(self.socket, memoryview(bytearray(1)))
        self.socket.settimeout(timeout_s)
        self.is_ready = True

    def ask(self, i: int, blocks: _Blocks) -> Any:
        """Return the item in a tuple, or what was raised.

        Raises:
            OSError: the process has ended; a TimeoutError, if it is late.
        """
        self.socket.sendall(NUMBER.pack(i))
        head = received(self.socket, memoryview(bytearray(HEAD.size)))
        size, count = HEAD.unpack(head)
        sizes = [each for (each,) in NUMBER.iter_unpack(received(self.socket, memoryview(bytearray(8 * count))))]
        data = received(self.socket, memoryview(bytearray(size)))
        buffers = blocks.take(sizes)
        for buffer in buffers:
            received(self.socket, buffer)
        return unpack(data, buffers)


class _Blocks:
    """Memory for the arrays of one item, used again when nothing refers to them. Any thread may take some."""

    def __init__(self, spare: int) -> None:
        self._spare = spare
        self._pools: dict[int, BufferPool] = {}
        self._lock = threading.Lock()

    def take(self, sizes: list[int]) -> list[memoryview]:
        """Return memory of these sizes in bytes, each beginning at a multiple of 64."""
        starts, end = [], 0
        for size in sizes:
            starts.append(end)
            end += -(-size // 64) * 64
        if not end:
            return [memoryview(bytearray(size)) for size in sizes]
        # Sizes that differ by less than an eighth share a pool.
        step = max(_LEAST_BLOCK_BYTES, 1 << max(end.bit_length() - 3, 0))
        whole = -(-end // step) * step
        with self._lock:
            pool = self._pools.pop(whole, None)
            if pool is None:
                pool = BufferPool({"bytes": ((whole,), np.dtype(np.uint8))}, spare=self._spare)
            self._pools[whole] = pool  # the last, so that the first is the one that was not used for longest
            if len(self._pools) > _MOST_POOLS:
                del self._pools[next(iter(self._pools))]
        view = pool.take()["bytes"].data
        return [view[start : start + size] for start, size in zip(starts, sizes, strict=True)]
