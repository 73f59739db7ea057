"""The names of exported images without their suffix: like those of the sources, safe as file names, and different."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

import numpy as np
import xxhash

from arraystore._reading.slot_arrays import Index
from arraystore._sources.formats import IMAGE_SUFFIXES

_BLOCK_ROWS = 4096
_LONGEST_BYTES = 150  # a file name may have 255, and suffixes follow
_REFUSED = frozenset('<>:"/\\|?*')  # by some system, or in addresses
_NO_NAME = "image"


class Stems:
    """A stem for each exported slot.

    Two slots of one folder have different stems, also on a volume that takes upper and lower case, or an accent and its
    letter, for the same. Those whose sources have one name get the number of their slot behind it. A stem depends on
    the slots alone, and no list of all stems is kept.

    Args:
        slots: int64, (n,): the slots that are exported.
        sources: returns the names of the sources of slots.
        folders: returns the folder of each slot, as any text.
        dotless: True for stems without dots, as the keys of WebDataset are.
    """

    def __init__(
        self,
        slots: Index,
        sources: Callable[[Index], list[str]],
        folders: Callable[[Index], list[str]],
        *,
        dotless: bool = False,
    ) -> None:
        self._sources, self._dotless = sources, dotless
        self._rounds = np.zeros(int(slots.max(initial=-1)) + 1, np.uint8)  # how often the number is behind the name
        names = np.zeros(len(slots), np.uint64)
        changed = np.arange(len(slots))
        # A stem with its number can be the name of another source, which then gets its own number. Two stems that both
        # end in the numbers of their slots differ, so this ends; one round is enough for most folders.
        while len(changed):
            for first in range(0, len(changed), _BLOCK_ROWS):
                places = changed[first : first + _BLOCK_ROWS]
                stems = zip(folders(slots[places]), self.of(slots[places]), strict=True)
                names[places] = [_digest(f"{folder}/{stem}") for folder, stem in stems]
            _, at, counts = np.unique(names, return_inverse=True, return_counts=True)
            changed = np.flatnonzero(counts[at] > 1)
            self._rounds[slots[changed]] += 1

    def of(self, slots: Index) -> list[str]:
        """Return the stems of slots."""
        rounds = self._rounds[slots].tolist()
        numbers, sources = slots.tolist(), self._sources(slots)
        return [
            safe_stem(source, dotless=self._dotless) + f"_{slot}" * times
            for slot, source, times in zip(numbers, sources, rounds, strict=True)
        ]


def safe_stem(source: str, *, dotless: bool = False) -> str:
    """Return the name of a source without folders and suffix, with nothing that a file system or an address refuses."""
    name = source.replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    stem = stem if dot and suffix.lower() in IMAGE_SUFFIXES else name
    stem = "".join(letter if letter.isprintable() and letter not in _REFUSED else "_" for letter in stem)
    if dotless:
        stem = stem.replace(".", "_")
    # Files that begin with a dot are hidden, those that begin with two underscores are left out by some readers.
    stem = stem.encode()[:_LONGEST_BYTES].decode(errors="ignore").strip(" .")
    if stem.startswith("__"):
        stem = stem.lstrip("_ .")
    return stem or _NO_NAME


def _digest(name: str) -> int:
    same = unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
    return xxhash.xxh3_64_intdigest(same.encode("utf-8", "surrogatepass"))
