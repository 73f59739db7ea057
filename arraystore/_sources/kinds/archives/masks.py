"""Masks that are members of the same archives as their images."""

import os
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from arraystore._sources.kinds.archives.members import Index, Members
from arraystore._sources.targets.masks import Masks
from arraystore._sources.text_list import TextList
from arraystore.errors import DecodeError, Kind, ManifestError

Place = tuple[int, int]  # the numbers of an archive and of a member in there


class MemberMasks:
    """Members of archives as masks, some of which may be missing.

    Args:
        archives: of the members.
        chosen: for each slot the place of its mask; None where there is no such member.
        names: for each slot the name that its mask has, or should have.
    """

    may_name_files = False
    is_fixed = True

    def __init__(self, archives: Sequence[Index], chosen: Sequence[Place | None], names: Sequence[bytes]) -> None:
        found = np.array([place is not None for place in chosen], bool)
        self._at = np.where(found, np.cumsum(found) - 1, -1)
        self._members = Members(archives, [place for place in chosen if place is not None])
        self._names = TextList.from_raw(names)

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, slot: int) -> Any:
        at = int(self._at[slot])
        if at < 0:
            raise DecodeError(f"there is no member {self._names[slot]!r} in the archive", kind=Kind.MISSING)
        return self._members[at]

    def name(self, slot: int) -> str:
        at = int(self._at[slot])
        return self._names[slot] if at < 0 else self._members.name(at)

    def identity(self) -> Iterator[tuple[list[Any], Sequence[npt.NDArray[Any]]]]:
        yield from self._members.identity()
        yield ["masks"], (self._at, self._names.offsets, self._names.blob)


def folder_in(archives: Sequence[Index], inner_folder: str) -> bytes:
    """Return the folder of archives that has the masks, with a slash at its end; empty for the archive itself.

    The given folder may lie in others that are around everything.

    Raises:
        ManifestError: there is none, or there are several.
    """
    if inner_folder == ".":
        return b""
    wanted = b"/" + os.fsencode(inner_folder) + b"/"
    folders = {b"/" + name.rpartition(b"/")[0] + b"/" for archive in archives for name in archive.names}
    found = {folder[1 : folder.index(wanted) + len(wanted)] for folder in folders if wanted in folder}
    if len(found) == 1:
        return found.pop()
    path = archives[0].path
    what = f"there is no folder {inner_folder!r} in this archive"
    if found:
        what = f"there are several folders {inner_folder!r}: {', '.join(sorted(map(os.fsdecode, found))[:4])}"
    raise ManifestError(
        f"{path}: {what}", source=path, kind=Kind.MISSING, advice="give the masks' folder as it is named in the archive"
    )


def masks_in(archives: Sequence[Index], folder: bytes, masks: Masks, images: Sequence[Place]) -> Masks:
    """Return the mask of each image: it has the path of its image from some folder on, the same for all.

    Raises:
        ManifestError: no image has one, or two would have the same.
    """
    suffix = os.fsencode(masks.suffix)
    stems = []
    for file, member in images:
        name = archives[file].names[member]
        stems.append(name.removesuffix(os.fsencode(PurePosixPath(os.fsdecode(name)).suffix)).split(b"/"))

    def named(skipped: int) -> list[bytes]:
        return [folder + b"/".join(parts[skipped:]) + suffix for parts in stems]

    def count(skipped: int) -> int:
        pairs = zip(images, named(skipped), strict=True)
        return sum(name in archives[file].member_of for (file, _), name in pairs)

    best = max(range(min(map(len, stems))), key=count)  # the first of equals: of the longest paths
    names = named(best)
    places = [
        (file, archives[file].member_of[name]) if name in archives[file].member_of else None
        for (file, _), name in zip(images, names, strict=True)
    ]
    path, shown = archives[0].path, os.fsdecode(names[0])
    if not any(places):
        raise ManifestError(f"{path}: no image has a mask, such as {shown!r}", source=path, kind=Kind.MISSING)
    if len({*places} - {None}) < len(places) - places.count(None):
        raise ManifestError(
            f"{path}: two images would have the same mask, because they differ only in their suffix",
            source=path,
            kind=Kind.INVALID,
            advice="rename one, or unpack the archive and pass lists of paths",
        )
    return Masks(MemberMasks(archives, places, names), bits=masks.bits)
