"""The cases of `read.py` in turn, each in its process, and what came of them as a table and as lines of JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import print_table, spread
from page_cache import evict

if TYPE_CHECKING:
    from hosts import Host, Hosts, Job


@dataclass(frozen=True)
class Case:
    """What is timed.

    Attributes:
        module: that has it.
        name: its name there.
        job: what it is run on.
        evicted: the file that is dropped from the page cache before each round, or None.
        needs: the package that it needs, or "".
        apart: whether it has a process alone.
    """

    module: str
    name: str
    job: Job
    evicted: Path | None = None
    needs: str = ""
    apart: bool = False


@dataclass
class Outcome:
    """What came of a case.

    Attributes:
        case: which.
        figures: what it said of each round.
        stayed: the greatest share of the file that could not be dropped; None where nobody knows.
        missing: why it could not be run, or "".
    """

    case: Case
    figures: list[dict[str, Any]] = field(default_factory=list)
    stayed: float | None = 0.0
    missing: str = ""

    def images_per_s(self) -> list[float]:
        """Return the rates, a round each."""
        return [each["images"] / each["wall_s"] for each in self.figures]

    def bytes_per_s(self) -> list[float]:
        """Return them as bytes that were handed over."""
        return [rate * self.case.job.bytes_per_image for rate in self.images_per_s()]


def in_turn(cases: Mapping[str, Case], hosts: Hosts, rounds: int) -> dict[str, Outcome]:
    """Run cases in turn, A B C, C B A, …, after one round of each that is checked and not timed.

    See `common.take_turns`; here each tells its own time.
    """
    outcomes = {title: Outcome(case) for title, case in cases.items()}
    for outcome in outcomes.values():
        needed = outcome.case.needs
        if needed and find_spec(needed) is None:
            outcome.missing = f"{needed} is not installed"
    for turn in range(rounds + 1):
        for title, outcome in list(outcomes.items())[:: -1 if turn % 2 else 1]:
            if not outcome.missing:
                case = outcome.case
                run(outcome, hosts.of(case.module, title if case.apart else None), title, turn)
    hosts.close()
    return outcomes


def run(outcome: Outcome, host: Host, title: str, turn: int) -> None:
    """Run a case once."""
    case = outcome.case
    if turn and case.evicted is not None:
        share = evict(case.evicted)
        outcome.stayed = None if share is None or outcome.stayed is None else max(share, outcome.stayed)
    if turn == 0 or case.evicted is not None:
        host.open(title, case.name, case.job)
    figures = host.run(title, turn, check=turn == 0)
    if case.evicted is not None:
        host.close()  # what it has mapped could not be dropped
    if turn:
        outcome.figures.append(figures)


def report(
    section: str, title: str, outcomes: Mapping[str, Outcome], references: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Print the rates of a section, and return them.

    Args:
        section: its name.
        title: of the table.
        outcomes: by title.
        references: title of a case → that of the case whose bytes a second it is compared with.
    """
    rows, records = [], []
    for name, outcome in outcomes.items():
        job = outcome.case.job
        row = {"benchmark": "read", "section": section, "case": name, "threads": job.threads, "batch": job.batch}
        row |= {"count": job.count, "bytes_per_image": job.bytes_per_image}
        if outcome.missing:
            rows.append([name, outcome.missing, "", "", "", ""])
            records.append({**row, "missing": outcome.missing})
            continue
        of = references[name]
        times = [mine / its for mine, its in zip(outcome.bytes_per_s(), outcomes[of].bytes_per_s(), strict=True)]
        images, rates = outcome.images_per_s(), outcome.bytes_per_s()
        row |= {
            "images_per_s": statistics.median(images),
            "bytes_per_s": statistics.median(rates),
            "reference": of,
            "times_reference": statistics.median(times),
            "wall_s": [each["wall_s"] for each in outcome.figures],
            "rounds_times_reference": times,
        }
        if outcome.case.evicted is not None:
            row["stayed_in_cache"] = outcome.stayed
        records.append(row)
        rows.append(
            [
                name,
                f"{row['images_per_s']:,.0f}",
                spread(images),
                f"{row['bytes_per_s'] / 1e9:.2f}",
                f"{row['times_reference']:.3f}",
                spread(times, 3),
            ]
        )
    print_table(title, ["case", "img/s", "min-max", "GB/s", "x reference", "min-max"], rows)
    return records
