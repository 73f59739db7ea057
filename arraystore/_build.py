"""`arraystore.build`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Literal

from arraystore._building.build import TIMEOUT_S, Options, build_manifest
from arraystore._common.progress import Progress
from arraystore._common.public import public
from arraystore._reading.store import Store
from arraystore._sources.manifest import Manifest
from arraystore.spec import DEFAULT_MAX_PIXELS, Color, Filter, Fit, ImageSpec, Layout, spec_of

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["build"]


@public
def build(
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

    After an interruption, the same call goes on where the interrupted one stopped: finished slots lie in
    ``TARGET.partial/``.

    Args:
        source: a folder (of class folders, flat, or with a metadata table), a table (.csv, .tsv, .jsonl, .parquet), a
            list of paths or of encoded bytes, arrays of H x W x 3 pixels, or a `Manifest`.
        target: where the store will be. A name that ends in ``.h5`` or ``.hdf5`` makes an HDF5 file, any other name a
            folder of .npy files; None builds into RAM.
        size: height and width of a slot in pixels; one number makes a square. Needed unless ``spec`` is given.
        fit: see `ImageSpec`, as for all options down to ``max_pixels``.
        filter: the antialiasing filter.
        color: ``"rgb"`` or ``"gray"``.
        layout: ``"NCHW"`` or ``"NHWC"``.
        background: the color behind transparent pixels and beside padded images.
        exact: True decodes every JPEG at full size.
        max_pixels: an image with more pixels is a bad image.
        spec: all of these at once, in place of ``size`` and the options.
        labels: one per source, if ``source`` is a list: numbers, or names of classes.
        targets: other arrays, name → one row per source; or the names of the table's columns to take.
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
        executor: runs the decoding instead of threads of this process, such as a ProcessPoolExecutor; its workers
            must see the same files. It is not shut down. If it breaks, as when one of its workers is killed, or if no
            run ends in the time that ``timeout_s`` allows for it, worker processes as of ``processes`` go on; a
            ProcessPoolExecutor's own are ended.
        progress: True draws a bar, False is silent, a function is called with a `Progress` after each run.
        overwrite: True replaces an existing store at the target, once the new one is finished.
        fresh: True discards what an unfinished build of this target left.

    Returns:
        The store, open. It owns its arrays.

    Raises:
        SpecError: an option is invalid.
        ManifestError: the sources cannot be listed, or labels do not fit them.
        BadImagesError: some sources could not be stored, and ``bad`` is ``"raise"``; or none could; or more than
            ``max_bad``.
        StoreExistsError: the target exists already.
        SpaceError: memory or volume are too small; nothing has been written.
        StoreError: another build into this target is running, an unfinished one had other sources or options, worker
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
