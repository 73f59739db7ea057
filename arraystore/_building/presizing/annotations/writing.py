"""Which annotations go with a call, and how they get into its trees."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from arraystore._building.presizing.annotations.coco import Coco
from arraystore._building.presizing.annotations.scaling import Annotations, Smaller
from arraystore._building.presizing.annotations.table import Table
from arraystore._building.presizing.annotations.yolo import Yolo
from arraystore._building.presizing.job import write_file
from arraystore._building.presizing.ledger import Entry
from arraystore._building.presizing.names import Names
from arraystore._building.presizing.recipe import Recipe
from arraystore._building.presizing.tree import NewFiles, Tree
from arraystore._common.checks import expanded
from arraystore._sources.kinds.coco.instances import COCO_SUFFIX
from arraystore._sources.stamps import file_stamp
from arraystore.errors import Kind, ManifestError, SpecError

_AT_ONCE = 256  # files


def annotations_of(
    listed_in: str | None, names: Names, recipe: Recipe, options: Mapping[str, Any]
) -> list[Annotations]:
    """Return the annotations that go with the images.

    Args:
        listed_in: the table or the COCO file that is the source itself; None where there is none.
        names: of the images.
        recipe: how they become smaller.
        options: of `arraystore.presize`.

    Raises:
        SpecError: the images are cropped, so that boxes would be cut.
        ManifestError: something is not understood.
    """
    found: list[Annotations] = []
    if listed_in is not None and listed_in.lower().endswith(COCO_SUFFIX):
        found.append(Coco(listed_in, names, options["unscaled"]))
    elif listed_in is not None:
        found.append(Table(listed_in, names, options))
    boxes = None if options["boxes"] is None else str(expanded(options["boxes"]).absolute())
    if boxes is not None and boxes != listed_in:
        if Path(boxes).is_dir():
            found.append(Yolo(boxes, names))
        elif boxes.lower().endswith(COCO_SUFFIX):
            found.append(Coco(boxes, names, options["unscaled"]))
        else:
            raise ManifestError(
                f"{boxes}: is neither a COCO file (.json) nor a folder of YOLO's text files",
                source=boxes,
                kind=Kind.UNSUPPORTED,
            )
    cropped = recipe.sides == "size" and recipe.fit == "crop"
    if cropped and any(each.scaled or isinstance(each, Yolo) for each in found):
        raise SpecError("a crop would cut boxes, which are only scaled: pass shorter=, longer=, or fit='stretch'")
    return found


def check_annotations(annotations: Sequence[Annotations], names: Names, trees: Sequence[Tree]) -> None:
    """Check those files that are to be written, before anything is.

    Raises:
        ManifestError: one is not understood.
        StoreExistsError: another file has the name of one.
    """
    for each in annotations:
        for name, source in each.sources().items():
            for tree in trees:
                tree.check_free(source, [names.images + name])
            if not all(_is_done(source, names.images + name, tree) for tree in trees):
                each.checked(name)


def write_annotations(
    annotations: Sequence[Annotations], names: Names, trees: Sequence[Tree], recipe: Recipe
) -> list[Path]:
    """Write the annotations into each tree, where they are not there already, and return their paths.

    Raises:
        ManifestError: they do not fit the images.
        OSError: they cannot be read, or the trees not be written.
    """
    if not annotations:
        return []
    written = []
    for number, tree in enumerate(trees):
        smaller = _smaller(names, tree, recipe, number)
        waiting: list[NewFiles] = []
        for each in annotations:
            for name, source in each.sources().items():
                path = names.images + name
                if each.row_of(name) in smaller and _is_done(source, path, tree):
                    continue
                data = each.written(name, smaller)
                made = _new_files(source, path, data, tree, len(waiting))
                if made is not None:
                    waiting.append(made)
                    written += [tree.path / path] if data is not None else []
                if len(waiting) >= _AT_ONCE:
                    tree.claim(waiting)
                    waiting = []
        tree.claim(waiting)
    return written


def _smaller(names: Names, tree: Tree, recipe: Recipe, number: int) -> dict[int, Smaller]:
    """Return what became of each row that is in a tree."""
    found = {}
    for row, source in enumerate(names.sources):
        entry = tree.ledger.get(source)
        if entry is None or entry.stamp is None or not entry.files:
            continue
        placement = recipe.placements(entry.height, entry.width)[number]
        name = next(iter(entry.files)).removeprefix(names.images)
        found[row] = Smaller(name, (entry.height, entry.width), (placement.height, placement.width))
    return found


def _new_files(source: str, path: str, data: bytes | None, tree: Tree, number: int) -> NewFiles | None:
    """Write a file under a temporary name; None where the tree has it already. Without data, an earlier one goes."""
    entry = Entry(source, file_stamp(source), 0, 0, 0, {})
    earlier = tree.ledger.get(source)
    if data is None:
        return None if earlier is None else NewFiles(entry._replace(stamp=None), {})
    if earlier is not None and tree.has(earlier) and path in earlier.files and (tree.path / path).read_bytes() == data:
        return None
    temporary = os.fspath(tree.new / f"annotation-{number}")
    write_file(temporary, data)
    return NewFiles(entry, {path: temporary})


def _is_done(source: str, path: str, tree: Tree) -> bool:
    entry = tree.ledger.get(source)
    return entry is not None and entry.stamp == file_stamp(source) and path in entry.files and tree.has(entry)
