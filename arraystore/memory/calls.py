"""The memory of functions, each called in a process of its own."""

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from arraystore._common.options import public
from arraystore.errors import ProfileError
from arraystore.memory.comparison import MemoryReport
from arraystore.memory.machine import machine_facts
from arraystore.memory.measurement import Mark, Measurement, Outcome, Start
from arraystore.memory.trace import Watch, check_options, measurement_from

__all__ = ["mark", "profile_memory"]

_BEGIN_S = 120  # to start an interpreter and import the module of the function
_END_S = 30  # to exit after the call
_say: Callable[[Any], None] | None = None  # set in the process of a measured function


def mark(label: str) -> None:
    """Begin a phase of a function that `profile_memory` calls; the curve shows it under this name.

    Elsewhere it does nothing, so the line can stay in the code.
    """
    if _say is not None:
        _say(("mark", time.monotonic(), label))


@public
def profile_memory(
    functions: Mapping[str, Callable[[], object]],
    *,
    title: str = "Memory over time",
    array_bytes: int | None = None,
    limit_bytes: int | None = None,
    interval_s: float = 0.01,
    timeout_s: float | None = None,
    progress: Callable[[str], object] | None = None,
) -> MemoryReport:
    """Call functions, each in a fresh process, and compare how much memory they take.

        >>> from functools import partial
        >>> report = arraystore.profile_memory({"ones": partial(numpy.ones, 10**8)})  # doctest: +SKIP
        >>> report.print()  # doctest: +SKIP

    A function that can be imported, or a `functools.partial` of one, is called in a new interpreter. Any other, such
    as a lambda or a function of a notebook, is called in a forked copy of this process. The memory that the copy has
    from this process is not counted.

    Args:
        functions: name → function without arguments. If a function returns a path, the files there count as its bytes
            on disk. Any other result is kept until the last reading, and then dropped.
        title: the title of the report.
        array_bytes: the size of the array that all of them make, to show peaks as multiples of it.
        limit_bytes: anonymous and shared memory beyond which the processes of a function are killed.
        interval_s: seconds from one reading to the next.
        timeout_s: seconds after which a function is killed; None for no limit.
        progress: called with each name before its function is called.

    Raises:
        ProfileError: a process could not be started or read.
        SpecError: ``interval_s`` or ``limit_bytes`` is out of range.
    """
    check_options(interval_s, limit_bytes)
    measurements = []
    for name, function in functions.items():
        if progress is not None:
            progress(name)
        measurements.append(_measure(name, function, limit_bytes, interval_s, timeout_s))
    return MemoryReport(title, tuple(measurements), array_bytes, machine_facts())


def _start_of(function: Callable[[], object]) -> Start:
    try:
        ForkingPickler.dumps(function)
    except Exception:  # an object may raise any error when it is pickled
        return "forked"
    # A function that was typed into an interpreter or a notebook has a name, but no file to import it from.
    typed = getattr(function, "__module__", "") == "__main__" and not hasattr(sys.modules["__main__"], "__file__")
    return "forked" if typed else "fresh"


@dataclass
class _Course:
    """The course of a call: outcome and reason as in `Measurement`, times by `time.monotonic`.

    ``path`` is the path that the function returned, None for another result; ``marks`` are its phases.
    """

    began: float
    ended: float = 0.0
    outcome: Outcome = "finished"
    reason: str = ""
    path: str | None = None
    marks: list[tuple[float, str]] = field(default_factory=list)


def _measure(
    name: str,
    function: Callable[[], object],
    limit_bytes: int | None,
    interval_s: float,
    timeout_s: float | None,
) -> Measurement:
    start = _start_of(function)
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn") if start == "fresh" else multiprocessing.get_context("fork")
    process = context.Process(target=_call, args=(theirs, function), name=f"arraystore profile {name}")
    process.start()
    theirs.close()
    try:
        if not ours.poll(_BEGIN_S) or _receive(ours) != ("ready",):
            process.kill()
            process.join(_END_S)
            raise ProfileError(
                f"the process for {name!r} ended before the call (exit code {process.exitcode}): in a script, "
                'profile_memory must be called under if __name__ == "__main__"'
            )
        watch = Watch(process.pid or 0, interval_s=interval_s, limit_bytes=limit_bytes, owned=True)
        try:
            ours.send("go")
            course = _follow(ours, process.sentinel, timeout_s)
        except BaseException:
            with contextlib.suppress(ProfileError):  # the first error matters more than a lost curve
                watch.end(kill=True)
            raise
        read = watch.end(kill=course.outcome == "killed")
        # The process has kept its result until here.
        with contextlib.suppress(OSError):
            ours.send("leave")
        process.join(_END_S)
        if course.outcome == "failed" and not course.reason:
            course.outcome, course.reason = _cause_of_death(course, read, process.exitcode, limit_bytes)
            course.ended = max(read["columns"]["seconds"][-1], course.began)
        return measurement_from(
            read,
            course.began,
            course.ended - course.began,
            start=start,
            name=name,
            outcome=course.outcome,
            reason=course.reason,
            marks=tuple(Mark(round(seconds - course.began, 4), label) for seconds, label in course.marks),
            disk_bytes=None if course.path is None else _disk_bytes(Path(course.path)),
        )
    finally:
        process.kill()
        process.join(_END_S)
        if process.exitcode is not None:
            process.close()
        ours.close()


def _follow(ours: Connection, sentinel: int, timeout_s: float | None) -> _Course:
    """Receive the messages of the process until its function has ended, it has died, or the time is over."""
    course = _Course(time.monotonic())
    deadline = None if timeout_s is None else course.began + timeout_s
    while True:
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        ready = wait([ours, sentinel], left)
        message = _receive(ours) if ours in ready else None
        course.ended = time.monotonic()
        if not ready:
            course.outcome = "killed"
            course.reason = f"killed: it took longer than {timeout_s:,g} s{_where(course)}"
            return course
        match message:
            case ("began", seconds):
                course.began = seconds
            case ("mark", seconds, label):
                course.marks.append((seconds, label))
            case ("returned", seconds, path):
                course.ended, course.path = seconds, path
                return course
            case ("raised", seconds, text):
                course.ended, course.outcome, course.reason = seconds, "failed", f"{text}{_where(course)}"
                return course
            case _:
                course.outcome = "failed"  # it has died; the exit code and the sampler tell the cause
                return course


def _cause_of_death(
    course: _Course, read: Mapping[str, Any], exitcode: int | None, limit_bytes: int | None
) -> tuple[Outcome, str]:
    columns = read["columns"]
    held = (columns["anonymous"][-1] + columns["shmem"][-1]) / 1e9
    after = f"after {max(columns['seconds'][-1] - course.began, 0):.1f} s{_where(course)}"
    if read["killed_at"] is not None and limit_bytes is not None:
        return "killed", f"killed at {held:.2f} GB, beyond the limit of {limit_bytes / 1e9:.2f} GB, {after}"
    if exitcode == -signal.SIGKILL:
        return "killed", f"killed by the system at {held:.2f} GB {after}: memory may have run out"
    return "failed", f"the process ended with exit code {exitcode} {after}"


def _where(course: _Course) -> str:
    return f', in "{course.marks[-1][1]}"' if course.marks else ""


def _receive(ours: Connection) -> tuple[Any, ...] | None:
    """Return the next message of the process, or None when it has ended."""
    try:
        message: tuple[Any, ...] = ours.recv()
    except (EOFError, OSError):
        return None
    return message


def _call(theirs: Connection, function: Callable[[], object]) -> None:
    """The process: wait until it is watched, call the function, and keep the result until told to leave."""
    global _say  # noqa: PLW0603 - measured functions call `mark` with nothing but a label
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the calling process ends this one
    _say = theirs.send
    gc.freeze()  # freeing memory that a forked process has from its parent would hide the memory that it takes itself
    # The peak that the system records begins anew: the start of the interpreter must not count.
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    theirs.send(("ready",))
    theirs.recv()
    theirs.send(("began", time.monotonic()))
    try:
        result = function()
    except BaseException as error:  # sent as text
        text = "".join(traceback.format_exception_only(error)).strip()
        theirs.send(("raised", time.monotonic(), text))
    else:
        path = os.fspath(result) if isinstance(result, str | os.PathLike) else None
        theirs.send(("returned", time.monotonic(), path))
    with contextlib.suppress(EOFError, OSError):
        theirs.recv()


def _disk_bytes(path: Path) -> int:
    """Return the bytes allocated for a file, or for all files under a folder; 0 if there is nothing."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_blocks * 512 for file in files if file.is_file() and not file.is_symlink())
