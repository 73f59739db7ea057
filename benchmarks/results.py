"""Results of benchmarks: lines of JSON in a folder, one file a benchmark, and how they are kept with the documents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from arraystore.memory.report import Curve, MemoryReport
from benchmarks.suite import BENCHMARKS

REPORT = "memory-report.json"
SUITE = "suite"
READINGS = 150  # of a curve that is kept: more than a picture has room for
DIGITS = 6

Line = Mapping[str, Any]


class Results:
    """The results in a folder, read when they are first asked for.

    Args:
        folder: of ``NAME.jsonl`` files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines: dict[str, list[Line]] = {}

    def __getitem__(self, name: str) -> list[Line]:
        """Return the lines of a benchmark.

        Raises:
            SystemExit: there are none.
        """
        if name not in self._lines:
            self._lines[name] = [json.loads(line) for line in self._text(name, f"{name}.jsonl").splitlines()]
        return self._lines[name]

    def __contains__(self, name: str) -> bool:
        return (self.folder / f"{name}.jsonl").exists()

    def by_name(self) -> dict[str, list[Line]]:
        """Return the lines of every benchmark that has some."""
        return {benchmark.name: self[benchmark.name] for benchmark in BENCHMARKS if benchmark.name in self}

    def where(self, name: str, **values: object) -> list[Line]:
        """Return the lines of a benchmark that have these values."""
        return [line for line in self[name] if all(line.get(key) == value for key, value in values.items())]

    def one(self, name: str, **values: object) -> Line:
        """Return the one line of a benchmark that has these values.

        Raises:
            SystemExit: there is none, or more than one.
        """
        lines = self.where(name, **values)
        if len(lines) != 1:
            asked = ", ".join(f"{key}={value!r}" for key, value in values.items())
            raise SystemExit(f"{self.folder / name}.jsonl: one line with {asked} was expected, there are {len(lines)}")
        return lines[0]

    def report(self) -> MemoryReport:
        """Return the memory report of the headline.

        Raises:
            SystemExit: there is none.
        """
        return MemoryReport.from_json(self._text("headline", REPORT))

    def _text(self, name: str, file: str) -> str:
        path = self.folder / file
        if not path.exists():
            how = "all" if name == SUITE else f"run {name}"
            raise SystemExit(
                f"{path}: there are no such results; measure them with  python -m benchmarks {how} --photos DIR, "
                "and draw with  python -m benchmarks draw --out results"
            )
        return path.read_text(encoding="utf-8")


def keep(measured: Path, kept: Path) -> None:
    """Copy what was measured to where documents are drawn from: with fewer digits and readings, the machine said once.

    Results that are kept already and were not measured now stay.
    """
    kept.mkdir(parents=True, exist_ok=True)
    for name in (SUITE, *(benchmark.name for benchmark in BENCHMARKS)):
        path = measured / f"{name}.jsonl"
        if path.exists():
            lines = path.read_text(encoding="utf-8").splitlines()
            said_once = without_repeats([json.loads(line, parse_float=short) for line in lines])
            (kept / path.name).write_text("".join(f"{json.dumps(line)}\n" for line in said_once), encoding="utf-8")
    if (measured / REPORT).exists():
        report = thin(MemoryReport.from_json((measured / REPORT).read_text(encoding="utf-8")))
        text = json.dumps(json.loads(report.to_json(), parse_float=short))
        (kept / REPORT).write_text(f"{text}\n", encoding="utf-8")


def without_repeats(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave the machine out of lines that have the same one as the line before: it is half of what they say."""
    before = [None, *(line.get("machine") for line in lines)]
    return [
        {key: value for key, value in line.items() if key != "machine" or value != last}
        for line, last in zip(lines, before, strict=False)
    ]


def short(number: str) -> float:
    """Return a number with as many digits as can mean something."""
    return float(f"{float(number):.{DIGITS}g}")


def thin(report: MemoryReport) -> MemoryReport:
    """Merge neighbouring readings of long curves; of each kind the greatest stays, so that no peak is lost."""
    return replace(
        report, measurements=tuple(replace(each, curve=thin_curve(each.curve)) for each in report.measurements)
    )


def thin_curve(curve: Curve) -> Curve:
    """Merge neighbouring readings of one curve."""
    step = -(-len(curve.seconds) // READINGS)
    if step <= 1:
        return curve
    starts = range(0, len(curve.seconds), step)
    columns = {
        name: tuple(max(values[at : at + step]) for at in starts)
        for name, values in vars(curve).items()
        if name != "seconds" and values
    }
    return replace(curve, seconds=tuple(curve.seconds[at] for at in starts), **columns)
