"""TODO."""

from __future__ import annotations

__all__ = ["flat", "many", "readable"]


def flat(text: str) -> str:
    """Return the text on one line: a file name may hold a line break, or worse."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def many(number: int, noun: str) -> str:
    """Return a number with its noun, of which there is one or more."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def readable(size_bytes: float) -> str:
    """Return a size in decimal units, as disks are sold and as numpy counts."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.3g} TB"
