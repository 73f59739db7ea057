"""A folder of small photos in class folders, from which tests make every other kind of source."""

from __future__ import annotations

from pathlib import Path

from arraystore import Store, build
from tests.support.images import jpeg, photo, png

CLASSES = ("ant", "bee", "cat")
SIZE = 16


def photo_folder(root: Path, *, each: int = 3) -> Path:
    """Class folders with ``each`` images: JPEGs, the last one of a class a PNG."""
    for code, name in enumerate(CLASSES):
        folder = root / name
        folder.mkdir(parents=True)
        for number in range(each):
            pixels = photo(20 + number, 30 - code, seed=10 * code + number)
            last = number == each - 1
            (folder / f"{number}.{'png' if last else 'jpg'}").write_bytes(png(pixels) if last else jpeg(pixels))
    return root


def built(source: object, **options: object) -> Store:
    """The store in RAM that a source becomes, of `SIZE` × `SIZE` pixels."""
    return build(source, size=SIZE, workers=1, progress=False, **options)  # type: ignore[arg-type]
