"""The result of ``arraystore verify``: as plain values, and as lines for people."""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arraystore._common.wording import flat, many, readable
from arraystore._format.checking.result import Verification
from arraystore.errors import Option


def verification_facts(verification: Verification, path: Path) -> dict[str, Any]:
    """Return the result of a check as plain values."""
    faults = [{"message": fault.message, "advice": fault.advice, "kind": fault.kind} for fault in verification.faults]
    return {"path": str(path), "ok": verification.ok} | asdict(verification) | {"faults": faults}


def whole_line(verification: Verification, path: Path) -> str:
    """Return the line about a store without damage."""
    are = "is" if verification.slots == 1 else "are"
    failed = f", {verification.failed:,} of them failed" if verification.failed else ""
    return (
        f"{flat(str(path))}: {many(verification.slots, 'slot')} {are} whole{failed}; "
        f"{readable(verification.bytes)} in {verification.seconds:.1f} s"
    )


def damage_lines(verification: Verification, path: Path, spell: Callable[[Option], str]) -> Iterator[str]:
    """Yield the lines about a damaged store: first a summary with advice, then a line for each fault and damaged slot.

    Args:
        verification: the result of the check.
        path: of the store.
        spell: see `Fault.text`.
    """
    counts = []
    if verification.faults:
        counts.append(many(len(verification.faults), "fault"))
    if verification.damaged:
        counts.append(f"{len(verification.damaged):,} of {many(verification.slots, 'slot')}")
    advice = ""
    if verification.repairable:
        advice = f"; repair it with  arraystore repair {shlex.quote(str(path))}"
    elif not verification.faults:
        advice = "; its sources are not files: restore it from a copy, or build the store again"
    yield flat(f"{path} is damaged: {' and '.join(counts)}{advice}")
    for fault in verification.faults:
        yield f"  {flat(fault.text(spell))}"
    for image in verification.damaged:
        yield f"  slot {image.slot}  {flat(image.source)}: {flat(image.reason)}"
