"""What ``arraystore verify`` says of a store: as plain values, and as lines for people."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from arraystore._common.wording import flat, many, readable
from arraystore._format.verification import Verification

__all__ = ["damage_lines", "verification_facts", "whole_line"]


def verification_facts(verification: Verification, path: Path) -> dict[str, Any]:
    """Return what a check found, as plain values."""
    return {"path": str(path), "ok": verification.ok} | asdict(verification)


def whole_line(verification: Verification, path: Path) -> str:
    """Return the line that says that a store is whole."""
    are = "is" if verification.slots == 1 else "are"
    failed = f", {verification.failed:,} of them failed" if verification.failed else ""
    return (
        f"{flat(str(path))}: {many(verification.slots, 'slot')} {are} whole{failed}; "
        f"{readable(verification.bytes)} in {verification.seconds:.1f} s"
    )


def damage_lines(verification: Verification, path: Path) -> Iterator[str]:
    """Yield what is wrong with a store, a line each, and first in how much and what to do."""
    counts = []
    if verification.faults:
        counts.append(many(len(verification.faults), "fault"))
    if verification.damaged:
        counts.append(f"{len(verification.damaged):,} of {many(verification.slots, 'slot')}")
    advice = f"; refill the slots with  arraystore repair {shlex.quote(str(path))}" if verification.damaged else ""
    yield flat(f"{path} is damaged: {' and '.join(counts)}{advice}")
    for fault in verification.faults:
        yield f"  {flat(fault)}"
    for image in verification.damaged:
        yield f"  slot {image.slot}  {flat(image.source)}: {flat(image.reason)}"
