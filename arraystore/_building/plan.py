"""Estimate the bytes and the time of a build from the manifest and a timed sample of its images.

Nothing is written. The sample is decoded by the code of a build, with as many workers, into memory that is freed again.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from arraystore._building.fill import Job, fill_slots
from arraystore._building.forecast import Forecast, Room
from arraystore._building.masks import MaskJob
from arraystore._building.options import PlanOptions
from arraystore._building.workers.reading import loaded
from arraystore._common.lazy import lazy
from arraystore._common.limits import (
    available_memory_bytes,
    disk_bytes,
    free_disk_bytes,
    memory_for_images,
    usable_cpus,
)
from arraystore._common.progress import Progress, reporting
from arraystore._common.ragged import Ragged
from arraystore._common.wording import left_out_text, many
from arraystore._decoding.header import read_header
from arraystore._decoding.hooks import Decoders
from arraystore._decoding.icc import profile_of
from arraystore._format.ledger import ledger_dtype, sides_in
from arraystore._format.specification import EMPTY, FAILED, STORED
from arraystore._sources.manifest import Manifest
from arraystore._sources.targets.given import count_classes
from arraystore._sources.targets.multi_label import names_in
from arraystore._stores.encoded.hdf5 import ENCODED_HDF5
from arraystore._stores.encoded.medium import ENCODED
from arraystore._stores.media import MEDIA, medium_of
from arraystore._stores.medium import FilledRun, Medium
from arraystore._stores.publishing import partial_of
from arraystore.errors import BadImage, DecodeError
from arraystore.spec import ImageSpec, Jpeg

if TYPE_CHECKING:
    import simplejpeg

    from arraystore._decoding.encoding import writers
else:  # they take half a second
    simplejpeg, writers = lazy("simplejpeg"), lazy("arraystore._decoding.encoding.writers")

_SCRATCH_BYTES = 256 << 20  # for the slots of the sample; larger than any cache, so that they are as cold as a build's
_ROWS_IN_FLIGHT_PER_WORKER = 3
_RESAMPLES = 1000  # of the sampled times, for the range of the estimate
_ROWS_FOR_SIZE = 200  # of the manifest; the size of the samples table is estimated from them
_SLOT_BYTES = 1 + 8  # status and checksum
_ROW_BYTES = 4 + 4 + 8 + 8 + 8  # height, width, bytes, mtime and hash in the samples table
_JPEG_ROW_BYTES = 8 + 2 * 4  # where a JPEG begins, its height and width; besides, two sums of each channel
_USUAL_COMPRESSION = 8
_MASK_ROW_BYTES = 3 * 8  # stamp, hash and checksum there


def forecast_of(
    manifest: Manifest,
    target: Path | None,
    spec: ImageSpec,
    options: PlanOptions,
    *,
    workers: int | None,
    sample: int,
    seed: int,
    progress: bool | Callable[[Progress], None],
) -> Forecast:
    """Estimate the build of a manifest, for `arraystore.plan`. All ``options`` are given, and checked."""
    workers = workers or usable_cpus()
    memory = available_memory_bytes()
    rng = np.random.default_rng(seed)
    volume, free, notes = _look_at(target)
    seen = _Sample()
    why_not = _why_no_sample(manifest, spec, workers, memory, sample)
    if why_not is None:
        rows = _spread(len(manifest), sample, rng)
        seen = _decode_sample(manifest, spec, rows, workers, memory, progress, options["decoders"])
        notes += _profile_notes(manifest, spec, seen)
    else:
        notes.append(why_not)
    noted = [note for run in seen.filled for note in run.notes.values()]
    if noted:
        notes.append(f"{many(len(noted), 'image')} of the sample would be stored with a note, such as: {noted[0]}")
    large = sum(run.rows["status"][0] == EMPTY for run in seen.filled)
    if large:
        notes.append(
            f"{many(large, 'image')} of the sample would take too much memory beside others: a build decodes such "
            "images one at a time, after the others, and their time is not estimated"
        )
    notes += manifest.notes
    if manifest.left_out:
        notes.append(left_out_text(manifest.left_out))
    medium = medium_of(target or "", spec).name
    working = workers * seen.largest_bytes(spec.channels)
    if not seen.jpeg_bytes and spec.encode is not None:
        taken = f"each is taken to have 1/{_USUAL_COMPRESSION} of the bytes of its pixels"
        notes.append(f"no JPEG was made, so {'their bytes are not counted' if spec.encode.source else taken}")
    encoded = dict.fromkeys((ENCODED.name, ENCODED_HDF5.name), seen.encoded_bytes(spec))
    # Slots that differ in height and width are kept as JPEGs only.
    slot_bytes = ({each.name: spec.slot_bytes for each in MEDIA} if spec.one_shape else {}) | encoded
    media = [each for each in MEDIA if each.name in slot_bytes]
    finished = {each.name: _finished_bytes(manifest, spec, each, slot_bytes[each.name], rng) for each in media}
    ledger = len(manifest) * ledger_dtype(spec, masked=bool(manifest.masks)).itemsize
    in_ram = finished[ENCODED.name if spec.encode is not None else MEDIA[0].name]
    rooms = {"ram": Room(in_ram + ledger + working, memory)}
    # A store that is one file gets a copy of the masks, which a folder keeps as they are.
    building = {each.name: ledger + (0 if each.is_folder else _mask_bytes(manifest, spec)) for each in media}
    codes, names = manifest.targets.get("labels"), manifest.classes.get("labels", ())
    return Forecast(
        count=len(manifest),
        classes={} if codes is None else count_classes(codes, names),
        spec=spec,
        target=None if target is None else os.fspath(target),
        medium=medium,
        volume=str(volume),
        media=rooms | {name: Room(size + building[name], free) for name, size in finished.items()},
        pixel_bytes=round(len(manifest) * seen.pixel_bytes(spec)),
        store_bytes=finished[medium],
        working_bytes=working,
        workers=workers,
        notes=tuple(notes),
        **seen.facts(manifest, workers, rng),
    )


def _look_at(target: str | os.PathLike[str] | None) -> tuple[Path, int, list[str]]:
    """Return the folder whose volume counts, the bytes that are free there for the build, and notes on obstacles."""
    if target is None:
        return Path.cwd(), free_disk_bytes(Path.cwd()), []
    path = Path(target).absolute()
    partial = partial_of(path)
    volume = next(folder for folder in path.parents if folder.is_dir())
    free, notes = free_disk_bytes(volume), []
    if volume != path.parent:
        notes.append(f"the folder {path.parent} does not exist: the build makes it")
    elif not os.access(volume, os.W_OK):
        notes.append(f"the folder {volume} cannot be written by this user: choose another target")
    if os.path.lexists(path):
        notes.append(f"{path} exists already: a build replaces it only if it is told to overwrite it")
    if partial.is_dir():
        free += disk_bytes(partial)
        notes.append(f"{partial} is an unfinished build; its bytes count as free, because the next build reuses them")
    return volume, free, notes


def _why_no_sample(manifest: Manifest, spec: ImageSpec, workers: int, memory: int | None, sample: int) -> str | None:
    if sample == 0:
        return "no image was decoded, because the sample is 0, so there is no estimate of the time"
    if manifest.is_read_once:
        return "the source can be read only once, and the build has to read it, so there is no estimate of the time"
    if memory is not None and workers * spec.slot_bytes > memory // 2:
        return (
            f"{workers:,} slots of {spec.slot_bytes / 1e9:.2f} GB are too much for the free memory, so no image was "
            "decoded and there is no estimate of the time: choose a smaller size, or fewer workers"
        )
    return None


def _spread(count: int, wanted: int, rng: np.random.Generator) -> list[int]:
    """Return one random row of each of ``wanted`` equal stretches of the manifest, or every row if there are fewer."""
    stretches = min(count, wanted)
    edges = np.arange(stretches + 1, dtype=np.int64) * count // stretches
    return [int(row) for row in rng.integers(edges[:-1], edges[1:])]


def _finished_bytes(
    manifest: Manifest, spec: ImageSpec, medium: Medium, slot_bytes: int, rng: np.random.Generator
) -> int:
    """Return the size of a finished store. It is rather too large, because the samples are counted uncompressed."""
    rows = _spread(len(manifest), _ROWS_FOR_SIZE, rng)
    texts = [[manifest.name(row) for row in rows], [""] * len(rows)]  # the reasons are empty
    texts += [[column[row] for row in rows] for column in manifest.texts.values()]
    texts += [[masks.name(row) for row in rows] for masks in manifest.masks.values()]
    names = manifest.classes.get("labels")
    codes = manifest.targets.get("labels")
    if names is not None and codes is not None and not isinstance(codes, Ragged):
        texts.append([_label_text(codes[row], names) for row in rows])
    letters = sum(len(os.fsencode(text)) for column in texts for text in column) / len(rows)
    per_row = slot_bytes + _SLOT_BYTES + _ROW_BYTES + round(letters) + len(texts) * medium.text_bytes
    per_row += _MASK_ROW_BYTES if manifest.masks else 0
    targets = sum(array.nbytes for array in manifest.targets.values()) + _mask_bytes(manifest, spec)
    return medium.head_bytes + len(manifest) * per_row + targets


def _mask_bytes(manifest: Manifest, spec: ImageSpec) -> int:
    return len(manifest) * spec.height * spec.width * sum(masks.dtype.itemsize for masks in manifest.masks.values())


def _label_text(code: Any, names: Sequence[str]) -> str:
    if np.ndim(code):
        return "|".join(names_in(code, names))
    return names[code] if code >= 0 else ""


class _SlotJpeg(NamedTuple):
    """A slot of the sample as a JPEG: its size, the seconds to encode it (0 if it is kept as one), and to decode it."""

    size_bytes: int
    encode_s: float
    decode_s: float


@dataclass(slots=True)
class _Sample:
    """The decoded sample: for each image a run of one slot, and the seconds that it took to load and to fill."""

    filled: list[FilledRun] = field(default_factory=list)
    load_s: list[float] = field(default_factory=list)
    fill_s: list[float] = field(default_factory=list)
    jpegs: list[_SlotJpeg] = field(default_factory=list)

    @property
    def jpeg_bytes(self) -> list[int]:
        """The sizes of the slots as JPEGs."""
        return [each.size_bytes for each in self.jpegs]

    def encoded_bytes(self, spec: ImageSpec) -> int:
        """Return the mean size of a slot as a JPEG, and of what is kept of it beside the bytes."""
        jpeg_bytes = np.mean(self.jpeg_bytes) if self.jpeg_bytes else spec.slot_bytes / _USUAL_COMPRESSION
        return round(float(jpeg_bytes)) + _JPEG_ROW_BYTES + 16 * spec.channels

    def pixel_bytes(self, spec: ImageSpec) -> float:
        """Return the bytes of the pixels of a slot; their mean where slots differ in height and width."""
        stored = [run.rows for run in self.filled if run.rows["status"][0] == STORED]
        if spec.one_shape or not stored:
            return spec.slot_bytes
        sides = sides_in(np.concatenate(stored), spec)[:, :2].astype(np.int64)
        return spec.channels * float(sides.prod(axis=1).mean())

    def largest_bytes(self, channels: int) -> int:
        """Return the bytes of the largest encoded source with all its pixels, which one worker may hold."""
        rows = [run.rows[0] for run in self.filled]
        return max((int(row["bytes"]) + int(row["height"]) * int(row["width"]) * channels for row in rows), default=0)

    def facts(self, manifest: Manifest, workers: int, rng: np.random.Generator) -> dict[str, Any]:
        """Return the fields of `Forecast` that are estimated from the sample."""
        if not self.filled:
            return {}
        rows = np.concatenate([run.rows for run in self.filled])
        fill_s = np.array(self.fill_s)
        # A bootstrap of the mean gives the range: a few large images may take most of the time.
        means = fill_s[rng.integers(0, len(fill_s), (_RESAMPLES, len(fill_s)))].mean(axis=1)
        at_once = min(workers, len(manifest))
        # Workers decode while the next sources are loaded, so the slower of the two decides.
        mean, low, high = (
            len(manifest) * max(float(np.mean(self.load_s)), float(each) / at_once)
            for each in (fill_s.mean(), *np.quantile(means, (0.05, 0.95)))
        )
        facts: dict[str, Any] = {"sampled": len(rows), "seconds": mean, "seconds_range": (low, high)}
        if self.jpegs:
            size, encode_s, decode_s = np.mean(self.jpegs, axis=0).tolist()
            facts |= {"jpeg_bytes": size, "encode_s": encode_s, "decode_s": decode_s}
        facts["source_bytes"] = float(rows["bytes"].mean())
        sides = np.stack([rows["height"], rows["width"]], axis=1)[rows["status"] == STORED].astype(np.int64)
        if len(sides):
            facts["median_px"] = tuple(int(side) for side in np.median(sides, axis=0))
            facts["largest_px"] = tuple(int(side) for side in sides[sides.prod(axis=1).argmax()])
        facts["bad"] = tuple(
            BadImage(run.start, manifest.name(run.start), run.reasons[run.start])
            for run in self.filled
            if run.rows["status"][0] == FAILED
        )
        return facts


def _profile_notes(manifest: Manifest, spec: ImageSpec, seen: _Sample) -> Iterator[str]:
    """Yield a note if images of the sample have color profiles that the build would ignore."""
    if spec.icc != "ignore" or find_spec("PIL") is None:
        return
    found = 0
    for run in seen.filled:
        source = loaded(manifest.load, run.start) if run.rows["status"][0] == STORED else None
        if isinstance(source, str | bytes):
            with suppress(DecodeError, OSError):  # it may have been removed since
                # It was decoded a moment ago. Of the mapping, only pages with its header and profile are read again.
                data = source if isinstance(source, bytes) else np.memmap(source, np.uint8, "r").data
                found += profile_of(data, read_header(data)) is not None
    if found:
        yield (
            f"{many(found, 'image')} of the sample with a color profile that is not sRGB: their pixels are taken "
            'as they are; icc="srgb" converts them'
        )


def _slot_jpeg(jpeg: bytes, slot: npt.NDArray[np.uint8], spec: ImageSpec) -> _SlotJpeg | None:
    """Return what is measured of a slot as a JPEG, which is given if it is kept as one; None where it cannot be one."""
    encode_s, start_s = 0.0, time.perf_counter()
    with suppress(DecodeError, ValueError):
        if not jpeg:
            channels_last = slot.transpose(1, 2, 0) if spec.layout == "NCHW" else slot
            jpeg = writers.slot_jpeg_of(np.ascontiguousarray(channels_last), Jpeg())
            encode_s = time.perf_counter() - start_s
        start_s = time.perf_counter()
        simplejpeg.decode_jpeg(jpeg, colorspace="GRAY" if spec.color == "gray" else "RGB")
        return _SlotJpeg(len(jpeg), encode_s, time.perf_counter() - start_s)
    return None


def _decode_sample(
    manifest: Manifest,
    spec: ImageSpec,
    rows: Sequence[int],
    workers: int,
    memory: int | None,
    progress: bool | Callable[[Progress], None],
    decoders: Decoders | None,
) -> _Sample:
    """Decode rows in parallel, a bounded number at a time, and time each."""
    scratch = _SCRATCH_BYTES if memory is None else min(_SCRATCH_BYTES, memory // 4)
    shape = (side or 0 for side in spec.decoded.slot_shape)
    slots = np.zeros((max(workers, min(len(rows), scratch // max(spec.slot_bytes, 1))), *shape), np.uint8)
    most = memory_for_images(None)
    seen = _Sample()
    stop = threading.Event()
    pending: deque[Future[tuple[FilledRun, float, _SlotJpeg | None]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="arraystore-plan")

    def fill(row: int, given: tuple[Any, MaskJob | None], number: int) -> tuple[FilledRun, float, _SlotJpeg | None]:
        # With fewer slots than rows, two rows may use one slot at the same time; the pixels are not read.
        at = number % len(slots)
        start_s = time.perf_counter()
        source, masks = given
        sides = manifest.sides_of([row])
        job = Job(row, [source], spec, None, most / workers, most, decoders, masks, sides)
        filled = fill_slots(job, slots[at : at + 1], stop)
        seconds = time.perf_counter() - start_s
        is_stored = filled.rows["status"][0] == STORED
        jpeg = _slot_jpeg(filled.encoded[0] if filled.encoded else b"", slots[at], spec) if is_stored else None
        filled.encoded.clear()
        return filled, seconds, jpeg

    def load(row: int) -> tuple[Any, MaskJob | None]:
        source = loaded(manifest.load, row)
        return source, MaskJob.of(manifest, {row: manifest.load_masks(row)})

    def settle() -> None:
        filled, seconds, jpeg = pending.popleft().result()
        seen.filled.append(filled)
        seen.fill_s.append(seconds)
        if jpeg is not None:
            seen.jpegs.append(jpeg)
        state.done += 1
        state.bad += len(filled.reasons)
        state.source_bytes += int(filled.rows["bytes"][0])
        report(state)

    try:
        # The first images load decoders and compiled kernels, which takes a second and would distort the times.
        for future in [pool.submit(fill, rows[0], load(rows[0]), worker) for worker in range(workers)]:
            future.result()
        state = Progress(total=len(rows))
        with reporting(progress) as report:
            report(state)
            for number, row in enumerate(rows):
                start_s = time.perf_counter()
                source = load(row)
                seen.load_s.append(time.perf_counter() - start_s)
                pending.append(pool.submit(fill, row, source, number))
                if len(pending) > workers * _ROWS_IN_FLIGHT_PER_WORKER:
                    settle()
            while pending:
                settle()
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    return seen
