"""Compare the memory that ways to load a folder of images take, each in a process of its own."""

import logging
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from arraystore._building.workers.reading import read_source
from arraystore._common.checks import expanded, is_whole, parse_bytes
from arraystore._common.limits import available_memory_bytes, free_disk_bytes
from arraystore._common.options import public
from arraystore._common.wording import flat, many, readable
from arraystore._decoding.header import read_header
from arraystore._sources.manifest import Manifest
from arraystore._stores.medium import needed_bytes
from arraystore.errors import DecodeError, ManifestError, SpecError
from arraystore.memory.calls import profile_memory
from arraystore.memory.comparison import MemoryReport
from arraystore.memory.machine import file_system, machine_facts
from arraystore.memory.measurement import Measurement
from arraystore.memory.stages import Stage, reporting
from arraystore.memory.strategies import Strategy, strategies_of
from arraystore.memory.trace import check_options
from arraystore.spec import DEFAULT_MAX_PIXELS, ImageSpec

__all__ = ["COUNT", "TIMEOUT_S", "profile"]

_logger = logging.getLogger(__name__)
COUNT = 10_000  # images
TIMEOUT_S = 3600.0


@public
def profile(
    source: Any,
    *,
    size: int | tuple[int, int] = 256,
    count: int = COUNT,
    strategies: Sequence[str] | None = None,
    limit: float | str | None = None,
    scratch: str | os.PathLike[str] | None = None,
    interval_s: float = 0.01,
    timeout_s: float = TIMEOUT_S,
    progress: bool | Callable[[Stage], None] = True,
) -> MemoryReport:
    """Load images in several ways, each in a fresh process, and report the memory of each, in their order.

    All ways make the same array, uint8, (count, 3, height, width), of the same images. All images are read once before,
    so the first way finds them in the page cache too. Files are written to a temporary folder, which is removed.

    Args:
        source: as for `build`, but the images must be files: a folder, a table, or a list of paths. Images that cannot
            be decoded are left out, and the title of the report says so.
        size: height and width of a slot in pixels; one number makes a square.
        count: the number of slots of the array. If there are fewer images, they are repeated; if there are more, evenly
            spaced ones are taken.
        strategies: keys or names of the ways (`arraystore.memory.strategies.STRATEGIES`); None compares all.
        limit: bytes of memory, or a text such as ``"2 GB"``. A strategy that takes more is killed, and the report
            shows where. None skips the strategies that need more memory than is available.
        scratch: an existing folder to write to; None is the system's folder for temporary files.
        interval_s: seconds from one reading to the next.
        timeout_s: seconds after which a strategy is killed.
        progress: True shows on a terminal which strategy runs; False shows nothing; a function is called with a `Stage`
            when each strategy begins and at the end.

    Raises:
        SpecError: an option has a value that is not allowed.
        ManifestError: the sources cannot be listed, are not files, or none of them can be decoded.
        ProfileError: a process could not be started or read.
        OSError: the scratch folder cannot be written.
    """
    chosen = strategies_of(strategies)
    spec = ImageSpec(size=size)
    if not is_whole(count) or count < 1:
        raise SpecError(f"count must be a whole number of 1 or more, not {count!r}")
    if not (isinstance(timeout_s, int | float) and 0 < timeout_s < math.inf):
        raise SpecError(f"timeout_s must be a number of seconds greater than 0, not {timeout_s!r}")
    limit_bytes = None if limit is None else parse_bytes(limit)
    check_options(interval_s, limit_bytes)  # before the images are read
    parent = expanded(tempfile.gettempdir() if scratch is None else scratch)
    if not parent.is_dir():
        raise SpecError(f"scratch must be an existing folder, and {str(parent)!r} is not one: make it, or pass another")
    sources, told = _pick(Manifest.of(source), count)
    comparison = MemoryReport(
        title=f"Memory to load {told}, at {spec.height} × {spec.width} pixels",
        measurements=(),
        array_bytes=count * spec.slot_bytes,
        machine=machine_facts() | ({"scratch": _scratch_kind(parent)} if any(each.writes for each in chosen) else {}),
        command=_call(source, size=size, count=count, strategies=strategies and [*strategies], limit=limit),
    )
    options = {"limit_bytes": limit_bytes, "interval_s": interval_s, "timeout_s": timeout_s}
    with (
        tempfile.TemporaryDirectory(prefix="arraystore-profile-", dir=parent) as folder,
        reporting(progress) as report,
    ):
        for strategy in chosen:
            report(Stage(strategy.name, len(chosen), comparison))
            measurement = _measure(strategy, sources, spec, Path(folder), **options)
            comparison = replace(comparison, measurements=(*comparison.measurements, measurement))
        report(Stage("", len(chosen), comparison))
    return comparison


def _pick(manifest: Manifest, count: int) -> tuple[list[str], str]:
    """Read each image once; return the paths for ``count`` slots, and a text that describes them."""
    if not manifest.is_paths:
        raise ManifestError("the images must be files: pass a folder, a table or a list of paths")
    total = len(manifest)
    rows = range(total) if total <= count else [i * total // count for i in range(count)]
    usable, bad = [], []
    for row in rows:
        path = str(manifest.load(row))
        reason = _why_not(path)
        if reason is None:
            usable.append(path)
        else:
            bad.append((row, manifest.name(row), reason))
            _logger.info("slot %d ← %s is left out: %s", row, flat(manifest.name(row)), flat(reason))
    if not usable:
        row, name, reason = bad[0]
        raise ManifestError(
            f"none of {many(len(bad), 'source')} can be decoded, the first of them slot {row} ← {name}: {reason}; "
            "is this the right source?",
            slot=row,
            source=name,
            reason=reason,
        )
    told = many(len(usable), "image") if len(usable) == total else f"{len(usable):,} of {many(total, 'image')}"
    if bad:
        told += f" ({len(bad):,} cannot be decoded and are left out)"
    if len(usable) < count:
        told += f", repeated to {count:,}"
    return [usable[i % len(usable)] for i in range(count)], told


def _why_not(path: str) -> str | None:
    """Return why some strategy cannot decode this image, as far as its name and its header tell; None if all can."""
    try:
        path.encode()  # OpenCV crashes on any other name
        header = read_header(bytes(read_source(path, DEFAULT_MAX_PIXELS)[0]))
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    except (DecodeError, OSError, MemoryError) as error:
        return str(error) or "there is not enough memory to read it"
    if header.height * header.width > DEFAULT_MAX_PIXELS:
        return f"its header says {header.width} x {header.height} pixels"
    return None


def _measure(strategy: Strategy, sources: list[str], spec: ImageSpec, folder: Path, **options: Any) -> Measurement:
    """Run one strategy with options of `profile_memory`, if memory and disk are large enough; remove its files."""
    own = sources[: strategy.largest_count]
    fewer = len(own) < len(sources)
    name = f"{strategy.name}, {many(len(own), 'image')}" if fewer else strategy.name
    reason = _why_skip(strategy, len(own), spec, folder, options["limit_bytes"])
    if reason is None:
        # First with one image and not measured: then the libraries are in the page cache, and kernels are compiled.
        with tempfile.TemporaryDirectory(dir=folder) as place:
            profile_memory({name: partial(strategy.function, own[:1], spec.size, Path(place))}, timeout_s=TIMEOUT_S)
        with tempfile.TemporaryDirectory(dir=folder) as place:
            function = partial(strategy.function, own, spec.size, Path(place))
            measurement = profile_memory({name: function}, **options)[name]
    else:
        measurement = Measurement(name, "skipped", reason)
    return replace(measurement, note=strategy.note, array_bytes=len(own) * spec.slot_bytes if fewer else None)


def _why_skip(strategy: Strategy, count: int, spec: ImageSpec, folder: Path, limit_bytes: int | None) -> str | None:
    """Return why a strategy cannot run here, because memory or disk are too small; None if it can."""
    needed, available = strategy.needs(count * spec.slot_bytes), available_memory_bytes()
    if available is not None and min(needed, limit_bytes or needed) > available:
        return (
            f"needs about {readable(needed)} of memory, {readable(available)} are available: choose a smaller count, "
            + ("or a limit to see where it ends" if limit_bytes is None else "or a limit below what is available")
        )
    needed, free = needed_bytes(count, spec), free_disk_bytes(folder)
    if strategy.writes and needed > free:
        return (
            f"needs about {readable(needed)} on disk, {readable(free)} are free: choose a smaller count, or a scratch "
            "folder on a larger volume"
        )
    return None


def _scratch_kind(folder: Path) -> str:
    kind = file_system(folder)
    if kind == "tmpfs":
        return f"{kind}, which lies in memory, so stores count as shared memory: choose a folder on a disk"
    return kind or "unknown file system"


def _call(source: Any, **options: Any) -> str:
    """Return the call that measures the same again."""
    shown = repr(os.fspath(source)) if isinstance(source, str | os.PathLike) else "images"
    given = "".join(f", {name}={value!r}" for name, value in options.items() if value is not None)
    return f"arraystore.profile({shown}{given})"
