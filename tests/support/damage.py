"""Damage to the pixels of stores."""

from __future__ import annotations

from pathlib import Path

SLOT_BYTES = 3 * 16 * 24


def damage(target: Path, *slots: int) -> None:
    """Overwrite some pixels of slots of `SLOT_BYTES`."""
    file, start = (target / "images.npy", 4096) if target.is_dir() else (target, 12288)
    with file.open("r+b") as pixels:
        for slot in slots:
            pixels.seek(start + slot * SLOT_BYTES + 11)
            pixels.write(b"damaged")
