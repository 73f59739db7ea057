"""Archives as sources: zip and tar files that hold what a folder would, and shards of WebDataset."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from arraystore._sources.entries import ImageFiles, is_system_folder
from arraystore._sources.kinds.archives.masks import folder_in, masks_in
from arraystore._sources.kinds.archives.members import Index, Members
from arraystore._sources.kinds.archives.tar import tar_index
from arraystore._sources.kinds.archives.webdataset import is_webdataset, webdataset_of
from arraystore._sources.kinds.archives.zipped import zip_index
from arraystore._sources.kinds.found import Found
from arraystore._sources.scan import shown_suffix
from arraystore._sources.targets.class_names import check_meant, order_note
from arraystore._sources.targets.masks import Masks
from arraystore.errors import Kind, ManifestError, Option

ARCHIVE_SUFFIXES = (".zip", ".tar")
Chosen = list[tuple[int, int]]


def from_archives(
    source: str | Sequence[str],
    *,
    labels: Any = None,
    targets: Sequence[str] | Mapping[str, str] | None = None,
    classes: Any = None,
    masks: Mapping[str, Masks] | None = None,
    decoders: Iterable[str | bytes] | None = None,
) -> Found:
    """Return the images of zip and tar files.

    Shards of WebDataset keep their order, and give their labels. One other archive gives what its folder would if it
    were unpacked: images in folders are in classes. A folder around everything else in it is no class.

    Args:
        source: the path of an archive, or several.
        labels: of the caller, which replace those of the archive.
        targets: the members of a sample that become targets, if these are shards of WebDataset, or what each becomes;
            None for its class and its text.
        classes: of the caller; if given, folders of any name are classes.
        masks: the targets that are masks in a folder of the archive.
        decoders: see `ImageFiles`.

    Raises:
        ManifestError: an archive cannot be listed, there are no images or no masks, or images lie beside class folders.
    """
    paths = [str(Path(path).absolute()) for path in ([source] if isinstance(source, str) else source)]
    archives = [zip_index(path) if path.lower().endswith(".zip") else tar_index(path) for path in paths]
    files = ImageFiles(decoders)
    if not masks and is_webdataset(archives, files, targets or ()):
        found = webdataset_of(archives, files, targets, is_labeled=labels is not None)
    elif targets is not None:
        raise ManifestError(
            f"{paths[0]}: has no members beside its images that could become targets",
            source=paths[0],
            kind=Kind.INVALID,
            advice="pass arrays of your own as {0}",
            options=[Option("targets", {"name": "…"})],
        )
    else:
        found = _tree_of(archives, files, masks or {}, is_labeled=labels is not None, is_meant=classes is not None)
    for archive in archives:
        found.notes += archive.notes()
    if not len(found.sources):
        raise ManifestError(f"{paths[0]}: there are no images in this archive", source=paths[0], kind=Kind.MISSING)
    found.place = paths[0]
    return found


def _tree_of(
    archives: Sequence[Index], files: ImageFiles, masks: Mapping[str, Masks], *, is_labeled: bool, is_meant: bool
) -> Found:
    """Return the images of archives in the order of a folder of them, with the class of each if they need one."""
    folders_of = {name: folder_in(archives, each.inner_folder or ".") for name, each in masks.items()}
    ends = {name: os.fsencode(each.suffix) for name, each in masks.items()}
    chosen, left_out = _images_of(
        archives,
        files,
        tuple(folder for folder in folders_of.values() if folder),
        ends=tuple(end for name, end in ends.items() if not folders_of[name]),
    )
    if masks and not chosen:  # masks may also lie beside their images
        chosen, left_out = _images_of(archives, files, ends=tuple(ends.values()))
    parts = [archives[file].names[member].split(b"/") for file, member in chosen]
    order = sorted(range(len(chosen)), key=lambda i: (chosen[i][0], parts[i]))
    chosen, parts = [chosen[i] for i in order], [parts[i] for i in order]
    found = Found(Members(archives, chosen), left_out=left_out)
    if chosen:
        found.masks = {name: masks_in(archives, folders_of[name], each, chosen) for name, each in masks.items()}
    top = 0
    while (
        parts and len(parts[0]) > top + 1 and all(each[top] == parts[0][top] and len(each) > top + 1 for each in parts)
    ):
        top += 1
    folders = {each[top] for each in parts if len(each) > top + 1}
    if is_labeled or not folders:
        return found
    path = archives[0].path
    loose = next((each for each in parts if len(each) == top + 1), None)
    if loose is not None:
        raise ManifestError(
            f"{path}: has images (such as {os.fsdecode(loose[-1])!r}) beside class folders "
            f"(such as {os.fsdecode(min(folders))!r})",
            source=path,
            kind=Kind.INVALID,
            advice="pass {0}, or unpack it and pass a list of paths",
            options=[Option("labels", ["…"])],
        )
    if not is_meant:
        check_meant(path, sorted(map(os.fsdecode, folders)), is_archive=True)
    found.add_classes([os.fsdecode(each[top]) for each in parts])
    note = order_note(found.classes["labels"]) if not is_meant else None
    found.notes += [f"{path}: {note}"] if note else []
    return found


def _images_of(
    archives: Sequence[Index], files: ImageFiles, apart: tuple[bytes, ...] = (), *, ends: tuple[bytes, ...] = ()
) -> tuple[Chosen, Counter[str]]:
    """Return the members that are images, by their names or by their first bytes, and the suffixes of the others.

    Members in the folders ``apart`` are neither, nor those with these ``ends``.
    """
    chosen, left_out = [], Counter[str]()
    for file, archive in enumerate(archives):
        for member, raw in enumerate(archive.names):
            *folders, name = raw.split(b"/")
            if raw.startswith(b".") or b"/." in raw or any(map(is_system_folder, folders)):
                continue
            if raw.startswith(apart) or raw.endswith(ends):
                continue
            if files.hold(name, partial(archive.start_of, member)):
                chosen.append((file, member))
            else:
                left_out[shown_suffix(name)] += 1
    return chosen, left_out
