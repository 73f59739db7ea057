"""Where each smaller file lies in its tree: at the path and the stem of its source, from the source's root on."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from arraystore._building.presizing.recipe import JPEG, PASSED, PNG
from arraystore._sources.formats import IMAGE_SUFFIXES
from arraystore._sources.manifest import Manifest
from arraystore.errors import Kind, ManifestError

_JPEG_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif")
_SCHEME = "://"


@dataclass(frozen=True, slots=True)
class Names:
    """The names of the files of a tree.

    Attributes:
        paths: the absolute path of each source, to read it.
        sources: the same without parts that mean nothing, which no other has.
        stems: its path in the tree, without a suffix.
        suffixes: its own suffix, with the dot, where a JPEG may keep it; else ``".jpg"``.
        base: the absolute folder that the paths in the tree start from.
        images: the folder of the images in the tree, with a slash at its end; empty where they lie in the tree itself.
        masks: the folder of the masks, likewise.
    """

    paths: Sequence[str]
    sources: Sequence[str]
    stems: Sequence[str]
    suffixes: Sequence[str]
    base: str
    images: str = ""
    masks: str = ""

    def files(self, row: int, form: int, count: int) -> list[str]:
        """Return the paths of a source's files in the tree: the image in a form of `recipe`, and its masks."""
        stem = self.stems[row]
        suffix = self.suffixes[row] if form in (PASSED, JPEG) else ".png"
        return [f"{self.images}{stem}{suffix}", *[f"{self.masks}{stem}.png"] * (count - 1)]

    def candidates(self, row: int, *, masked: bool) -> list[str]:
        """Return every path in the tree that a file of a source may get."""
        count = 1 + masked
        return [*self.files(row, JPEG, 1), *self.files(row, PNG, count)]

    def are_of(self, row: int, files: Collection[str]) -> bool:
        """Return whether the paths of files in a tree are those of this source, and some of them are there."""
        first = next(iter(files), "")
        return first == f"{self.images}{self.stems[row]}{self.suffixes[row]}" or first == self.files(row, PNG, 1)[0]


def names_of(manifest: Manifest, *, masked: bool) -> Names:
    """Return the names for a manifest; with masks, images and masks lie in folders of their own.

    Raises:
        ManifestError: a source is no file, or two would get one name.
    """
    if not manifest.is_paths:
        raise ManifestError(
            f"presize makes files of files, and these are {manifest.name(0)!r} and others in memory or in an archive",
            kind=Kind.UNSUPPORTED,
            advice="pass a folder, a table or a list of paths; arraystore.build takes the others",
        )
    sources = manifest.paths()
    remote = next((source for source in sources if _SCHEME in source), None)
    if remote is not None:
        raise ManifestError(f"{remote}: presize reads files, not addresses: fetch it first", source=remote)
    plain = [os.path.normpath(source) if _is_odd(source) else source for source in sources]
    base = _base(plain, manifest.root)
    start = len(base.rstrip("/")) + 1
    stems, suffixes = [], []
    for source in plain:
        stem, suffix = _split(source[start:])
        stems.append(stem)
        suffixes.append(suffix if suffix.lower() in _JPEG_SUFFIXES else ".jpg")
    _check_unique(stems, sources)
    folders = ("images/", "masks/") if masked else ("", "")
    return Names(sources, plain, stems, suffixes, base, *folders)


def _is_odd(path: str) -> bool:
    """Return whether a path may have parts that mean nothing or lead up; most have none, and are left as they are."""
    return "/." in path or "//" in path or path.endswith("/")


def _split(name: str) -> tuple[str, str]:
    """Return a path without the suffix of an image, and that suffix with its dot; empty where it has none."""
    at = name.rfind(".")
    if at <= name.rfind("/") + 1 or name[at + 1 :].lower() not in IMAGE_SUFFIXES:
        return name, ""
    return name[:at], name[at:]


def _base(sources: Sequence[str], root: str | None) -> str:
    """Return the folder around all sources: the root, or where one lies elsewhere, the lowest that they share."""
    if root is not None:
        root = os.path.normpath(root)
        inside = root.rstrip("/") + "/"
        if all(source.startswith(inside) for source in sources):
            return root
    return os.path.commonpath([str(Path(source).parent) for source in sources])


def is_inside(path: str, folder: str) -> bool:
    """Return whether a normal absolute path lies in a folder."""
    return path.startswith(folder.rstrip("/") + "/")


def _check_unique(stems: Sequence[str], sources: Sequence[str]) -> None:
    """Refuse two sources of one stem: which suffix each gets depends on its pixels, so they could get one name.

    Raises:
        ManifestError: there are such sources.
    """
    first: dict[str, int] = {}
    for row, stem in enumerate(stems):
        other = first.setdefault(stem, row)
        if other != row:
            twice = f"{sources[row]!r} comes twice, in rows {other} and {row}"
            both = f"{sources[other]!r} and {sources[row]!r} would get one name, {stem!r}"
            raise ManifestError(
                twice if sources[other] == sources[row] else both,
                slot=row,
                source=sources[row],
                kind=Kind.EXISTS,
                advice="rename one of them, or leave one out",
            )


def check_case(names: Names, folder: Path) -> None:
    """Check that a volume which takes two names that differ only in case for one gets no such names.

    Args:
        names: of the files.
        folder: on the volume; a file is made in it and deleted.

    Raises:
        ManifestError: two sources would get one name there.
    """
    pair = _differ_in_case(names.stems)
    if pair is None or not _folds_case(folder):
        return
    one, other = names.sources[pair[0]], names.sources[pair[1]]
    raise ManifestError(
        f"{one!r} and {other!r} would get one name on the volume of {folder}, which does not tell cases apart",
        source=other,
        kind=Kind.EXISTS,
        advice="rename one of them, or choose another volume",
    )


def _differ_in_case(stems: Sequence[str]) -> tuple[int, int] | None:
    first: dict[str, int] = {}
    for row, stem in enumerate(stems):
        earlier = first.setdefault(stem.casefold(), row)
        if earlier != row:
            return earlier, row
    return None


def _folds_case(folder: Path) -> bool:
    probe = folder / "Case"
    probe.touch()
    try:
        return (folder / "case").exists()
    finally:
        probe.unlink()
