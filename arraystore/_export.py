"""`arraystore.export`."""

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from arraystore._common.checks import choice_of, expanded
from arraystore._common.limits import usable_cpus
from arraystore._common.options import complete, public, shows_options
from arraystore._common.progress import Progress, reporting
from arraystore._common.wording import bad_lines, flat, many
from arraystore._exporting.columns import Columns
from arraystore._exporting.forms import RESERVED, form_of, shard_limit, writer_of
from arraystore._exporting.images import ImageBytes
from arraystore._exporting.options import ExportOptions, Form
from arraystore._exporting.report import ExportReport
from arraystore._exporting.runs import runs_of
from arraystore._exporting.samples import Samples
from arraystore._exporting.stems import Stems
from arraystore._exporting.work import Work
from arraystore._open import open as open_store
from arraystore._reading.slot_arrays import HasSlots, Index, SlotArrays
from arraystore._reading.store import Store
from arraystore._sources.entries import describes_store
from arraystore.errors import BadImage, BadImagesError, Kind, ManifestError, Option, SpecError


@public
@shows_options(ExportOptions)
def export(
    store: HasSlots | str | os.PathLike[str],
    target: str | os.PathLike[str],
    form: Form | None = None,
    **options: Unpack[ExportOptions],
) -> ExportReport:
    """Write the slots of a store as files that other programs read.

        >>> arraystore.export("train.store", "photos-256")  # doctest: +SKIP
        >>> arraystore.export("train.store", "train.parquet")  # doctest: +SKIP
        >>> arraystore.export(store[:1000], "shards/", "tar", max_bytes="1 GB")  # doctest: +SKIP

    The target appears at once, when everything is written. The same slots and options give the same bytes. See
    docs/export.md for what each form holds and who reads it.

    Args:
        store: a `Store`, a choice of slots, several as one (`concatenate`), or the path of a store.
        target: the folder or file to make. One that ends in ``.parquet``, ``.arrow`` or ``.tar`` is a file; else it is
            a folder, of images or of shards.
        form: ``"folder"``: a file for each image, in class folders where there are classes; ``"parquet"`` and
            ``"arrow"``: tables with the images in them, as Hugging Face's `datasets` shows them; ``"tar"``: shards of
            WebDataset. None takes that of the target's suffix, or ``"folder"``.
        format: of the images: ``"jpeg"``, or ``"png"`` for the exact pixels. The JPEGs of an encoded store are copied
            byte for byte, whatever their quality.
        quality: of JPEGs that are encoded, from 1 to 100.
        subsampling: of their chroma: ``"444"``, ``"422"``, ``"420"``, ``"440"`` or ``"411"``.
        max_bytes: about what a shard has at most, in bytes or as a text such as ``"1 GB"``; None is 500 MB. An image
            that has more gets a shard of its own.
        bad: what to do about slots without an image: ``"drop"`` leaves them out and lists them in the report,
            ``"raise"`` an error that lists them.
        overwrite: True replaces an earlier export.
        workers: how many threads read and encode; None for one per processor.
        progress: True draws a bar, False is silent, a function is called with a `Progress`.

    Returns:
        What was written.

    Raises:
        SpecError: an option is invalid, or does not go with the target.
        ManifestError: the form cannot hold what the slots have, or there are no slots; nothing has been written.
        BadImagesError: some slots have no image, and ``bad`` is ``"raise"``; or all have none.
        FormatError: there is no store at the path, or a slot is damaged.
        StoreExistsError: the target is there, and may not be replaced.
        StoreError: another call writes the target, or something is in the way.
        SpaceError: the volume is full.
        OSError: the target cannot be written.
    """
    began_s = time.perf_counter()
    every = complete("export", ExportOptions, options)
    choice_of("format", every["format"], ("jpeg", "png"))
    choice_of("subsampling", every["subsampling"], ("444", "422", "420", "440", "411"))
    choice_of("bad", every["bad"], ("raise", "drop"))
    chosen_form, is_folder = form_of(target, form)
    limit = shard_limit(chosen_form, every["max_bytes"], is_folder=is_folder)
    path = expanded(target).absolute()
    _check_apart(path)
    with _opened(store) as (slots, own_notes):
        samples = Samples(slots)
        images = ImageBytes(slots, form=every["format"], quality=every["quality"], subsampling=every["subsampling"])
        columns = Columns(slots, samples, RESERVED[chosen_form])
        readable, bad = _readable(slots, samples, every["bad"])
        columns.check_texts(readable)
        notes = [*own_notes, *(_renumbered(columns, readable) if chosen_form == "folder" else [])]
        stems = Stems(readable, samples.sources, _folders(columns, chosen_form), dotless=chosen_form == "tar")
        state, copied = Progress(total=len(readable)), 0
        with Work(path, is_folder=is_folder, overwrite=every["overwrite"]) as work:
            with writer_of(chosen_form, work.new, columns, images.suffix, limit) as writer:
                runs = runs_of(readable, images, stems, columns, every["workers"] or usable_cpus())
                with closing(runs), reporting(every["progress"]) as report:
                    report(state)
                    for run in runs:
                        writer.add(run)
                        state.done, copied = state.done + len(run.images), copied + run.copied
                        state.source_bytes += sum(map(len, run.images))
                        report(state)
                writer.finish()
            work.publish({"form": chosen_form, "images": len(readable)})
    return ExportReport(
        target=work.target,
        form=chosen_form,
        images=len(readable),
        copied=copied,
        files=writer.files,
        bytes=writer.size_bytes,
        bad=tuple(bad),
        notes=tuple(notes),
        seconds=time.perf_counter() - began_s,
    )


def _check_apart(path: Path) -> None:
    """Refuse a target inside a store, whose files are all its own.

    Raises:
        SpecError: it lies in one.
    """
    for folder in path.parents:
        if describes_store(folder):
            raise SpecError(f"the target {path} lies in the store {folder}: choose a target outside of it")


@contextmanager
def _opened(store: Any) -> Iterator[tuple[SlotArrays, list[str]]]:
    """Yield the slots to export, and what is to be said of them; a path is opened until the export has ended.

    Raises:
        SpecError: they are no slots, or have targets in pixels of other images than those that are exported.
    """
    if isinstance(store, str | os.PathLike):
        with open_store(store) as opened:
            yield _in_own_pixels(opened)
    elif hasattr(type(store), "__slot_arrays__"):
        yield _in_own_pixels(store)
    else:
        raise SpecError(f"a store, slots of one, or the path of a store can be exported, not a {type(store).__name__}")


def _in_own_pixels(store: HasSlots) -> tuple[SlotArrays, list[str]]:
    """Return slots whose boxes and keypoints are in the pixels that are exported."""
    slots = store.__slot_arrays__
    if not slots.source_pixels:
        return slots, []
    if not isinstance(store, Store):
        name = next(iter(slots.source_pixels))
        raise SpecError(
            f"the target {name!r} is in pixels of the source images, not of the slots that are exported: export "
            "store.in_slot_pixels(), or a choice of that"
        )
    names = ", ".join(map(repr, slots.source_pixels))
    return store.in_slot_pixels().__slot_arrays__, [f"{names}: in pixels of the exported images, not of the sources"]


def _readable(slots: SlotArrays, samples: Samples, bad: str) -> tuple[Index, list[BadImage]]:
    """Return the slots that have an image, and those that have none.

    Raises:
        ManifestError: there are no slots.
        BadImagesError: some have no image, and that is an error; or all have none.
    """
    if not len(slots):
        raise ManifestError("there are no slots to export", kind=Kind.MISSING)
    without = slots.unreadable(found=True)
    told = zip(without.tolist(), samples.sources(without), samples.reasons(without), strict=True)
    images = [BadImage(slot, source, reason) for slot, source, reason in told]
    if images and (bad == "raise" or len(images) == len(slots)):
        drops = len(images) < len(slots)
        raise BadImagesError(
            f"{len(images):,} of {many(len(slots), 'slot')} have no image",
            bad=images,
            total=len(slots),
            lines=bad_lines(images),
            advice="{0} leaves them out" if drops else "",
            options=[Option("bad", "drop")] if drops else [],
        )
    return np.setdiff1d(np.arange(len(slots)), without, assume_unique=True), images


def _folders(columns: Columns, form: Form) -> Any:
    """Return the function that tells the folder of each slot, in which the names of files must differ."""
    label = columns.label
    if form != "folder" or label is None or not label.classes:
        return lambda slots: [""] * len(slots)
    return lambda slots: [str(code) for code in np.asarray(columns.values_of(label, slots)).tolist()]


def _renumbered(columns: Columns, slots: Index) -> list[str]:
    """Return that readers of class folders number the classes in another way, if they do."""
    label = columns.label
    if label is None or not label.classes:
        return []
    used: set[int] = set()
    for codes in columns.blocks(label, slots):
        used.update(np.unique(np.asarray(codes)).tolist())
    by_name = sorted(range(len(label.classes)), key=lambda code: label.classes[code])
    moved = [(code, new) for new, code in enumerate(code for code in by_name if code in used) if code != new]
    if not moved:
        return []
    code, new = moved[0]
    name = flat(label.classes[code])
    what = "readers of class folders number the classes by their names, without those that have no images"
    return [f"{what}: {name!r}, code {code} in the store, becomes {new}"]
