"""`arraystore.build`."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar, Unpack, overload

import numpy.typing as npt

from arraystore._building.build import build_manifest
from arraystore._building.filling.begin import begin_filling, check_can_fill
from arraystore._building.options import BuildOptions, checked
from arraystore._building.several.build import build_several
from arraystore._building.several.targets import specs_for, target_paths
from arraystore._building.sources import manifest_for, spec_for
from arraystore._common.checks import whole_number
from arraystore._common.options import public, shows_options
from arraystore._filling import FillingStore
from arraystore._open import opened_source
from arraystore._reading.store import Store
from arraystore._stores.media import target_path
from arraystore.errors import Option, SpecError
from arraystore.spec import ImageSpec

Target = TypeVar("Target", bound=str | os.PathLike[str])


@overload
def build(
    source: Any,
    target: str | os.PathLike[str] | None = None,
    *,
    labels: Sequence[Any] | npt.NDArray[Any] | None = None,
    targets: Sequence[str] | Mapping[str, Any] | None = None,
    bad: Literal["raise", "keep", "drop"] = "raise",
    max_bad: float | None = None,
    overwrite: bool = False,
    wait: bool = True,
    statistics: int | None = None,
    **options: Unpack[BuildOptions],
) -> Store: ...


@overload
def build(
    source: Any,
    target: Mapping[Target, int | tuple[int, int] | ImageSpec],
    *,
    labels: Sequence[Any] | npt.NDArray[Any] | None = None,
    targets: Sequence[str] | Mapping[str, Any] | None = None,
    bad: Literal["raise", "keep", "drop"] = "raise",
    max_bad: float | None = None,
    overwrite: bool = False,
    wait: bool = True,
    statistics: int | None = None,
    **options: Unpack[BuildOptions],
) -> dict[Target, Store]: ...


@public
@shows_options(BuildOptions)
def build(
    source: Any,
    target: str | os.PathLike[str] | Mapping[Any, int | tuple[int, int] | ImageSpec] | None = None,
    *,
    labels: Sequence[Any] | npt.NDArray[Any] | None = None,
    targets: Sequence[str] | Mapping[str, Any] | None = None,
    bad: Literal["raise", "keep", "drop"] = "raise",
    max_bad: float | None = None,
    overwrite: bool = False,
    wait: bool = True,
    statistics: int | None = None,
    **options: Unpack[BuildOptions],
) -> Store | dict[Any, Store]:
    """Turn images into a preallocated array, each image decoded straight into its slot.

    After an interruption, the same call goes on where the interrupted one stopped: finished slots lie in
    ``TARGET.partial/``.

    Args:
        source: a folder (of class folders, flat, or with a metadata table); a table (.csv, .tsv, .jsonl, .parquet), a
            data frame or a data set of Hugging Face, of paths or of images; a list of paths, a text file of paths, or a
            pattern such as ``"photos/**/*.jpg"``; zip and tar files and shards of WebDataset; encoded bytes, arrays of
            H x W x 3 pixels, images of Pillow; a data set that gives pairs of image and label; a store, its path or a
            choice of slots, which are copied; or a `Manifest`. See docs/sources.md.
        target: where the store will be. A name that ends in ``.h5`` or ``.hdf5`` makes an HDF5 file, any other name a
            folder of .npy files; None builds into RAM. Missing folders above it are made. A mapping of targets on disk
            to sizes, or to an `ImageSpec` each, builds several stores and decodes each image once: ``{"a.store": 160,
            "b.store": 320}``. Each is as if it was built alone; but with ``bad="drop"`` an image that is bad in one of
            them is dropped from all. The options of images hold for those that have a size. See docs/sizes.md.
        size: height and width of a slot in pixels; one number makes a square, or with ``fit="keep"`` is the shorter
            side. Needed unless ``spec`` or ``target`` says it, ``encode`` is ``"source"``, or the source is a store,
            whose spec is taken where no option changes it.
        fit: ``"stretch"``, ``"crop"`` or ``"pad"`` to one size; or ``"keep"``, with ``encode``, to slots that have the
            aspect ratios of their images. See `ImageSpec`, as for all options down to ``encode``.
        filter: the antialiasing filter.
        color: ``"rgb"`` or ``"gray"``.
        layout: ``"NCHW"`` or ``"NHWC"``.
        background: the color behind transparent pixels and beside padded images.
        exact: True decodes every JPEG at full size.
        max_pixels: an image with more pixels is a bad image.
        levels: the largest sample of files of 16 bits that hold fewer, such as 4095.
        icc: ``"srgb"`` converts pixels by their color profiles.
        truncated: ``"keep"`` stores a JPEG that ends early, with a note; ``"refuse"`` makes it a bad image.
        encode: ``"jpeg"`` or a `Jpeg` keeps JPEGs: about a tenth of the bytes. They are decoded when they are
            read. ``"source"`` keeps the JPEGs of the sources as they are, without ``size``. ``"none"`` keeps pixels.
        spec: all of these at once, in place of ``size`` and the options.
        root: the folder that relative paths of a table or a list start from; None is the folder of the table, or the
            current one.
        path_column: the column of a table that has the paths; None takes the first of file_name, path, source,
            filename, file, image and image_path.
        suffix: is added to every path of a table or a list that does not end in it: ``".jpg"`` for a column of ids.
        separator: of the cells of a CSV; None is a comma.
        where: the rows of a table to take: ``"split=train"``, or ``{"split": "train"}``.
        allow_empty: True accepts class folders without images, and keeps their classes.
        classes: the names of the labels' codes, code 0 first; a mapping of targets to such names; or a store or the
            path of one, whose codes are taken, so that a validation set has the codes of its training set. Classes
            without images may be among them; an image of another class is an error. None numbers the sorted names.
        labels: one per source, if ``source`` is a list: numbers, or names of classes.
        targets: other arrays, name → one row per source; lists or arrays of different lengths, such as the boxes of
            each image, become a `Ragged`; or the names of the table's columns to take; or a mapping of columns to
            ``"number"`` (float64, a missing one is NaN), ``"category"`` (int64 codes), ``"multi-label"`` (several names
            in a cell, or a list of them: uint8, (N, names), a 1 for each name that a row has; the names are in
            ``categories``; they are separated by ``|``, ``;``, commas or spaces, which is found or said, as
            ``"multi-label:;"``), ``"text"``, or ``"mask"`` or ``"mask16"`` (masks or their paths, also in samples of
            shards, see `Masks`); or name → `Masks`.
        bad: what to do about sources that cannot be stored, after every good slot is filled: ``"raise"`` an error that
            lists them, ``"keep"`` their slots as zeros with status 2, so that rows stay aligned with the caller's own
            labels, or ``"drop"`` their rows by moving the last good ones into the holes.
        max_bad: how many bad images end the build early, because the source is probably the wrong one: a number of
            images if it is an integer; a share of the images tried, after the first 100, if it is a fraction such as
            0.1.
        workers: how many images are decoded at once; None for one per processor that may be used. With an
            ``executor``, how many it runs at once.
        processes: True decodes in worker processes instead of threads. An image that crashes or kills its process
            twice is a bad image; if a process ends for another reason, others do its work. All have ended when this
            returns.
        timeout_s: seconds that one image may take in a worker process. A slower image is tried once more, alone, and
            is a bad image if it is too slow again. Threads have no such limit, because a thread cannot be stopped.
        max_memory: bytes that the images in progress may take together, or a text such as ``"8GB"``; None for half of
            the free memory. An image that would take more than its worker's share is decoded alone, after the others;
            one that would take more than all of it is a bad image.
        decoders: functions for formats that are not decoded otherwise, by the suffix of a file (``".dcm"``) or by its
            first bytes (``b"SIMPLE"``): each takes the bytes of a file and returns a uint8 array (H, W) or (H, W, 3).
            Files of a folder that have such a suffix, or begin so and have no known suffix, are images.
            Worker processes need functions that can be pickled.
        executor: runs the decoding instead of threads of this process, such as a ProcessPoolExecutor; its workers
            must see the same files. It is not shut down, and its workers are not killed. If it breaks, or finishes no
            run in the time that ``timeout_s`` allows, a StoreError is raised and finished slots on disk are kept:
            ``processes=True`` in its place replaces workers that crash or hang.
        progress: True draws a bar, False is silent, a function is called with a `Progress` after each run.
        overwrite: True replaces an existing store at the target, once the new one is finished.
        wait: False returns a `FillingStore` as soon as the sources are listed and the disk is reserved: it fills itself
            while it is read, and `FillingStore.finish` publishes it. A finished store of the same sources and options
            is opened. Not with ``bad="drop"`` or masks. See docs/filling.md.
        statistics: with ``wait=False``, how many slots, spread evenly, are filled before this returns: their mean and
            standard deviation are those of the store until it is finished, so that ``normalize=True`` works before.
        fresh: True discards what an unfinished build of this target left.

    Returns:
        The store, open. It owns its arrays. For a mapping of targets, a dictionary of them to their stores, in the same
        order. Stores get their names when all of them are finished.

    Raises:
        SpecError: an option is invalid, the name of the target asks for another format, or two targets are one path.
        ManifestError: the sources cannot be listed, or labels do not fit them.
        FormatError: the source or ``classes`` is the path of a store that is damaged.
        BadImagesError: some sources could not be stored, and ``bad`` is ``"raise"``; or none could; or more than
            ``max_bad``.
        StoreExistsError: the target exists already. If a call was killed while it gave several stores their names, the
            same call takes those that have one.
        SpaceError: memory or volume are too small; nothing has been written.
        StoreError: another build into this target is running, an unfinished one had other sources or options, worker
            processes cannot start, an executor stalls, or the volume failed.
        OSError: the target cannot be written.
    """
    every = checked("build", BuildOptions, options, bad, max_bad)
    if statistics is not None:
        statistics = whole_number("statistics", statistics, 1)
        if wait:
            raise SpecError(
                "statistics were asked of a sample, and a store that is built before it is read has those of all slots",
                advice="pass {0} too, or leave it out",
                options=[Option("wait", False)],
            )
    if isinstance(target, Mapping):
        if not wait:
            raise SpecError(
                "only one store at a time can be read while it is filled",
                advice="build several with {0}",
                options=[Option("wait")],
            )
        places = target_paths(target, options)
        with opened_source(source) as opened:
            specs = specs_for(opened, target, every, options)
            manifest = manifest_for(opened, labels, targets, every)
            made = build_several(manifest, places, specs, every, bad=bad, max_bad=max_bad, overwrite=overwrite)
            return dict(zip(target, map(Store, made), strict=True))
    place = None if target is None else target_path(target)
    with opened_source(source) as opened:
        spec = spec_for(opened, every, options)  # before the sources are listed, which may take long
        if not wait:
            check_can_fill(bad)
        manifest = manifest_for(opened, labels, targets, every)
        if not wait:
            begun = begin_filling(manifest, place, spec, every, bad=bad, max_bad=max_bad, overwrite=overwrite)
            return FillingStore(begun, statistics)
        return Store(build_manifest(manifest, place, spec, every, bad=bad, max_bad=max_bad, overwrite=overwrite))
