"""YOLO's text files, one for each image: their numbers are shares of the image's sides, so they stay as they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from arraystore._building.presizing.annotations.scaling import Smaller, refused
from arraystore._building.presizing.names import Names
from arraystore.errors import Kind, ManifestError

_LIMIT_BYTES = 64 << 20
_SUFFIX = ".txt"


class Yolo:
    """A folder of text files, at the paths of the images; see `Annotations`.

    An image without a file has no objects, and gets none. Files that go with no image are not taken.

    Args:
        folder: of the files.
        names: of the images that become smaller.

    Raises:
        ManifestError: no image has a file.
    """

    def __init__(self, folder: str, names: Names) -> None:
        self.path = folder
        self.scaled: list[str] = []
        self._row_of: dict[str, int] = {}
        for row, stem in enumerate(names.stems):
            if Path(folder, stem + _SUFFIX).is_file():
                self._row_of[stem + _SUFFIX] = row
        if not self._row_of:
            raise ManifestError(
                f"{folder}: has no text file for any image in {names.base}, such as {names.stems[0] + _SUFFIX!r}",
                source=folder,
                kind=Kind.MISSING,
                advice="pass a folder of YOLO's files at the paths of the images, or a COCO file",
            )

    def sources(self) -> dict[str, str]:
        """See `Annotations`."""
        return {name: str(Path(self.path, name)) for name in self._row_of}

    def row_of(self, name: str) -> int:
        """See `Annotations`."""
        return self._row_of[name]

    def written(self, name: str, smaller: Mapping[int, Smaller]) -> bytes | None:
        """See `Annotations`.

        Raises:
            ManifestError: a line is no object of YOLO.
        """
        return self.checked(name) if self._row_of[name] in smaller else None

    def checked(self, name: str) -> bytes:
        """See `Annotations`.

        Raises:
            ManifestError: see `written`.
        """
        path = Path(self.path, name)
        if path.stat().st_size > _LIMIT_BYTES:
            raise refused(str(path), f"is larger than {_LIMIT_BYTES:,} bytes")
        data = path.read_bytes()
        for number, line in enumerate(data.split(b"\n"), start=1):
            if line.strip() and not _is_object(line.split()):
                raise refused(
                    str(path),
                    f"line {number} is {line[:60].decode('utf-8', 'replace')!r}, not a class and coordinates from 0 to "
                    "1: it may be in pixels, and is not understood",
                    "write it as YOLO has it, as shares of the image's sides",
                )
        return data


def _is_object(words: list[bytes]) -> bool:
    """Return whether words are a class, and a box, a box with a score or keypoints, or a polygon, in shares."""
    try:
        numbers = [float(word) for word in words[1:]]
    except ValueError:
        return False
    if not words[0].isdigit() or len(numbers) < 4:
        return False
    outside = [at for at, number in enumerate(numbers) if not 0 <= number <= 1]
    # Of the keypoints that follow a box, each third number says how visible it is: 0, 1 or 2.
    visible = len(numbers) % 3 == 1
    return all(visible and at >= 4 and at % 3 == 0 and numbers[at] == 2 for at in outside)
