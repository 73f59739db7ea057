"""The measured data: curves of memory over time, what each call took, and the data of a report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

__all__ = ["Curve", "Mark", "Measurement", "Outcome", "ReportData", "Start"]

Outcome = Literal["finished", "failed", "killed", "skipped"]
Start = Literal["fresh", "forked", "here"]
_VERSION = 1


@dataclass(frozen=True)
class Mark:
    """The beginning of a phase, as the measured call said it.

    Attributes:
        seconds: since the call began.
        label: the name of the phase.
    """

    seconds: float
    label: str


@dataclass(frozen=True)
class Curve:
    """Readings over time: columns of the same length, in bytes of the whole process tree.

    Pages that several processes of the tree share are counted once, except in ``rss``. In a long call, neighboring
    readings are merged, and each column keeps the greatest value, so no peak is lost.

    Attributes:
        seconds: when each reading was taken, since the call began.
        anonymous: the processes' own memory, in RAM or in swap. The system cannot take it back.
        file: pages of files. The system takes them back when it needs room.
        shmem: shared memory that belongs to no file, such as POSIX shared memory. The system cannot take it back.
        pss: the proportional set size: private pages, and the tree's share of pages that other programs use as well.
        rss: the resident set sizes of all processes, added up; a shared page counts once for each process.
    """

    seconds: tuple[float, ...] = ()
    anonymous: tuple[int, ...] = ()
    file: tuple[int, ...] = ()
    shmem: tuple[int, ...] = ()
    pss: tuple[int, ...] = ()
    rss: tuple[int, ...] = ()

    @property
    def held(self) -> tuple[int, ...]:
        """Anonymous and shared memory together at each reading, in bytes: all that the system cannot take back."""
        return tuple(map(sum, zip(self.anonymous, self.shmem, strict=True)))

    @classmethod
    def from_json(cls, columns: Mapping[str, Sequence[float]]) -> Self:
        """Return the curve with these columns."""
        whole = {name: tuple(map(int, values)) for name, values in columns.items() if name != "seconds"}
        return cls(seconds=tuple(columns["seconds"]), **whole)


@dataclass(frozen=True)
class Measurement:
    """One call and the memory that it took.

    Attributes:
        name: the name of the call.
        outcome: "finished"; "failed", it raised an error or its process died; "killed", it went beyond the limit or
            took too long; "skipped", it was not run.
        reason: why it did not finish, and how far it was; "" if it finished.
        wall_s: seconds from its start to its end.
        cpu_s: seconds of processor time of all its processes.
        disk_bytes: bytes on disk of the files that it left, as allocated; None if it left nothing.
        curve: its memory over time.
        marks: its phases, in order.
        start: "fresh", in a new interpreter; "forked", in a copy of the calling process, whose pages are not counted;
            "here", in the calling process, whose memory at the start is counted.
        start_bytes: anonymous memory at the start: the interpreter and the imported modules.
        kernel_peak_bytes: the peak of the resident set size that the system itself recorded, to check the curve with;
            None if it is not known, or if there were several processes.
        processes: the greatest number of processes at one time.
        readings: the number of readings.
        sampler_cpu_s: seconds of processor time that the readings took during the call.
        method: how memory was read, in words for the reader.
        note: a line about the call for the reader; "" for none.
        array_bytes: the size of the array that the call makes, if it is not that of the report; else None.
    """

    name: str
    outcome: Outcome
    reason: str = ""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    disk_bytes: int | None = None
    curve: Curve = field(default_factory=Curve)
    marks: tuple[Mark, ...] = ()
    start: Start = "fresh"
    start_bytes: int = 0
    kernel_peak_bytes: int | None = None
    processes: int = 1
    readings: int = 0
    sampler_cpu_s: float = 0.0
    method: str = ""
    note: str = ""
    array_bytes: int | None = None

    def peak(self, kind: Literal["anonymous", "file", "shmem", "pss", "rss", "held"] = "anonymous") -> int:
        """Return the greatest reading of one kind of memory, in bytes; 0 if there are no readings.

        "held" is anonymous and shared memory together; tables and pictures show it as the peak. "rss" is the peak that
        the system recorded, if that is greater: it includes peaks between two readings.
        """
        recorded = (self.kernel_peak_bytes or 0) if kind == "rss" else 0
        readings: tuple[int, ...] = getattr(self.curve, kind)
        return max(*readings, recorded, 0)

    @property
    def apart_from_kernel(self) -> float | None:
        """The difference of the read RSS peak from the recorded one, as a share of it; None if it is not known."""
        if not self.kernel_peak_bytes or not self.curve.rss:
            return None
        return abs(max(self.curve.rss) / self.kernel_peak_bytes - 1)

    @property
    def sampler_share(self) -> float:
        """The cost of the readings, as a share of one core."""
        return self.sampler_cpu_s / self.wall_s if self.wall_s else 0.0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the measurement that `dataclasses.asdict` made these values of."""
        marks = tuple(Mark(**mark) for mark in values["marks"])
        return cls(**{**values, "curve": Curve.from_json(values["curve"]), "marks": marks})


@dataclass(frozen=True)
class ReportData:
    """Several calls that do the same, compared.

    Attributes:
        title: what was compared, in a few words.
        measurements: one for each call, in the order in which the calls were given.
        array_bytes: the size of the N×C×H×W array that all of them make, to show peaks as multiples of; None for none.
        machine: facts about the machine, name → text.
        command: the command or call that measures the same again.
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
            ValueError: the text is no report, or one of a later version.
        """
        values = json.loads(text)
        if not isinstance(values, dict) or values.pop("version", None) != _VERSION:
            raise ValueError(f"this is not a memory report of version {_VERSION}, the only version known here")
        measurements = tuple(map(Measurement.from_json, values.pop("measurements")))
        return cls(**values, measurements=measurements)
