"""What was measured: curves of memory over time, what each call took, and the report of several calls.

Nothing here imports more than the standard library; how a report looks is in `table`, `plot` and `page`, which are
loaded by the methods that need them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from arraystore._common.public import public

__all__ = ["Curve", "Mark", "Measurement", "MemoryReport", "Outcome"]

Outcome = Literal["finished", "failed", "killed", "skipped"]
_VERSION = 1


@dataclass(frozen=True)
class Mark:
    """Something that the measured call said while it ran, such as the beginning of a phase.

    Attributes:
        seconds: since the call began.
        label: what begins here.
    """

    seconds: float
    label: str


@dataclass(frozen=True)
class Curve:
    """Readings over time, one column a kind of memory, all of the same length; bytes of the whole process tree.

    Pages that several processes of the tree share are counted once, except in ``rss``. Of a long call neighbouring
    readings are merged, and each column keeps the greatest: a peak is never lost.

    Attributes:
        seconds: when each reading was taken, since the call began.
        anonymous: what the processes hold of their own, swapped out or not: what runs a machine out of memory.
        file: pages of files, which the system takes back as it likes.
        shmem: shared memory that is no file's, such as POSIX shared memory: it cannot be taken back either.
        pss: the proportional set size: private pages, and the tree's share of those that others map as well.
        rss: the resident set sizes of all processes added up, which counts a shared page once for each.
    """

    seconds: tuple[float, ...] = ()
    anonymous: tuple[int, ...] = ()
    file: tuple[int, ...] = ()
    shmem: tuple[int, ...] = ()
    pss: tuple[int, ...] = ()
    rss: tuple[int, ...] = ()

    @property
    def held(self) -> tuple[int, ...]:
        """Anonymous and shared memory at each reading, in bytes: all that the system cannot take back."""
        return tuple(map(sum, zip(self.anonymous, self.shmem, strict=True)))

    @classmethod
    def from_json(cls, columns: Mapping[str, Sequence[float]]) -> Self:
        """Return the curve whose columns these are."""
        whole = {name: tuple(map(int, values)) for name, values in columns.items() if name != "seconds"}
        return cls(seconds=tuple(columns["seconds"]), **whole)


@dataclass(frozen=True)
class Measurement:
    """What one call took.

    Attributes:
        name: of the call.
        outcome: "finished"; "failed", it raised or its process died; "killed", it went beyond the limit or took too
            long; "skipped", it was not run.
        reason: why it did not finish, and how far it was; "" where it did.
        wall_s: seconds from its first line to its last, or to its end by force.
        cpu_s: seconds of processor time of all its processes, in the program and in the system.
        disk_bytes: what it left on disk, as allocated there; None where it left nothing.
        curve: its memory over time.
        marks: what it said on the way, in order.
        start: "fresh", in a new interpreter; "forked", in a copy of the calling process, whose pages are not counted
            here; "here", in the calling process, whose memory at the beginning is counted.
        start_bytes: anonymous memory when it began: the interpreter and what had been imported.
        kernel_peak_bytes: the peak of the resident set size as the system itself kept it, to check the curve by; None
            where it does not tell, or where there were several processes.
        processes: how many there were at once, at most.
        readings: how many were taken.
        sampler_cpu_s: seconds of processor time that the readings took while it ran.
        method: how memory was read, in words for the reader.
        note: what the call does, in a line for the reader; "" where nobody said.
        array_bytes: the size of the array that it makes, where that is not the report's; None where it is.
    """

    name: str
    outcome: Outcome
    reason: str = ""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    disk_bytes: int | None = None
    curve: Curve = field(default_factory=Curve)
    marks: tuple[Mark, ...] = ()
    start: Literal["fresh", "forked", "here"] = "fresh"
    start_bytes: int = 0
    kernel_peak_bytes: int | None = None
    processes: int = 1
    readings: int = 0
    sampler_cpu_s: float = 0.0
    method: str = ""
    note: str = ""
    array_bytes: int | None = None

    def peak(self, kind: Literal["anonymous", "file", "shmem", "pss", "rss", "held"] = "anonymous") -> int:
        """Return the greatest reading of one kind of memory, in bytes; 0 where there is none.

        "held" is anonymous and shared memory together: what the faces of a report call a peak. "rss" is the system's
        own peak, where it keeps one and that is greater: what lasts less than a reading is in it.
        """
        kept = (self.kernel_peak_bytes or 0) if kind == "rss" else 0
        readings: tuple[int, ...] = getattr(self.curve, kind)
        return max(*readings, kept, 0)

    @property
    def apart_from_kernel(self) -> float | None:
        """By what share the readings' peak of RSS differs from the system's own; None where that is not known."""
        if not self.kernel_peak_bytes or not self.curve.rss:
            return None
        return abs(max(self.curve.rss) / self.kernel_peak_bytes - 1)

    @property
    def sampler_share(self) -> float:
        """What the readings cost, as a share of one core."""
        return self.sampler_cpu_s / self.wall_s if self.wall_s else 0.0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the measurement that `dataclasses.asdict` has taken apart."""
        marks = tuple(Mark(**mark) for mark in values["marks"])
        return cls(**{**values, "curve": Curve.from_json(values["curve"]), "marks": marks})


@public
@dataclass(frozen=True)
class MemoryReport:
    """Several calls that do the same, compared.

    Attributes:
        title: what was compared, in a few words.
        measurements: one a call, in the order in which they were given.
        array_bytes: the size of the array that all of them make, N×C×H×W: what peaks are multiples of; None where
            there is none.
        machine: what was measured on: name → text.
        command: the command or call that does it again.
    """

    title: str
    measurements: tuple[Measurement, ...]
    array_bytes: int | None = None
    machine: Mapping[str, str] = field(default_factory=dict)
    command: str = ""

    def __getitem__(self, name: str) -> Measurement:
        """Return the measurement of that name.

        Raises:
            KeyError: there is none.
        """
        for measurement in self.measurements:
            if measurement.name == name:
                return measurement
        names = ", ".join(repr(each.name) for each in self.measurements)
        raise KeyError(f"nothing was measured under the name {name!r}: there are {names}")

    def to_json(self) -> str:
        """Return the whole report as JSON, which `from_json` reads."""
        return json.dumps({"version": _VERSION, **asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the report that `to_json` wrote.

        Raises:
            ValueError: it is not such a report, or one of a later version.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.pop("version", None) != _VERSION:
            raise ValueError(f"this is not a memory report of version {_VERSION}, the one that is known here")
        measurements = tuple(map(Measurement.from_json, values.pop("measurements")))
        return cls(**values, measurements=measurements)

    def print(self) -> None:
        """Print the table."""
        from arraystore.memory.table import print_report  # noqa: PLC0415 - what is measured must not import rich

        print_report(self)

    def plot(self, path: str | Path) -> None:
        """Draw the curves with matplotlib, in the format that the suffix of ``path`` names.

        Raises:
            MissingExtraError: matplotlib is not installed.
            SpecError: the suffix names no format.
        """
        from arraystore.memory.plot import draw  # noqa: PLC0415 - likewise

        draw(self, Path(path))

    def to_html(self) -> str:
        """Return a page of HTML that needs no other file: the curves, the table, the machine, and the command."""
        from arraystore.memory.page import page  # noqa: PLC0415 - likewise

        return page(self)
