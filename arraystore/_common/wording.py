"""Texts that several wings write: numbers with their nouns, sizes, and the list of the first bad images."""

from collections.abc import Mapping, Sequence

from arraystore.errors import BadImage

_LISTED_BAD = 10
_LISTED_SUFFIXES = 10


def bad_lines(bad: Sequence[BadImage]) -> list[str]:
    """Return the first ten bad images, a line each, and a last line with the number of the others."""
    lines = [f"slot {image.slot}  {flat(image.source)}: {flat(image.reason)}" for image in bad[:_LISTED_BAD]]
    return lines if len(bad) <= _LISTED_BAD else [*lines, f"and {len(bad) - _LISTED_BAD:,} more"]


def flat(text: str) -> str:
    """Return the text on one line; line breaks and control characters, which file names may hold, are escaped."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def many(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def left_out_text(left_out: Mapping[str, int]) -> str:
    """Return how many files a scan left out, by suffix: "12 other files were left out: 9 .txt, 3 without suffix"."""
    total = sum(left_out.values())
    kinds = sorted(left_out.items(), key=lambda item: (-item[1], not item[0], item[0]))
    shown = [f"{count:,} {flat(suffix) or 'without suffix'}" for suffix, count in kinds[:_LISTED_SUFFIXES]]
    if len(kinds) > _LISTED_SUFFIXES:
        shown.append(f"{sum(count for _, count in kinds[_LISTED_SUFFIXES:]):,} others")
    return f"{many(total, 'other file')} {'was' if total == 1 else 'were'} left out: {', '.join(shown)}"


def a(noun: str) -> str:
    """Return a noun with its article."""
    return f"an {noun}" if noun[:1].lower() in "aeio" else f"a {noun}"


def readable(size_bytes: float) -> str:
    """Return a size in decimal units: 1 kB is 1,000 bytes."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return f"{size_bytes:.3g} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.3g} TB"


def shape_text(shape: Sequence[int | None]) -> str:
    """Return a shape such as "3 x 224 x 224"; "3 x H x W" where height and width differ between slots."""
    names = iter("HW")
    return " x ".join(next(names) if side is None else str(side) for side in shape)
