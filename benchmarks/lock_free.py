"""What runs outside the interpreter's lock: every function that lets go of it, timed, or asleep for as long.

In a build: reading the source, hashing it and the slot, decoding, resampling, and the channels' sums; in a loader: the
copy of slots. What is left of an image or a batch is Python code, of which one thread runs at a time.

Timed in seconds of the thread's processor time, so that neither other programs nor waiting counts. Asleep, threads
behave as on a machine with a processor for each: sleeping needs none, and all the Python code around it, and every
hand-over of the lock, is real.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import cv2
import simplejpeg
import xxhash

from arraystore._kernels import resample, resample_avx512 as resample_wide, sums as stats, copy_rows as streams

Place = tuple[Any, str]
"""A module and the name of a function in it."""

BUILD: dict[str, Place] = {
    "look at the source": (os, "stat"),
    "open it": (os, "open"),
    "read it": (os, "read"),
    "close it": (os, "close"),
    "hash source and slot": (xxhash, "xxh3_64_intdigest"),
    "decode": (simplejpeg, "decode_jpeg"),
    "resample across": (resample_wide, "columns_kernel"),
    "resample down": (resample_wide, "rows_kernel"),
    "resample, portable": (resample, "blend_rows"),
    "transpose": (cv2, "transpose"),
    "split into planes": (cv2, "split"),
    "channel sums": (stats, "_sum_planes"),
}
READ: dict[str, Place] = {"copy": (streams, "_compiled")}

_PR_SET_TIMERSLACK = 29


@dataclass
class Timed:
    """What a function took.

    Attributes:
        seconds: of processor time, in all calls.
        calls: how many.
    """

    seconds: float = 0.0
    calls: int = 0


@dataclass
class Clock:
    """Times functions by the processor time of the thread that calls them: not for two threads at once.

    Attributes:
        parts: name → what that function took so far.
    """

    parts: dict[str, Timed] = field(default_factory=dict)

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, timed under a name."""
        part = self.parts.setdefault(name, Timed())

        def timed(*args: Any, **options: Any) -> Any:
            start = time.thread_time()
            try:
                return function(*args, **options)
            finally:
                part.seconds += time.thread_time() - start
                part.calls += 1

        return timed

    def left_of(self, seconds: float) -> float:
        """Return what the parts leave of so many seconds of processor time, without what timing them has taken."""
        calls = sum(part.calls for part in self.parts.values())
        return seconds - sum(part.seconds for part in self.parts.values()) - calls * _cost_of_timing()


@contextmanager
def timed_build() -> Iterator[Clock]:
    """Time what an image's build does outside the lock, while only one thread builds."""
    clock = Clock()
    with _replaced({place: clock.around(name, getattr(*place)) for name, place in BUILD.items()}):
        yield clock


@contextmanager
def timed_copy() -> Iterator[Clock]:
    """Time what a loader of one thread does outside the lock."""
    clock = Clock()
    copy = clock.around("copy", _copy())
    with _replaced({READ["copy"]: lambda: copy}):
        yield clock


@contextmanager
def sleeping_build(each_s: Mapping[str, float]) -> Iterator[None]:
    """Have decoding, resampling, sums and hashes sleep for so long in place of their work; pixels stay as they were.

    What is called otherwise, such as reading the source, is real: make the sources small.

    Args:
        each_s: seconds of a call, by the names of `BUILD`; what is asleep takes at least those of one of its calls.
    """

    def asleep(name: str, nothing: Callable[..., Any]) -> Callable[..., Any]:
        seconds = each_s.get(name, 0.0)

        def sleep(*args: Any, **options: Any) -> Any:
            result = nothing(*args, **options)
            time.sleep(seconds)
            return result

        return sleep

    def no_sums(planes: Any, out: Any) -> None:
        sums(planes[:0], out)
        out[...] = 0

    # The compiled kernels are called all the same, with nothing to do: to hand them their arguments takes the lock.
    across, down, sums = resample_wide.columns_kernel, resample_wide.rows_kernel, stats._sum_planes  # noqa: SLF001 - it is what runs
    nothing = {
        "decode": _undecoded,
        "hash source and slot": lambda _data: 0,
        "resample across": lambda *args: across(*args[:2], 0, *args[3:]),
        "resample down": lambda *args: down(*args[:5], args[5][:0], *args[6:]),
        "resample, portable": lambda *_args: None,
        "transpose": lambda image, out=None: image.swapaxes(0, 1) if out is None else out,
        "split into planes": lambda _image, _planes: None,
        "channel sums": no_sums,
    }
    with _replaced({BUILD[name]: asleep(name, does) for name, does in nothing.items()}), _exact_timers():
        yield


@contextmanager
def sleeping_copy(slot_s: float) -> Iterator[None]:
    """Have a loader's threads sleep so long for each slot in place of copying it; what batches hold is undefined."""

    def sleep(_array: int, _rows: int, count: int, *_rest: Any) -> None:
        time.sleep(count * slot_s)

    with _replaced({READ["copy"]: lambda: sleep}), _exact_timers():
        yield


def _copy() -> Callable[..., None]:
    copy = streams._compiled()  # noqa: SLF001 - it is what runs
    if copy is None:
        raise SystemExit("slots cannot be copied by compiled code on this machine: see the warning above")
    return copy


def _undecoded(_data: Any, *, min_height: int, min_width: int, buffer: Any, **options: Any) -> Any:
    """What a decoder returns, without having decoded."""
    channels = 1 if options["colorspace"] == "GRAY" else 3
    return buffer.reshape(min_height, min_width, channels)


@contextmanager
def _replaced(functions: Mapping[Place, Callable[..., Any]]) -> Iterator[None]:
    before = {place: getattr(*place) for place in functions}
    try:
        for (module, name), function in functions.items():
            setattr(module, name, function)
        yield
    finally:
        for (module, name), function in before.items():
            setattr(module, name, function)


@contextmanager
def _exact_timers() -> Iterator[None]:
    """Have threads that are started here wake when they asked for it, and not up to 50 µs later, if the system can."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
    try:
        yield
    finally:
        if prctl is not None:
            prctl(_PR_SET_TIMERSLACK, 0, 0, 0, 0)  # 0 is what it was


def _cost_of_timing(calls: int = 10_000) -> float:
    """Return the seconds that timing a call takes beside what it books as the call's own."""
    clock = Clock()
    timed = clock.around("nothing", _nothing)
    start = time.thread_time()
    for _ in range(calls):
        timed()
    return (time.thread_time() - start - clock.parts["nothing"].seconds) / calls


def _nothing() -> None:
    pass
