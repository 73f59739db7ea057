"""`arraystore.presize`."""

import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Unpack

from arraystore._building.bad import failures_of
from arraystore._building.options import checked
from arraystore._building.presizing.annotations.writing import annotations_of, check_annotations, write_annotations
from arraystore._building.presizing.names import check_case, names_of
from arraystore._building.presizing.options import PresizeOptions
from arraystore._building.presizing.recipe import recipe_of
from arraystore._building.presizing.report import PresizeReport
from arraystore._building.presizing.run import bad_error, make_rows, rows_to_do
from arraystore._building.presizing.sources import annotated_by, check_apart, manifest_of, target_paths
from arraystore._building.presizing.tree import Tree, check_tree
from arraystore._common.options import public, shows_options


@public
@shows_options(PresizeOptions)
def presize(
    source: Any,
    target: str | os.PathLike[str],
    *,
    bad: Literal["raise", "keep", "drop"] = "raise",
    max_bad: float | None = None,
    **options: Unpack[PresizeOptions],
) -> PresizeReport:
    """Write a tree of images again as a tree of smaller images, for one size or for several from one decode.

    Every image is upright, has the path and the stem of its source, and is no larger than it. An upright JPEG that is
    not larger than asked is passed through byte for byte. After an interruption or a change of sources, the same call
    does what is left to do. See docs/presize.md.

    Args:
        source: a folder at any depth and with folders of any names, a table, a COCO file, a list of paths, a pattern,
            a text file of paths, or a `Manifest` of paths.
        target: the folder of the tree, outside the sources. ``{size}`` in it stands for the size, and is needed for
            several of them: ``"photos-{size}"``. Nothing outside it is written.
        shorter: pixels of the shorter side, or several numbers; the other side follows, rounded.
        longer: pixels of the longer side, likewise.
        size: height and width in pixels, one number for a square, or a list of such sizes. One of ``shorter``,
            ``longer`` and ``size`` is needed.
        fit: how an image fills a ``size`` of another aspect ratio: ``"stretch"`` changes the ratio, ``"crop"`` cuts the
            longer sides equally.
        filter: the antialiasing filter, see `ImageSpec`.
        quality: of JPEGs, from 1 to 100.
        subsampling: of their chroma: ``"444"``, ``"422"``, ``"420"``, ``"440"`` or ``"411"``.
        format: of images without transparent pixels: ``"jpeg"``, or ``"png"`` without loss.
        background: red, green and blue behind transparent pixels; None writes images that have some as PNG.
        icc: ``"keep"`` writes the color profile of a source into its smaller images; ``"srgb"`` converts their pixels.
        exact: see `ImageSpec`, as for ``max_pixels``, ``levels`` and ``truncated``.
        max_pixels: an image with more pixels is a bad image.
        levels: the largest sample of files of 16 bits that hold fewer, such as 4095.
        truncated: ``"keep"`` takes a JPEG that ends early; ``"refuse"`` makes it a bad image.
        masks: a folder with a mask for each image, or `Masks`. They get the nearest pixels and keep the numbers
            and palettes that they have. Images and masks then lie in ``images/`` and ``masks/`` of the tree.
        boxes: a COCO file, or a folder of YOLO's text files; they are written beside the images, in pixels of these. A
            table or a COCO file that is the source itself is always written so.
        unscaled: names of columns and members that are no coordinates though they look like some; they are copied.
        prune: True deletes the files in the tree whose sources are gone.
        root: see `build`, as for ``path_column``, ``suffix``, ``separator`` and ``where``.
        path_column: the column of a table that has the paths.
        suffix: is added to every path of a table or a list that does not end in it.
        separator: of the cells of a CSV; None is a comma.
        where: the rows of a table to take.
        allow_empty: has no meaning here, because a tree needs no classes, as has ``classes``.
        classes: see ``allow_empty``.
        bad: what to do about sources that cannot be made smaller, after all others are done: ``"raise"`` an error that
            lists them, or ``"keep"`` or ``"drop"``, which both leave them out and list them in the report.
        max_bad: how many bad images end the work early: a number, or a share as a fraction; see `build`.
        workers: how many images are decoded at once, as for ``processes``, ``timeout_s``, ``max_memory``, ``decoders``
            and ``executor``; see `build`.
        processes: True works in processes instead of threads.
        timeout_s: seconds that one image may take in a worker process.
        max_memory: bytes that the images in progress may take together.
        decoders: functions for formats that are not decoded otherwise.
        executor: runs the work instead of threads of this process.
        progress: True draws a bar, False is silent, a function is called with a `Progress`.
        fresh: True makes the whole tree again, also one that was made in another way or of other sources.

    Returns:
        What was done.

    Raises:
        SpecError: an option is invalid.
        ManifestError: the sources cannot be listed or are no files, two would get one name, or annotations are not
            understood; nothing has been written.
        BadImagesError: some sources are bad, and ``bad`` is ``"raise"``; or all are; or more than ``max_bad``.
        StoreExistsError: the target has files that are not of this tree.
        SpaceError: the volume is full.
        StoreError: another call writes the target, its images were made in another way, or it lies among the sources.
        OSError: the target cannot be written.
    """
    began_s = time.perf_counter()
    every = checked("presize", PresizeOptions, options, bad, max_bad)
    recipe = recipe_of(every)
    targets = target_paths(target, recipe)
    manifest = manifest_of(source, every)
    names = names_of(manifest, masked=bool(manifest.masks))
    annotations = annotations_of(annotated_by(source), names, recipe, every)
    check_apart(targets, manifest, names)
    for path in targets:
        check_tree(path)
    described = {**recipe.to_dict(), "masks": bool(manifest.masks)}
    with ExitStack() as held:
        trees = []
        for path in targets:
            trees.append(Tree(path, described, fresh=every["fresh"]))
            held.callback(trees[-1].close)
        for tree in trees:
            check_case(names, tree.new)
        check_annotations(annotations, names, trees)
        rows, sizes = rows_to_do(manifest, names, trees)
        done = make_rows(manifest, names, trees, recipe, rows, every, max_bad=max_bad)
        if done.reasons and (bad == "raise" or len(done.reasons) == len(manifest)):
            raise bad_error(manifest, done.reasons)
        sizes = [size + tree.claimed_bytes for size, tree in zip(sizes, trees, strict=True)]
        written = write_annotations(annotations, names, trees, recipe)
        sources = {*names.sources, *(path for each in annotations for path in each.sources().values())}
        stale, pruned = _stale(trees, sources, prune=every["prune"])
        return PresizeReport(
            trees=tuple(targets),
            bytes=tuple(sizes),
            count=len(manifest),
            written=done.written,
            passed=done.passed,
            unchanged=done.unchanged,
            bad=tuple(failures_of(done.reasons, manifest)),
            noted=tuple(failures_of(done.notes, manifest)),
            stale=stale,
            pruned=pruned,
            left_out=manifest.left_out,
            annotations=tuple(written),
            scaled=tuple(sorted({name for each in annotations for name in each.scaled})),
            source_bytes=done.source_bytes,
            seconds=time.perf_counter() - began_s,
        )


def _stale(trees: list[Tree], sources: set[str], *, prune: bool) -> tuple[tuple[Path, ...], int]:
    stale: list[Path] = []
    pruned = 0
    for tree in trees:
        entries = tree.stale(sources)
        if prune:
            tree.prune(entries)
            pruned += sum(len(entry.files) for entry in entries)
        else:
            stale += [tree.path / name for entry in entries for name in entry.files]
    return tuple(stale), pruned
