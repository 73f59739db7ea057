"""The memory of a running process over time, read by a sampler beside it."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from arraystore._common.options import public
from arraystore.errors import ProfileError, SpecError
from arraystore.memory import sampler
from arraystore.memory.measurement import Curve, Mark, Measurement, Start

__all__ = ["MemoryTrace", "Watch", "check_options", "measurement_from"]

Method = Literal["proc", "psutil"]
_READY_S = 60  # to start: the machine may be overloaded, the interpreter on a network disk
_END_S = 60


def check_options(interval_s: float, limit_bytes: int | None) -> None:
    """Check options of `Watch`.

    Raises:
        SpecError: ``interval_s`` or ``limit_bytes`` is out of range.
    """
    if not 0.001 <= interval_s <= 3600:
        raise SpecError(f"interval_s must lie between 0.001 and 3600 seconds, not {interval_s!r}")
    if limit_bytes is not None and limit_bytes < 1:
        raise SpecError(f"a limit must be at least 1 byte, not {limit_bytes!r}")


class Watch:
    """A running sampler that reads the memory of a process.

    Args:
        pid: the number of the process. Its descendants count as well, the sampler itself does not.
        interval_s: seconds from one reading to the next.
        limit_bytes: anonymous and shared memory beyond which the sampler kills the process and its descendants.
        method: how memory is read: "proc" or "psutil"; None for /proc if there is one, else psutil.
        owned: whether the sampler kills the process and its descendants if the calling process dies before `end`.

    Raises:
        ProfileError: the sampler could not be started, or there is no such process.
        SpecError: ``interval_s`` or ``limit_bytes`` is out of range.
    """

    def __init__(
        self,
        pid: int,
        *,
        interval_s: float = 0.01,
        limit_bytes: int | None = None,
        method: Method | None = None,
        owned: bool = False,
    ) -> None:
        check_options(interval_s, limit_bytes)
        method = method or ("proc" if Path("/proc/self/status").exists() else "psutil")
        options = [str(pid), str(interval_s), str(limit_bytes or 0), method, "owned" if owned else "free"]
        # Without the installed packages, of which only psutil is needed, the interpreter starts in half the time.
        isolated = ["-I", "-S"] if method == "proc" else ["-I"]
        self._process = subprocess.Popen(
            [sys.executable, *isolated, sampler.__file__, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        patience = threading.Timer(_READY_S, self._process.kill)
        patience.start()
        ready = self._process.stdout is not None and self._process.stdout.readline() == "ready\n"
        patience.cancel()
        if not ready:
            _, said = self._process.communicate(timeout=_END_S)
            reason = (said.strip().splitlines() or ["it said nothing"])[-1]
            raise ProfileError(f"the memory of process {pid} cannot be read: {reason}")

    def end(self, *, kill: bool = False) -> Mapping[str, Any]:
        """Take a last reading, end the sampler, and return the result of `sampler.sample`.

        Args:
            kill: whether to kill the process and its descendants after that reading.

        Raises:
            ProfileError: the sampler has died.
        """
        try:
            said, complaint = self._process.communicate("kill\n" if kill else "stop\n", timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            said, complaint = self._process.communicate()
        if self._process.returncode:
            reason = (complaint.strip().splitlines() or [f"exit code {self._process.returncode}"])[-1]
            raise ProfileError(f"the sampler has died ({reason}), and its readings are lost: measure again")
        read: dict[str, Any] = json.loads(said)
        return read


@public
class MemoryTrace:
    """The memory of this process and its descendants while a block of code runs, read from outside every 10 ms.

        >>> from arraystore import MemoryTrace
        >>> with MemoryTrace("ones") as trace:
        ...     trace.mark("allocate")
        ...     ones = bytearray(b"1") * 50_000_000
        >>> trace.measurement.peak() - trace.measurement.start_bytes > 49_000_000
        True

    Args:
        name: the name of the measurement.
        interval_s: seconds from one reading to the next. Where there are many processes, the pauses are longer.
        method: "proc" or "psutil"; None for /proc if there is one, else psutil.

    Raises:
        ProfileError: the sampler could not be started.
        SpecError: ``interval_s`` is out of range.
    """

    def __init__(self, name: str = "trace", *, interval_s: float = 0.01, method: Method | None = None) -> None:
        self._name = name
        self._interval_s = interval_s
        self._method = method
        self._watch: Watch | None = None
        self._began = 0.0
        self._marks: list[Mark] = []
        self._measurement: Measurement | None = None

    def __enter__(self) -> Self:
        if self._watch is not None:
            raise ProfileError(f"the memory trace {self._name!r} has begun already: one trace is for one block")
        self._watch = Watch(os.getpid(), interval_s=self._interval_s, method=self._method)
        self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is None:
            return  # it never began
        wall_s = time.monotonic() - self._began
        with contextlib.ExitStack() as stack:
            if error is not None:  # it matters more than a lost trace
                stack.enter_context(contextlib.suppress(ProfileError))
            read = self._watch.end()
            self._measurement = measurement_from(
                read,
                self._began,
                wall_s,
                start="here",
                name=self._name,
                outcome="finished" if error is None else "failed",
                reason="" if error is None else f"{type(error).__name__}: {error}",
                marks=tuple(self._marks),
            )

    def mark(self, label: str) -> None:
        """Begin a phase, which the curve shows under this name."""
        self._marks.append(Mark(round(time.monotonic() - self._began, 4), label))

    @property
    def measurement(self) -> Measurement:
        """The measurement of the block.

        Raises:
            ProfileError: the block has not ended yet.
        """
        if self._measurement is None:
            raise ProfileError(f"the memory trace {self._name!r} has not ended: ask for it after the block")
        return self._measurement


def measurement_from(
    read: Mapping[str, Any], began: float, wall_s: float, *, start: Start, **facts: Any
) -> Measurement:
    """Return the measurement of a call from the readings of a sampler.

    Args:
        read: the result of `Watch.end`.
        began: when the call began, by `time.monotonic`.
        wall_s: how long it took, in seconds.
        start: where it ran. The memory that a forked process has from its parent is taken off.
        facts: the fields of `Measurement` that the sampler cannot know, such as its name.
    """
    columns = read["columns"]
    first = int(columns["anonymous"][0])
    inherited = first if start == "forked" else 0
    alone = start != "here" and read["processes"] == 1  # otherwise the recorded peak is not that of the call
    curve = Curve.from_json(
        {
            **columns,
            "seconds": [round(max(seconds - began, 0.0), 4) for seconds in columns["seconds"]],
            "anonymous": [max(held - inherited, 0) for held in columns["anonymous"]],
        }
    )
    return Measurement(
        wall_s=wall_s,
        cpu_s=read["cpu_s"],
        curve=curve,
        start=start,
        start_bytes=first - inherited,
        kernel_peak_bytes=(read["kernel_peak_bytes"] or None) if alone else None,
        processes=read["processes"],
        readings=read["readings"],
        sampler_cpu_s=read["sampler_cpu_s"] * wall_s / max(read["sampled_s"], 1e-9),  # it ran for longer than the call
        method=read["method"],
        **facts,
    )
