"""The two doors: `arraystore.build` and `arraystore.open`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Literal, overload

import numpy.typing as npt

from arraystore._building.build import TIMEOUT_S, Options, build_manifest
from arraystore._common.progress import Progress
from arraystore._reading.foreign_arrays import _dataset, _map_images, _map_npy, _slots
from arraystore._reading.slot_arrays import Slots
from arraystore._reading.store import Store
from arraystore._sources.manifest import Manifest
from arraystore._sources.targets import given_targets
from arraystore._stores.opening import open_store
from arraystore.errors import FormatError, SpecError
from arraystore.spec import DEFAULT_MAX_PIXELS, Color, Filter, Fit, ImageSpec, Layout, spec_of

__all__ = ["build", "open_path"]

_NPY_MAGIC = b"\x93NUMPY"


def build(  # noqa: PLR0913 - each option is keyword-only
    source: Any,
    target: str | os.PathLike[str] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    fit: Fit = "stretch",
    filter: Filter = "bilinear",  # noqa: A002 - the spec's word
    color: Color = "rgb",
    layout: Layout = "NCHW",
    background: tuple[int, int, int] = (255, 255, 255),
    exact: bool = False,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    spec: ImageSpec | None = None,
    labels: Sequence[Any] | npt.NDArray[Any] | None = None,
    targets: Sequence[str] | Mapping[str, Any] | None = None,
    bad: Literal["raise", "keep", "drop"] = "raise",
    max_bad: float | None = None,
    workers: int | None = None,
    processes: bool = False,
    timeout_s: float = TIMEOUT_S,
    executor: Executor | None = None,
    progress: bool | Callable[[Progress], None] = True,
    overwrite: bool = False,
    fresh: bool = False,
) -> Store:
    """Turn images into a preallocated array, each image decoded straight into its slot.

    The same call after an interruption goes on where that one stopped: what is done lies under ``TARGET.partial/``.

    Args:
        source: a folder (of class folders, flat, or with a metadata table), a table (.csv, .tsv, .jsonl, .parquet), a
            list of paths or of encoded bytes, arrays of H x W x 3 pixels, or a `Manifest`.
        target: where the store will be: a name that ends in ``.h5`` or ``.hdf5`` makes an HDF5 file, any other a
            folder of .npy files; None builds into RAM.
        size: height and width of a slot in pixels; one number makes a square. Needed unless ``spec`` is given.
        fit: see `ImageSpec`, as for all options down to ``max_pixels``.
        filter: the antialiasing filter.
        color: ``"rgb"`` or ``"gray"``.
        layout: ``"NCHW"`` or ``"NHWC"``.
        background: behind transparent pixels and beside padded images.
        exact: True decodes every JPEG at full size.
        max_pixels: a larger image is a bad one.
        spec: all of these at once, in place of ``size`` and the options.
        labels: one a source, where ``source`` is a list: numbers, or names of classes.
        targets: other arrays, name → one row a source; or the names of the table's columns to take.
        bad: what to do about sources that cannot be stored, when every good slot is filled: ``"raise"`` an error that
            lists them, ``"keep"`` their slots as zeros with status 2, so that rows stay aligned with the caller's own
            labels, or ``"drop"`` their rows by moving the last good ones into the holes.
        max_bad: how many bad images end the build early, because the source is probably the wrong one: a number of
            images if it is an integer; a share of the images tried, once 100 were, if it is a fraction such as 0.1.
        workers: how many images are decoded at once; by default as many as processors may be used. With an
            ``executor``: how many it runs at once.
        processes: True decodes in worker processes in place of threads. An image that crashes or kills its process
            twice is a bad one; whatever else ends a process, others do its work. They are all ended on return.
        timeout_s: seconds that one image may take in a worker process. One that takes longer is tried once more
            alone, and is a bad one if it is too slow again. Threads have no such limit, for nothing can stop one.
        executor: where to run them in place of threads of this process, such as a ProcessPoolExecutor; its workers
            must see the same files. It is not shut down, and its workers are not killed. If it breaks, as when a worker
            is killed, or finishes no run in the time that ``timeout_s`` allows for it, a StoreError is raised and
            finished slots on disk are kept: ``processes=True`` in its place replaces workers that crash or hang.
        progress: True draws a bar, False is silent, a function is called with a `Progress` after each run.
        overwrite: True replaces a store that has the target's name, once the new one is finished.
        fresh: True discards what an unfinished build of this target left.

    Returns:
        The store, open. It owns its arrays.

    Raises:
        SpecError: an option has a value that cannot be.
        ManifestError: the sources cannot be listed, or labels do not fit them.
        BadImagesError: some sources could not be stored, and ``bad`` is ``"raise"``; or none could; or more than
            ``max_bad``.
        StoreExistsError: the target has its name already.
        SpaceError: memory or volume are too small; nothing has been written.
        StoreError: another build into this target is running, an unfinished one was of something else, worker
            processes cannot start, an executor stalls, or the volume failed.
        OSError: the target cannot be written.
    """
    spec = spec_of(
        spec,
        size,
        fit=fit,
        filter=filter,
        color=color,
        layout=layout,
        background=background,
        exact=exact,
        max_pixels=max_pixels,
    )
    options = Options(
        bad=bad,
        max_bad=max_bad,
        workers=workers,
        processes=processes,
        timeout_s=timeout_s,
        executor=executor,
        progress=progress,
        overwrite=overwrite,
        fresh=fresh,
    )
    return Store(build_manifest(Manifest.of(source, labels=labels, targets=targets), target, spec, options))


@overload
def open_path(path: str | os.PathLike[str], *, partial: bool = False) -> Store: ...


@overload
def open_path(
    path: str | os.PathLike[str],
    *,
    dataset: str | None = None,
    labels: Any = None,
    targets: Mapping[str, Any] | None = None,
    layout: Layout | None = None,
) -> Slots: ...


def open_path(  # noqa: PLR0913 - the first is for stores, the others for arrays
    path: str | os.PathLike[str],
    *,
    partial: bool = False,
    dataset: str | None = None,
    labels: Any = None,
    targets: Mapping[str, Any] | None = None,
    layout: Layout | None = None,
) -> Slots:
    """Open a published store, or an array that something else has made; pixels are mapped, not read.

        >>> store = arraystore.open("train.store")  # doctest: +SKIP
        >>> slots = arraystore.open("x.npy", labels="y.npy")  # doctest: +SKIP
        >>> slots = arraystore.open("x.h5", dataset="train/images", labels="train/labels")  # doctest: +SKIP

    A store that is replaced or updated keeps its old pixels for those who hold it: open it again for the new ones.

    Args:
        path: a store folder or an HDF5 file made by `arraystore.build`; or a .npy file, which gives `Slots` although
            type checkers are told of a `Store`; or, with ``dataset``, any HDF5 file.
        partial: True opens the store that is being built for this path, if there is one, as it is now: slots that are
            not settled have status 0, and their pixels may be anything. It has no targets and no samples yet.
        dataset: the name of a contiguous dataset, such as ``"images"`` or ``"train/images"``.
        labels: of the slots of an array: an array or a list with a row a slot, which is not copied; the path of a .npy
            file; or the name of a dataset in the same HDF5 file. Texts become int64 codes, and their sorted names the
            classes; integers become int64.
        targets: name → likewise.
        layout: of an array of images, ``"NCHW"`` or ``"NHWC"``; None takes the axis that has 1, 3 or 4 places for the
            channels if axis 1 or axis 3 alone has, and otherwise leaves the layout open (``""``).

    Returns:
        The store, or the `Slots` of the array, (N, ...), of any type without Python objects. Arrays are read-only
        mappings that stay valid as long as they are referenced.

    Raises:
        FormatError: there is no store or array at the path, or it cannot be mapped, or is damaged, cut short, or newer
            than this arraystore.
        SpecError: an option does not go with what lies at the path, or names what is not there.
        ManifestError: labels or targets are neither numbers nor texts, or have another number of rows.
        OSError: it cannot be read.
    """
    place = Path(path).absolute()
    options = {"dataset": dataset, "labels": labels, "targets": targets, "layout": layout}
    given = [name for name, value in options.items() if value is not None]
    if not given and not _is_npy(place):
        return Store(open_store(place, partial=partial))
    if partial:
        raise SpecError("partial=True is for a store that is being built, not for another array: leave it out")
    if place.is_dir():
        raise FormatError(
            f"{place} is a folder, and {', '.join(given)} goes with a single array: open a file in it, such as "
            f"{place / 'images.npy'}",
            source=str(place),
        )
    if not place.is_file():
        raise FormatError(f"there is no array at {place}", source=str(place))
    if _is_npy(place):
        if dataset is not None:
            raise SpecError(f"{place} is a .npy file, which has one array and no names: leave dataset out")
        return _slots(str(place), _map_npy(place), None, given_targets(labels, targets), layout)
    from arraystore._stores.hdf5_file import datasets_told, h5_file  # noqa: PLC0415 - h5py takes a tenth of a second

    with h5_file(place) as file:
        if dataset is None:
            raise SpecError(
                f"{place} is an HDF5 file, and which of its datasets holds the slots was not said: pass dataset=; "
                f"{datasets_told(file)}"
            )
        images = _map_images(place, _dataset(file, dataset, "dataset"))
        return _slots(f"{place}:{dataset}", images, file, given_targets(labels, targets), layout)


def _is_npy(place: Path) -> bool:
    if not place.is_file():
        return False
    with place.open("rb") as file:
        return place.suffix == ".npy" or file.read(len(_NPY_MAGIC)) == _NPY_MAGIC
