"""How long an image takes to load from folders and stores, measured so that they can be compared."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from arraystore._common.checks import expanded, whole_number
from arraystore._common.lazy import lazy
from arraystore._common.limits import disk_bytes
from arraystore._common.options import public
from arraystore._common.wording import readable
from arraystore._reading.store import Store
from arraystore._sources.kinds.folders import from_folder
from arraystore._sources.manifest import Manifest
from arraystore._sources.stamps import file_stamps
from arraystore._stores.opening import open_store
from arraystore.errors import DecodeError, Kind, ManifestError
from arraystore.spec import ImageSpec, Placement

if TYPE_CHECKING:
    from arraystore._decoding import decode, header
else:  # it takes half a second
    decode, header = lazy("arraystore._decoding.decode"), lazy("arraystore._decoding.header")

_DESCRIPTION = "store.json"
_SPEC = ImageSpec(size=1, exact=True)


@public
@dataclass(frozen=True, slots=True)
class LoadTime:
    """How long an image takes to load from a folder or a store.

    Attributes:
        path: of it, absolute.
        count: how many images it has.
        bytes: what these take on disk; of a store, everything.
        timed: how many images were timed.
        milliseconds: that one of them took, the median.
        images_per_second: on one core, from the mean.
    """

    path: Path
    count: int
    bytes: int
    timed: int
    milliseconds: float
    images_per_second: float


@dataclass(frozen=True, slots=True)
class _Place:
    path: Path
    count: int
    bytes: int
    load: Callable[[int], Any]
    close: Callable[[], object] = lambda: None


@public
def load_times(
    *paths: str | os.PathLike[str], count: int = 100, rounds: int = 1, seed: int = 0
) -> tuple[LoadTime, ...]:
    """Time how long random images take to load, as an epoch that is not the first one loads them.

    A file is read and decoded at its full size, a slot of a store is copied. Each image is loaded once before, so that
    all lie in the system's cache. The places are timed in turn, image by image, so that a busy machine is as busy for
    each.

    Args:
        paths: folders of images, of any depth, and stores.
        count: how many random images of each to time; all, where there are fewer.
        rounds: how often each is timed; its time is the median.
        seed: of the random choice, 0 or more.

    Returns:
        One for each path, in their order.

    Raises:
        SpecError: ``count``, ``rounds`` or ``seed`` is no such whole number.
        ManifestError: a folder has no images, or none that can be decoded.
        FormatError: a store is damaged.
    """
    count, rounds = whole_number("count", count, 1), whole_number("rounds", rounds, 1)
    whole_number("seed", seed, 0)
    places: list[_Place] = []
    try:
        places += (_place_at(expanded(path).absolute()) for path in paths)
        chosen = [_warmed(place, count, seed) for place in places]
        taken: list[list[list[float]]] = [[[] for _ in each] for each in chosen]
        for _ in range(rounds):
            for at in range(max(map(len, chosen), default=0)):
                for number, place in enumerate(places):
                    if at < len(chosen[number]):
                        began_s = time.perf_counter()
                        place.load(chosen[number][at])
                        taken[number][at].append(time.perf_counter() - began_s)
        return tuple(_load_time(place, times) for place, times in zip(places, taken, strict=True))
    finally:
        for place in places:
            place.close()


def _place_at(path: Path) -> _Place:
    if path.is_file() or (path / _DESCRIPTION).is_file():
        store = Store(open_store(path))
        return _Place(path, len(store), disk_bytes(path), lambda slot: np.array(store.images[slot]), store.close)
    found = from_folder(path, labels=(), allow_empty=True)
    manifest = Manifest(found.sources, found.root)
    stamps = file_stamps(manifest.load, np.arange(len(manifest)))
    return _Place(path, len(manifest), int(stamps["bytes"].sum()), lambda row: _decoded(manifest.load(row)))


def _decoded(path: str) -> Any:
    data = Path(path).read_bytes()
    head = header.read_header(data)
    height, width = head.upright
    whole = Placement((0.0, 0.0, float(width), float(height)), height, width, 0, 0)
    return decode.decode_upright(data, head, _SPEC, [whole])[0]


def _warmed(place: _Place, count: int, seed: int) -> list[int]:
    """Return random images that could be loaded.

    Raises:
        ManifestError: none could.
    """
    good: list[int] = []
    for image in np.random.default_rng(seed).permutation(place.count).tolist():
        try:
            place.load(image)
        except (DecodeError, OSError):
            continue
        good.append(image)
        if len(good) == count:
            break
    if not good:
        raise ManifestError(f"{place.path}: no image in it can be loaded", source=str(place.path), kind=Kind.DAMAGED)
    return good


def _load_time(place: _Place, times: Sequence[Sequence[float]]) -> LoadTime:
    each = [statistics.median(turns) for turns in times]
    return LoadTime(
        path=place.path,
        count=place.count,
        bytes=place.bytes,
        timed=len(each),
        milliseconds=1000 * statistics.median(each),
        images_per_second=1 / max(statistics.mean(each), 1e-9),
    )


def load_time_rows(times: Sequence[LoadTime]) -> list[list[str]]:
    """Return a table of cells, its head first."""
    head = ["", "images", "on disk", "ms an image", "img/s a core"]
    rows = [
        [
            str(each.path),
            f"{each.count:,}",
            readable(each.bytes),
            f"{each.milliseconds:.3g}",
            f"{each.images_per_second:,.0f}",
        ]
        for each in times
    ]
    return [head, *rows]
