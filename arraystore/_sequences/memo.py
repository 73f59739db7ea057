"""The step that keeps items: each is computed once at a time, and whoever wants it meanwhile waits for it alone."""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import numpy as np

from arraystore._common.wording import readable
from arraystore._sequences.step import OfOne, Step

_OVERHEAD_BYTES = 200  # of an item, beside what it holds


class _Work:
    """An item that a thread is computing. The lock is held until it is done."""

    __slots__ = ("done", "owner", "result")

    def __init__(self) -> None:
        self.owner = threading.get_ident()
        self.done = threading.Lock()
        self.done.acquire()
        self.result: tuple[Any] | None = None  # None if it failed


class Memo(OfOne):
    """Keeps the items that were read last, up to a number or to a size in bytes.

    No lock is held while an item is computed. An error is not kept: whoever waits for it tries by itself.
    """

    def __init__(self, source: Step, place: str, *, items: int | None = None, size_bytes: int | None = None) -> None:
        self._most_items = items
        self._most_bytes = size_bytes
        told = f"{items:,}" if size_bytes is None else repr(readable(size_bytes))
        self._clear()
        super().__init__(source, count=source.count, label=f".memo({told})", place=place)
        _memos.add(self)

    def _clear(self) -> None:
        self._kept: OrderedDict[int, tuple[Any]] = OrderedDict()
        self._sizes: dict[int, int] = {}
        self._bytes = 0
        self.forget_work()

    def forget_work(self) -> None:
        """Forget who is at work, in a fork: those threads are not there."""
        self._at_work: dict[int, _Work] = {}
        self._keeping = threading.Lock()

    def item(self, i: int) -> Any:
        # Single operations of a dict are atomic, so to find an item that is kept needs no lock.
        kept = self._kept.get(i)
        while kept is None:
            mine = _Work()
            work = self._at_work.setdefault(i, mine)
            if work is mine:
                return self._compute(i, mine)
            if work.owner == mine.owner:
                error = RecursionError("the item is needed to compute itself")
                raise self.failed(i, error) from error
            with work.done:
                kept = work.result  # None if it failed: then this thread tries
        with suppress(KeyError):  # another thread has dropped it since
            self._kept.move_to_end(i)
        return kept[0]

    def _compute(self, i: int, work: _Work) -> Any:
        try:
            work.result = self._kept.get(i)  # done by another thread just before
            if work.result is None:
                work.result = (self._get(i),)
                self._keep(i, work.result)
            return work.result[0]
        finally:
            self._at_work.pop(i, None)  # it is not there in a fork
            work.done.release()

    def _keep(self, i: int, value: tuple[Any]) -> None:
        size = 0 if self._most_bytes is None else size_of(value[0]) + _OVERHEAD_BYTES
        dropped = []  # freed outside the lock, because freeing may run code of the caller
        with self._keeping:
            if self._most_bytes is not None and size > self._most_bytes:
                return
            self._kept[i], self._sizes[i] = value, size
            self._bytes += size
            while self._is_full():
                number, old = self._kept.popitem(last=False)
                self._bytes -= self._sizes.pop(number)
                dropped.append(old)
        dropped.clear()

    def _is_full(self) -> bool:
        if self._most_bytes is not None:
            return self._bytes > self._most_bytes
        return len(self._kept) > (self._most_items or 0)

    def __getstate__(self) -> dict[str, Any]:
        # Another process, and a copy, begin with nothing kept.
        mine = ("_kept", "_sizes", "_bytes", "_at_work", "_keeping")
        return {name: value for name, value in self.__dict__.items() if name not in mine}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._clear()
        _memos.add(self)


_memos: WeakSet[Memo] = WeakSet()


def _after_fork() -> None:
    for memo in list(_memos):
        memo.forget_work()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def size_of(value: Any) -> int:
    """Return about how many bytes a value takes: those of arrays, texts and images in it, at any depth."""
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, tuple | list | set | frozenset):
        return sum(map(size_of, value)) + 8 * len(value)
    if isinstance(value, dict):
        return sum(map(size_of, value.values())) + 100 * len(value)
    size = getattr(value, "nbytes", None)  # a tensor, a memoryview
    if isinstance(size, int):
        return size
    image = getattr(sys.modules.get("PIL.Image"), "Image", None)
    if image is not None and isinstance(value, image):
        return int(value.width * value.height * len(value.getbands()))
    return sys.getsizeof(value, 0)
